package cni

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// Call is one call of the plugin: what the runtime says in the environment and on standard input.
type Call struct {
	Command     string `json:"command"`      // CNI_COMMAND
	ContainerID string `json:"container_id"` // CNI_CONTAINERID
	Netns       string `json:"netns"`        // CNI_NETNS
	IfName      string `json:"ifname"`       // CNI_IFNAME
	Args        string `json:"args"`         // CNI_ARGS
	Stdin       []byte `json:"stdin"`

	Open string `json:"-"` // path by which this process can open the namespace; empty: Netns
}

// Answer is what the runtime gets.
type Answer struct {
	Stdout []byte `json:"stdout"`
	Code   int    `json:"code"` // exit code
}

// Attacher is what Run needs of the core.
type Attacher interface {
	Attach(ctx context.Context, r workload.Request) (store.Endpoint, error)
	Detach(ctx context.Context, ids ...object.Place) error
	Check(ctx context.Context, id object.Place, open string) (store.Endpoint, error)
	Known(ctx context.Context) ([]store.Endpoint, error)
	Ready(ctx context.Context, network string) error // nil where a container could be attached now
}

// Run carries out one call.
func Run(ctx context.Context, a Attacher, c Call) Answer {
	if c.Open == "" {
		c.Open = c.Netns
	}
	out, version, err := run(ctx, a, c)
	if err == nil {
		return Answer{Stdout: out}
	}
	if !slices.Contains(Versions, version) {
		version = Versions[len(Versions)-1]
	}
	e := errorOf(err)
	out, _ = json.MarshalIndent(struct {
		CNIVersion string `json:"cniVersion"`
		types.Error
	}{version, *e}, "", "    ")
	return Answer{Stdout: append(out, '\n'), Code: 1}
}

