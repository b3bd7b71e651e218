package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/doctor"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/probe"
	"netd/reconcile/speaker"
)

// doctorView is what `doctor --json` prints.
type doctorView struct {
	SchemaVersion int         `json:"schema_version"`
	Node          string      `json:"node"`
	Verdict       string      `json:"verdict"` // "ok", "DEGRADED"
	Checks        []checkView `json:"checks"`
}

type checkView struct {
	Name string `json:"name"`
	doctor.Finding
	Fixed string `json:"fixed,omitempty"` // by --fix: "done", or what went wrong
}

func (a *app) doctorCmd() *cobra.Command {
	var fix, asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Host faults that break networks like this one, each with its fix",
		Long: `Look at this host for what breaks networks like this one: missing modules, taken ports, others' routes and firewalls, who
else manages links, and on the wire duplicate addresses, small paths, clocks. Each is ok, warn or FAIL, with what was seen and
the command that mends it. Nothing is changed but with --fix, which runs those that touch nothing of anybody else's and looks
again. Needs root, and no daemon.

Exits 0; 3 where something is FAIL.`,
		Example: "  netd doctor\n  netd doctor --fix\n  netd doctor --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			site, err := a.site(ctx)
			if err != nil {
				return err
			}
			look := func() doctorView {
				defer a.waiting("the wire's answers")()
				return examine(ctx, site)
			}
			v := look()
			if fix {
				if v.mend(ctx, site, a) {
					again := look()
					for i := range again.Checks {
						for _, was := range v.Checks {
							if was.Name == again.Checks[i].Name && was.Fixed != "" {
								again.Checks[i].Fixed = was.Fixed
							}
						}
					}
					v = again
				}
			}
			if asJSON {
				err = printJSON(a.out, v)
			} else {
				v.write(a.page(a.out))
			}
			if err == nil && v.Verdict != "ok" {
				return &exit{code: exitDegraded}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&fix, "fix", false, "run the fixes that touch nothing of anybody else's")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// site is this host, as a node of the file.
func (a *app) site(ctx context.Context) (*doctor.Site, error) {
	if os.Geteuid() != 0 {
		return nil, fail(exitNoPerm, "doctor looks at sockets, rules and the wire")
	}
	_, c, err := a.load(a.config)
	if err != nil {
		return nil, err
	}
	local := config.Local{}
	local.Hostname, _ = os.Hostname()
	holders, held := map[netip.Addr]string{}, map[netip.Addr]netip.Prefix{}
	links, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, l := range links {
		addrs, err := l.Addrs()
		if err != nil {
			return nil, err
		}
		for _, x := range addrs {
			if n, ok := x.(*net.IPNet); ok {
				addr, _ := netip.AddrFromSlice(n.IP)
				bits, _ := n.Mask.Size()
				holders[addr.Unmap()] = l.Name
				held[addr.Unmap()] = netip.PrefixFrom(addr.Unmap(), bits)
				if !object.IsVXLANName(l.Name) {
					local.Addrs = append(local.Addrs, held[addr.Unmap()])
				}
			}
		}
	}
	node, _, err := c.Identify(a.node, local)
	before, applied := a.before(ctx)
	if err != nil && a.node == "" { // its address may be lost, which is what a check says
		if n, ok := c.Node(before); ok {
			node, err = n, nil
		}
	}
	if err != nil {
		return nil, &exit{exitConfig, err}
	}
	s := &doctor.Site{Host: thisHost{}, Wire: thisWire{}, Config: c, Node: node, Applied: applied, Link: node.Interface, Held: held, Holder: holders}
	for _, p := range []netip.Prefix{node.Address, node.Address6} {
		if s.Link == "" && p.IsValid() {
			s.Link = holders[p.Addr()]
		}
	}
	for _, l := range links {
		switch {
		case l.Name != s.Link:
		case l.Flags&net.FlagUp == 0:
			s.Dead = "is down"
		case l.Flags&net.FlagRunning == 0:
			s.Dead = "has no carrier"
		}
	}
	return s, nil
}

func examine(ctx context.Context, s *doctor.Site) doctorView {
	v := doctorView{SchemaVersion: 1, Node: s.Node.Name, Verdict: "ok", Checks: []checkView{}}
	for _, check := range doctor.Checks {
		for _, f := range check.Run(ctx, s) {
			v.Checks = append(v.Checks, checkView{Name: check.Name, Finding: f})
			if f.Level == doctor.Fail {
				v.Verdict = "DEGRADED"
			}
		}
	}
	return v
}

// mend runs the safe fixes and reports whether there were any.
func (v *doctorView) mend(ctx context.Context, s *doctor.Site, a *app) (any bool) {
	for i, c := range v.Checks {
		if c.Level == doctor.OK || !c.Safe || c.Fix == "" {
			continue
		}
		any = true
		fmt.Fprintf(a.page(a.talk), "netd: %s: %s\n", c.Name, strings.ReplaceAll(c.Fix, "\n", "\n  "))
		v.Checks[i].Fixed = "done"
		if _, err := s.Run(ctx, "sh", "-ec", c.Fix); err != nil {
			v.Checks[i].Fixed = err.Error()
			fmt.Fprintf(a.page(a.talk), "netd: %s: %v\n", c.Name, err)
		}
	}
	return any
}

func (v doctorView) write(w page) {
	for _, c := range v.Checks {
		line := fmt.Sprintf("%-4s  %-17s  %s", c.Level, c.Name, c.Evidence)
		if w.color {
			line = map[doctor.Level]string{doctor.OK: green, doctor.Warn: yellow, doctor.Fail: red}[c.Level] + line + plain
		}
		fmt.Fprintln(w, line)
		if c.Level != doctor.OK && c.Fix != "" {
			for fix := range strings.Lines(c.Fix) {
				fmt.Fprintf(w, "      %s\n", strings.TrimRight(fix, "\n"))
			}
			if c.Safe {
				fmt.Fprintln(w, "      (netd doctor --fix does it)")
			}
		}
	}
}

// thisHost implements doctor.Host.
type thisHost struct{}

func (thisHost) ReadFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}

