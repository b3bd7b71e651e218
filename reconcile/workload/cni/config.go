package cni

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"

	"netd/reconcile/object"
	"netd/reconcile/workload"
)

// Versions of the specification that Run speaks, the newest last.
var Versions = []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// logLevels are those of netd's --log-level.
var logLevels = []string{"debug", "info", "warn", "error"}

// MaxInput is how many bytes of standard input are read. What is longer is refused.
const MaxInput = 1 << 20

// Config is netd's configuration as a plugin. All of netd's own keys may be left out.
type Config struct {
	types.PluginConf
	Network  string `json:"network"`   // of netd's file; needed where it has several
	File     string `json:"config"`    // netd's file, where nothing was applied yet
	Node     string `json:"node"`      // which node of it this host is
	StateDir string `json:"state_dir"` // as netd's flag
	RunDir   string `json:"run_dir"`
	MTU      int    `json:"mtu"`       // smaller than the network's
	LogLevel string `json:"log_level"` // checked, and of no effect: the plugin writes no log, its answer says all; the daemon has its own

	RuntimeConfig struct {
		IPs []string `json:"ips"`
		MAC string   `json:"mac"`
	} `json:"runtimeConfig"`
	Args struct {
		CNI struct {
			IPs []string `json:"ips"`
		} `json:"cni"`
	} `json:"args"`
}

func refuse(code uint, format string, args ...any) *types.Error {
	return types.NewError(code, fmt.Sprintf(format, args...), "")
}

// ParseConfig reads what a runtime gives on standard input.
func ParseConfig(stdin []byte) (Config, error) {
	var c Config
	if len(stdin) > MaxInput {
		return c, refuse(types.ErrDecodingFailure, "the configuration has more than %d bytes", MaxInput)
	}
	if err := json.Unmarshal(stdin, &c); err != nil {
		return c, refuse(types.ErrDecodingFailure, "reading the configuration: %v", err)
	}
	if c.CNIVersion == "" {
		c.CNIVersion = "0.1.0" // what the specification says of a configuration without one
	}
	return c, nil
}

// atLeast reports whether the configuration is of that version or a newer one that is spoken.
func (c Config) atLeast(version string) bool {
	return slices.Index(Versions, c.CNIVersion) >= slices.Index(Versions, version)
}

// request is what is wanted besides the container itself: from the runtime's capabilities, then from CNI_ARGS, then from
// the configuration's args. What a runtime gives in two places has to agree.
type request struct {
	addrs []netip.Addr
	mac   object.MAC
	name  string
}

func (c Config) request(args string) (request, error) {
	var r request
	if c.LogLevel != "" && !slices.Contains(logLevels, c.LogLevel) {
		return r, refuse(types.ErrInvalidNetworkConfig, "log_level %q is none of %s", c.LogLevel, strings.Join(logLevels, ", "))
	}
	for _, list := range [][]string{c.RuntimeConfig.IPs, c.Args.CNI.IPs} {
		for _, text := range list {
			if err := r.addr(text); err != nil {
				return r, refuse(types.ErrInvalidNetworkConfig, "ips: %v", err)
			}
		}
	}
	mac := func(text string, code uint, where string) error {
		m, err := workload.ParseMAC(text)
		if err != nil || (r.mac != object.MAC{} && r.mac != m) {
			return refuse(code, "%s: %q is no MAC address, or another than is asked for elsewhere", where, text)
		}
		r.mac = m
		return nil
	}
	if c.RuntimeConfig.MAC != "" {
		if err := mac(c.RuntimeConfig.MAC, types.ErrInvalidNetworkConfig, "mac"); err != nil {
			return r, err
		}
	}
	pairs, ignore, err := splitArgs(args)
	if err != nil {
		return r, err
	}
	for _, p := range pairs {
		switch key, value := p[0], p[1]; {
		case key == "IgnoreUnknown":
		case key == "IP":
			for text := range strings.SplitSeq(value, ",") {
				if err := r.addr(text); err != nil {
					return r, refuse(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: IP=%s: %v", value, err)
				}
			}
		case key == "MAC":
			if err := mac(value, types.ErrInvalidEnvironmentVariables, "CNI_ARGS: MAC="); err != nil {
				return r, err
			}
		case key == "K8S_POD_NAME" || key == "NOMAD_JOB_ID" || key == "NERDCTL_CNI_DHCP_HOSTNAME":
			r.name = printable(value)
		case key == "NOMAD_GROUP_NAME" || ignore || strings.HasPrefix(key, "K8S_") || strings.HasPrefix(key, "NOMAD_"):
		default:
			return r, refuse(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: netd knows no %s (IgnoreUnknown=1 lets it pass)", key)
		}
	}
	return r, nil
}

// addr adds an address, which may be given with a prefix length.
func (r *request) addr(text string) error {
	text, _, _ = strings.Cut(strings.TrimSpace(text), "/")
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return fmt.Errorf("%q is no address", text)
	}
	if a = a.Unmap(); !slices.Contains(r.addrs, a) {
		r.addrs = append(r.addrs, a)
	}
	return nil
}

// splitArgs splits CNI_ARGS: "FOO=BAR;ABC=123".
func splitArgs(args string) (pairs [][2]string, ignore bool, err error) {
	for part := range strings.SplitSeq(args, ";") {
		if part == "" {
			continue
		}
		key, value, ok := strings.Cut(part, "=")
		if !ok || key == "" {
			return nil, false, refuse(types.ErrInvalidEnvironmentVariables, "CNI_ARGS: %q is no KEY=VALUE", part)
		}
		if key == "IgnoreUnknown" {
			ignore = ignore || value == "1" || strings.EqualFold(value, "true")
		}
		pairs = append(pairs, [2]string{key, value})
	}
	return pairs, ignore, nil
}

// printable is a name for people that a terminal survives, of at most 128 bytes.
func printable(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, s)
	for len(s) > 128 {
		s = strings.ToValidUTF8(s[:128], "")
	}
	return s
}
