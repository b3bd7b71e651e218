package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// PluginSocket is where Docker looks for the plugin of the name netd.
const PluginSocket = "/run/docker/plugins/netd.sock"

// biggestCall is how many bytes of a call are read. Docker's own have a few hundred.
const biggestCall = 1 << 20

// Attacher is what the plugin needs of the daemon.
type Attacher interface {
	Begin(ctx context.Context) error
	Pool(ctx context.Context, network string, pool netip.Prefix, v6 bool) (name string, err error)
	Promise(ctx context.Context, network string, in netip.Prefix, wanted netip.Addr) (netip.Addr, error)
	Unpromise(ctx context.Context, a netip.Addr) error
	Attach(ctx context.Context, r workload.Request) (store.Endpoint, error)
	Publish(ctx context.Context, id object.Place, ports []object.Port) error
	Leave(ctx context.Context, id object.Place) error
	Detach(ctx context.Context, ids ...object.Place) error
	Known(ctx context.Context) ([]store.Endpoint, error)
}

// Plugin is a network and IPAM driver of Docker (https://docs.docker.com/engine/extend/plugins_network/). It remembers nothing:
// a pool's id says what it is, and of an endpoint the attacher knows all that there is.
type Plugin struct{ Attacher Attacher }

// ServeHTTP answers one call: a POST of JSON to /METHOD. What fails is told in the answer, and docker prints it.
func (p Plugin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	code, out := p.answer(r)
	w.Header().Set("Content-Type", "application/vnd.docker.plugins.v1.1+json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(out)
}

func (p Plugin) answer(r *http.Request) (code int, out any) {
	fail := func(code int, err error) (int, any) { // Err is read of the network driver, Error of the other
		return code, map[string]string{"Err": err.Error(), "Error": err.Error()}
	}
	name := strings.TrimPrefix(r.URL.Path, "/")
	method, ok := p.methods()[name]
	switch {
	case !ok:
		return fail(http.StatusNotFound, fmt.Errorf("netd has no %q", name))
	case r.Method != http.MethodPost:
		return fail(http.StatusMethodNotAllowed, errors.New("a call is a POST"))
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, biggestCall+1))
	if err == nil && len(body) > biggestCall {
		err = fmt.Errorf("a call of more than %d bytes", biggestCall)
	}
	if err == nil {
		out, err = method(r.Context(), body)
	}
	if err != nil {
		return fail(http.StatusOK, err)
	}
	return http.StatusOK, out
}

type method func(ctx context.Context, body []byte) (any, error)

func (p Plugin) methods() map[string]method {
	return map[string]method{
		"Plugin.Activate":                           p.activate,
		"NetworkDriver.GetCapabilities":             fixed(map[string]any{"Scope": "local", "ConnectivityScope": "global"}),
		"NetworkDriver.CreateNetwork":               call(p.createNetwork),
		"NetworkDriver.DeleteNetwork":               fixed(struct{}{}),
		"NetworkDriver.CreateEndpoint":              call(p.createEndpoint),
		"NetworkDriver.EndpointOperInfo":            fixed(map[string]any{"Value": struct{}{}}),
		"NetworkDriver.DeleteEndpoint":              call(p.deleteEndpoint),
		"NetworkDriver.Join":                        call(p.join),
		"NetworkDriver.Leave":                       call(p.leave),
		"NetworkDriver.DiscoverNew":                 fixed(struct{}{}),
		"NetworkDriver.DiscoverDelete":              fixed(struct{}{}),
		"NetworkDriver.ProgramExternalConnectivity": call(p.publish),
		"NetworkDriver.RevokeExternalConnectivity":  call(p.unpublish),
		"IpamDriver.GetCapabilities":                fixed(map[string]any{"RequiresMACAddress": false, "RequiresRequestReplay": false}),
		"IpamDriver.GetDefaultAddressSpaces":        fixed(map[string]any{"LocalDefaultAddressSpace": addressSpace, "GlobalDefaultAddressSpace": addressSpace}),
		"IpamDriver.RequestPool":                    call(p.requestPool),
		"IpamDriver.ReleasePool":                    fixed(struct{}{}),
		"IpamDriver.RequestAddress":                 call(p.requestAddress),
		"IpamDriver.ReleaseAddress":                 call(p.releaseAddress),
	}
}