func run(ctx context.Context, a Attacher, c Call) (out []byte, version string, err error) {
	if c.Command == "VERSION" {
		return versions(c.Stdin)
	}
	conf, err := ParseConfig(c.Stdin)
	if err != nil {
		return nil, "", err
	}
	since := map[string]string{"ADD": "0.3.1", "DEL": "0.3.1", "CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
	least, known := since[c.Command]
	switch {
	case !known:
		return nil, conf.CNIVersion, refuse(types.ErrInvalidEnvironmentVariables, "CNI_COMMAND %q is none of ADD, DEL, CHECK, GC, STATUS, VERSION", c.Command)
	case !slices.Contains(Versions, conf.CNIVersion):
		return nil, conf.CNIVersion, refuse(types.ErrIncompatibleCNIVersion, "cniVersion %q of the configuration; netd speaks %s", conf.CNIVersion, strings.Join(Versions, ", "))
	case !conf.atLeast(least):
		return nil, conf.CNIVersion, refuse(types.ErrIncompatibleCNIVersion, "%s needs a configuration of cniVersion %s or newer; this one is %s", c.Command, least, conf.CNIVersion)
	case conf.Name == "":
		return nil, conf.CNIVersion, refuse(types.ErrInvalidNetworkConfig, "the configuration has no name")
	}
	switch c.Command {
	case "ADD":
		out, err = add(ctx, a, c, conf)
	case "DEL":
		err = del(ctx, a, c)
	case "CHECK":
		err = check(ctx, a, c, conf)
	case "GC":
		err = collect(ctx, a, conf)
	case "STATUS":
		if err = a.Ready(ctx, conf.Network); err != nil {
			err = types.NewError(types.ErrPluginNotAvailable, err.Error(), "")
		}
	}
	return out, conf.CNIVersion, err
}

func versions(stdin []byte) ([]byte, string, error) {
	var asked struct {
		CNIVersion string `json:"cniVersion"`
	}
	newest := Versions[len(Versions)-1]
	if len(bytes.TrimSpace(stdin)) > 0 {
		if err := json.Unmarshal(stdin, &asked); err != nil {
			return nil, newest, refuse(types.ErrDecodingFailure, "reading the configuration: %v", err)
		}
	}
	if !slices.Contains(Versions, asked.CNIVersion) {
		asked.CNIVersion = newest
	}
	out, err := json.Marshal(struct {
		CNIVersion string   `json:"cniVersion"`
		Supported  []string `json:"supportedVersions"`
	}{asked.CNIVersion, Versions})
	return append(out, '\n'), newest, err
}

// id is the endpoint that a call is about, after its variables were looked at: they become parts of keys and names.
func (c Call) id(needNetns bool) (object.Place, error) {
	for _, v := range []struct {
		name, value string
		need        bool
	}{{"CNI_CONTAINERID", c.ContainerID, true}, {"CNI_IFNAME", c.IfName, true}, {"CNI_NETNS", c.Netns, needNetns}} {
		if v.need && v.value == "" {
			return "", refuse(types.ErrInvalidEnvironmentVariables, "%s is missing", v.name)
		}
		if strings.ContainsRune(v.value, 0) || len(v.value) > 4096 {
			return "", refuse(types.ErrInvalidEnvironmentVariables, "%s has a NUL or more than 4096 bytes", v.name)
		}
	}
	if err := workload.CheckID("CNI_CONTAINERID", c.ContainerID); err != nil {
		return "", refuse(types.ErrInvalidEnvironmentVariables, "%v", err)
	}
	if err := workload.CheckInterface(c.IfName); err != nil {
		return "", refuse(types.ErrInvalidEnvironmentVariables, "CNI_IFNAME: %v", err)
	}
	return workload.CNI(c.ContainerID, c.IfName), nil
}

func add(ctx context.Context, a Attacher, c Call, conf Config) ([]byte, error) {
	id, err := c.id(true)
	if err != nil {
		return nil, err
	}
	if conf.RawPrevResult != nil {
		return nil, refuse(types.ErrInvalidNetworkConfig, "netd makes the interface: it has to be the first plugin of its list")
	}
	want, err := conf.request(c.Args)
	if err != nil {
		return nil, err
	}
	e, err := a.Attach(ctx, workload.Request{
		ID: id, Owner: "cni", Container: c.ContainerID, Name: want.name, Group: conf.Name, Open: c.Open, Netns: c.Netns, Interface: c.IfName,
		Network: conf.Network, Addrs: want.addrs, MAC: want.mac, MTU: conf.MTU,
	})
	if err != nil {
		return nil, err
	}
	out, err := json.Marshal(answerOf(e, c.Netns, conf))
	return append(out, '\n'), err
}

// del takes a container away. It has to succeed for one that never was, twice, and without its namespace.
func del(ctx context.Context, a Attacher, c Call) error {
	id, err := c.id(false)
	if err != nil {
		return err
	}
	return a.Detach(ctx, id)
}

func check(ctx context.Context, a Attacher, c Call, conf Config) error {
	id, err := c.id(true)
	if err != nil {
		return err
	}
	if conf.RawPrevResult == nil {
		return refuse(types.ErrInvalidNetworkConfig, "CHECK needs the prevResult of the ADD")
	}
	b, err := json.Marshal(conf.RawPrevResult)
	if err != nil {
		return err
	}
	prev, err := create.Create(conf.CNIVersion, b)
	if err != nil {
		return refuse(types.ErrDecodingFailure, "reading prevResult: %v", err)
	}
	said, err := types100.GetResult(prev)
	if err != nil {
		return refuse(types.ErrDecodingFailure, "reading prevResult: %v", err)
	}
	e, err := a.Check(ctx, id, c.Open)
	if err != nil {
		return err
	}
	for _, addr := range e.Addrs() {
		if !slices.ContainsFunc(said.IPs, func(ip *types100.IPConfig) bool {
			x, _ := netip.AddrFromSlice(ip.Address.IP)
			return x.Unmap() == addr
		}) {
			return refuse(types.ErrUnknown, "the container has %s, of which prevResult knows nothing", addr)
		}
	}
	return nil
}

// collect detaches what the runtime does not know any more, of the network of that name alone.
func collect(ctx context.Context, a Attacher, conf Config) error {
	valid := map[object.Place]bool{}
	for _, v := range conf.ValidAttachments {
		valid[workload.CNI(v.ContainerID, v.IfName)] = true
	}
	known, err := a.Known(ctx)
	if err != nil {
		return err
	}
	var over []object.Place
	for _, e := range known {
		if e.Owner == "cni" && e.Group == conf.Name && !valid[e.ID] {
			over = append(over, e.ID)
		}
	}
	return a.Detach(ctx, over...)
}

// errorOf is an error in the specification's words.
func errorOf(err error) *types.Error {
	var e *types.Error
	if errors.As(err, &e) {
		return e
	}
	code := types.ErrInternal
	switch workload.KindOf(err) {
	case workload.Invalid:
		code = types.ErrInvalidNetworkConfig
	case workload.Namespace:
		code = types.ErrInvalidNetNS
	case workload.Unknown:
		code = types.ErrUnknownContainer
	case workload.Storage:
		code = types.ErrIOFailure
	case workload.Full, workload.Later:
		code = types.ErrTryAgainLater
	}
	return types.NewError(code, err.Error(), "")
}