func (thisHost) Glob(pattern string) []string {
	names, _ := filepath.Glob(pattern)
	return names
}

func (thisHost) Readlink(name string) string {
	to, _ := os.Readlink(name)
	return to
}

func (thisHost) Password(file string) error {
	_, err := speaker.ReadPassword(file)
	return err
}

func (thisHost) Place(file string) (at doctor.Place) {
	file, err := filepath.Abs(file)
	if err != nil {
		return at
	}
	at.Link, _ = os.Readlink(file)
	at.Loose = loose(file)
	if info, err := os.Stat(file); err == nil {
		at.Regular = info.Mode().IsRegular()
		at.Sound = at.Regular && rootsAlone(info, 0o077)
	}
	return at
}

// rootsAlone reports whether a file is root's and has none of these bits.
func rootsAlone(info os.FileInfo, bits os.FileMode) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0 && info.Mode().Perm()&bits == 0
}

// loose is the first folder on the way to a file, through links too, that others than root may write to; empty where none is.
func loose(file string) string {
	rest := strings.Split(file, "/")
	for at, links := "/", 0; len(rest) > 0; rest = rest[1:] {
		if info, err := os.Stat(at); err != nil || !rootsAlone(info, 0o022) {
			return at
		}
		next := filepath.Join(at, rest[0])
		info, err := os.Lstat(next)
		if err != nil { // root makes the rest
			return ""
		}
		if info.Mode()&os.ModeSymlink == 0 {
			at = next
			if len(rest) > 1 && !info.IsDir() {
				return ""
			}
			continue
		}
		to, err := os.Readlink(next)
		if links++; err != nil || links > 40 {
			return next
		}
		if filepath.IsAbs(to) {
			at = "/"
		}
		rest = append([]string{""}, append(strings.Split(to, "/"), rest[1:]...)...)
	}
	return ""
}

func (thisHost) Run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", fmt.Errorf("%s is not installed", args[0])
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(said.Bytes()))
	}
	return string(out), nil
}

func (thisHost) ForeignRoutes(within []netip.Prefix) ([]object.Held, error) {
	return kernel.ForeignRoutes(within)
}

// thisWire implements doctor.Wire.
type thisWire struct{}

// patience is for how long the wire is listened to.
const patience = 500 * time.Millisecond

func (thisWire) Claims(ctx context.Context, link string, addrs []netip.Addr) (map[netip.Addr][]object.MAC, error) {
	claims, err := probe.Claims(ctx, link, addrs, patience)
	out := map[netip.Addr][]object.MAC{}
	for a, macs := range claims {
		for _, m := range macs {
			out[a] = append(out[a], object.MAC(m))
		}
	}
	return out, err
}

func (thisWire) Clocks(ctx context.Context, addrs []netip.Addr) (map[netip.Addr]time.Duration, error) {
	return probe.Clocks(ctx, addrs, patience)
}

// Paths are as `netd test` finds them.
func (thisWire) Paths(ctx context.Context, ways []doctor.Way) ([]doctor.Path, error) {
	list := make([]targetView, len(ways))
	for i, w := range ways {
		list[i].Address, list[i].from = w.To, w.From
	}
	err := measure(ctx, list)
	out := make([]doctor.Path, len(ways))
	for i, t := range list {
		out[i] = doctor.Path{MTU: t.PathMTU, Link: t.Link, LinkMTU: t.LinkMTU}
	}
	return out, err
}

func (thisWire) Connects(ctx context.Context, to netip.Addr) bool {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second) // two SYNs
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, 9).String()) // discard (RFC 863): hardly anybody listens, and a refusal is an answer
	if err == nil {
		_ = c.Close()
	}
	return err == nil || errors.Is(err, unix.ECONNREFUSED)
}