const addressSpace = "netd"

// errCut: Docker repeats a call whose answer did not come, and has lost what it was to say (20.10: the reader of its first
// try is at its end).
var errCut = errors.New("netd was restarted during this call, and Docker repeats it without its content: do it again")

func fixed(out any) method { return func(context.Context, []byte) (any, error) { return out, nil } }

func call[T any](f func(context.Context, T) (any, error)) method {
	return func(ctx context.Context, body []byte) (any, error) {
		var in T
		if len(body) == 0 {
			return nil, errCut
		}
		if err := json.Unmarshal(body, &in); err != nil {
			return nil, fmt.Errorf("reading the call: %w", err)
		}
		return f(ctx, in)
	}
}

// activate is what a dockerd asks first, and once: what another one began before it will not go on.
func (p Plugin) activate(ctx context.Context, _ []byte) (any, error) {
	if err := p.Attacher.Begin(ctx); err != nil {
		return nil, err
	}
	return map[string]any{"Implements": []string{"NetworkDriver", "IpamDriver"}}, nil
}

// Pools. A pool's id is the network's name and the prefix that addresses are taken from.

type poolRequest struct {
	Pool, SubPool string
	Options       map[string]string // --ipam-opt
	V6            bool
}

func (p Plugin) requestPool(ctx context.Context, in poolRequest) (any, error) {
	for name := range in.Options {
		if name != "network" {
			return nil, fmt.Errorf("--ipam-opt %s: netd knows network=NAME alone", name)
		}
	}
	if in.SubPool != "" {
		return nil, errors.New("--ip-range: give one of this node's blocks as --subnet instead")
	}
	everything, gateway := netip.PrefixFrom(netip.IPv4Unspecified(), 0), gatewayOf(in.V6)
	if in.V6 {
		everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	var pool netip.Prefix
	if in.Pool != "" {
		var err error
		pool, err = netip.ParsePrefix(in.Pool)
		switch {
		case err != nil:
			return nil, fmt.Errorf("--subnet %q is no subnet", in.Pool)
		case pool.Addr().Is6() != in.V6:
			return nil, fmt.Errorf("--subnet %s is not of the family that Docker asks for", pool)
		case pool != pool.Masked():
			return nil, fmt.Errorf("--subnet %s is an address in a subnet; the subnet is %s", pool, pool.Masked())
		}
	}
	network, err := p.Attacher.Pool(ctx, in.Options["network"], pool, in.V6)
	switch {
	case err == nil:
	case workload.KindOf(err) == workload.Full && in.V6:
		return nil, fmt.Errorf("--ipv6: %w, or leave --ipv6 out", err)
	case workload.KindOf(err) != workload.Invalid:
		return nil, err
	default:
		return nil, fmt.Errorf("%w (--subnet POOL or --ipam-opt network=NAME chooses a network; netd docker install --network NAME does all of this)", err)
	}
	if !pool.IsValid() {
		pool = everything // Docker asks on and on where a pool of the plugin's choice overlaps a route of the host
	}
	return map[string]any{"PoolID": network + "@" + pool.String(), "Pool": pool.String(),
		"Data": map[string]string{"com.docker.network.gateway": netip.PrefixFrom(gateway, gateway.BitLen()).String()}}, nil
}

// gatewayOf is every container's gateway of a family.
func gatewayOf(v6 bool) netip.Addr {
	if v6 {
		return object.Gateway6
	}
	return object.Gateway
}

type addressRequest struct {
	PoolID  string
	Address string
	Options map[string]string
}

func (p Plugin) requestAddress(ctx context.Context, in addressRequest) (any, error) {
	at := strings.LastIndexByte(in.PoolID, '@')
	pool, err := netip.ParsePrefix(in.PoolID[at+1:])
	if at < 0 || err != nil {
		return nil, fmt.Errorf("%q is no pool of netd's", in.PoolID)
	}
	var wanted netip.Addr
	if in.Address != "" {
		if wanted, err = netip.ParseAddr(in.Address); err != nil || wanted.Zone() != "" {
			return nil, fmt.Errorf("%q is no address", in.Address)
		}
		wanted = wanted.Unmap()
	}
	if in.Options["RequestAddressType"] == "com.docker.network.gateway" {
		if gateway := gatewayOf(pool.Addr().Is6()); wanted != gateway {
			return nil, fmt.Errorf("--gateway: the gateway is %s in every container; leave it out", gateway)
		}
	} else if wanted, err = p.Attacher.Promise(ctx, in.PoolID[:at], pool, wanted); err != nil {
		return nil, err
	}
	return map[string]any{"Address": netip.PrefixFrom(wanted, wanted.BitLen()).String()}, nil
}

func (p Plugin) releaseAddress(ctx context.Context, in addressRequest) (any, error) {
	if a, err := netip.ParseAddr(in.Address); err == nil && a.Zone() == "" { // an endpoint's address is free when that is deleted
		return struct{}{}, p.Attacher.Unpromise(ctx, a.Unmap())
	}
	return struct{}{}, nil
}

// Networks.

type networkRequest struct {
	NetworkID string
	Options   map[string]json.RawMessage
	IPv4Data  []ipamData
	IPv6Data  []ipamData
}

type ipamData struct {
	AddressSpace string
	Pool         string
	AuxAddresses map[string]json.RawMessage
}

// createNetwork refuses what netd would not do. There is nothing to make: a network is there when the file has it.
func (p Plugin) createNetwork(ctx context.Context, in networkRequest) (any, error) {
	var generic map[string]string
	if b, ok := in.Options["com.docker.network.generic"]; ok {
		if err := json.Unmarshal(b, &generic); err != nil {
			return nil, fmt.Errorf("reading the options: %w", err)
		}
	}
	for name := range generic {
		if name != "network" {
			return nil, fmt.Errorf("-o %s: netd knows network=NAME alone; the file says what a network is", name)
		}
	}
	is := func(option string) string { return string(in.Options["com.docker.network."+option]) }
	switch {
	case is("internal") == "true":
		return nil, errors.New("--internal: netd's networks are routed; leave it out, and keep containers in by nat_outgoing = false or a firewall")
	case is("enable_ipv4") == "false", len(in.IPv4Data) == 0:
		return nil, errors.New("a network without IPv4: netd gives Docker's containers an IPv4 address, and an IPv6 one besides with --ipv6 --subnet POOL6")
	}
	for _, d := range slices.Concat(in.IPv4Data, in.IPv6Data) {
		if d.AddressSpace != addressSpace {
			return nil, errors.New("netd gives the addresses itself: add --ipam-driver netd")
		}
		if len(d.AuxAddresses) > 0 {
			return nil, errors.New("--aux-address: name addresses that are not to be handed out as reserved in the file")
		}
	}
	return struct{}{}, p.oneNetwork(ctx, in, generic["network"])
}

// oneNetwork refuses pools of another network of the file than the one that is named, or than the first of them is of.
func (p Plugin) oneNetwork(ctx context.Context, in networkRequest, name string) error {
	by := "-o network=" + name
	for i, d := range slices.Concat(in.IPv4Data, in.IPv6Data) {
		pool, err := netip.ParsePrefix(d.Pool)
		if err != nil || pool.Bits() == 0 { // the pool of the file's only network, or of one that --ipam-opt named
			pool = netip.Prefix{}
		}
		if name == "" && !pool.IsValid() {
			continue
		}
		of, err := p.Attacher.Pool(ctx, "", pool, i >= len(in.IPv4Data))
		switch {
		case err != nil && !pool.IsValid() && workload.KindOf(err) == workload.Invalid:
			return fmt.Errorf("%s: %w; give its pool as --subnet", by, err)
		case err != nil:
			return err
		case name == "":
			name, by = of, fmt.Sprintf("--subnet %s, of network %q", pool, of)
		case of != name:
			return fmt.Errorf("%s: the addresses are those of network %q", by, of)
		}
	}
	return nil
}

// Endpoints.

type endpointRequest struct {
	NetworkID, EndpointID string
	SandboxKey            string
	Interface             *struct{ Address, AddressIPv6, MacAddress string }
	Options               map[string]json.RawMessage
}

// id is the endpoint that a call is about. It becomes part of keys and names.
func (in endpointRequest) id() (object.Place, error) {
	if err := workload.CheckID("endpoint id", in.EndpointID); err != nil {
		return "", err
	}
	return object.Place("docker/" + in.EndpointID), nil
}

func (p Plugin) createEndpoint(ctx context.Context, in endpointRequest) (any, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	if err := workload.CheckID("network id", in.NetworkID); err != nil {
		return nil, err
	}
	ports, err := in.ports() // they come again, with publish: this is before anything is made
	if err != nil {
		return nil, err
	}
	if in.Interface == nil || in.Interface.Address == "" {
		return nil, errors.New("the endpoint has no address: was its network made with --ipam-driver netd?")
	}
	r := workload.Request{ID: id, Owner: "docker", Container: in.EndpointID, Group: in.NetworkID, Interface: "eth0", Handed: true, Ports: ports}
	for _, text := range []string{in.Interface.Address, in.Interface.AddressIPv6} {
		if text == "" {
			continue
		}
		a, err := netip.ParsePrefix(text)
		if err != nil || !a.IsSingleIP() {
			return nil, fmt.Errorf("the address %q is none that netd gave", text)
		}
		r.Addrs = append(r.Addrs, a.Addr())
	}
	own := map[string]string{}
	if text := in.Interface.MacAddress; text != "" {
		if r.MAC, err = workload.ParseMAC(text); err != nil {
			return nil, fmt.Errorf("--mac-address: %w", err)
		}
	}
	e, err := p.Attacher.Attach(ctx, r)
	if err != nil {
		return nil, err
	}
	if in.Interface.MacAddress == "" { // Docker takes back only what it did not say itself
		own["MacAddress"] = e.MAC
	}
	return map[string]any{"Interface": own}, nil
}

func (p Plugin) known(ctx context.Context, id object.Place) (store.Endpoint, error) {
	es, err := p.Attacher.Known(ctx)
	if err != nil {
		return store.Endpoint{}, err
	}
	for _, e := range es {
		if e.ID == id {
			return e, nil
		}
	}
	return store.Endpoint{}, fmt.Errorf("netd knows no endpoint %s; if it was restarted just now, do it again", id)
}

// join has the container's end ready for Docker to take, and says what it is to put on it. The second network of netd's in a
// container gets no gateway: there is one place for a default route, and netd puts the routes to the network's pools.
func (p Plugin) join(ctx context.Context, in endpointRequest) (any, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(in.SandboxKey) || len(in.SandboxKey) > 4096 || strings.ContainsRune(in.SandboxKey, 0) {
		return nil, fmt.Errorf("the sandbox %q is no path", in.SandboxKey)
	}
	e, err := p.known(ctx, id)
	if err != nil {
		return nil, err
	}
	mac, err := object.ParseMAC(e.MAC)
	if err != nil {
		return nil, err
	}
	e, err = p.Attacher.Attach(ctx, workload.Request{ID: id, Owner: e.Owner, Container: e.Container, Group: e.Group, Network: e.Network, Addrs: e.Addrs(),
		MAC: mac, Interface: e.Interface, Handed: true, Netns: filepath.Clean(in.SandboxKey)})
	if err != nil {
		return nil, err
	}
	out := map[string]any{"InterfaceName": map[string]string{"SrcName": object.PeerName(string(id)), "DstPrefix": "eth"}}
	if e.Beside {
		out["DisableGatewayService"] = true
	} else {
		out["Gateway"] = object.Gateway.String()
		out["StaticRoutes"] = []any{map[string]any{"Destination": netip.PrefixFrom(object.Gateway, 32).String(), "RouteType": connected}}
	}
	return out, nil
}

const connected = 1 // a route on the link itself: types.CONNECTED of libnetwork

func (p Plugin) leave(ctx context.Context, in endpointRequest) (any, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.Attacher.Leave(ctx, id)
}

func (p Plugin) deleteEndpoint(ctx context.Context, in endpointRequest) (any, error) {
	id, err := in.id()
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.Attacher.Detach(ctx, id)
}
