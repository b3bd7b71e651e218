package desired

import (
	"fmt"
	"net/netip"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// A container's wire. In the container:
//
//	eth0            A/32
//	169.254.1.1     dev eth0 scope link
//	default         via 169.254.1.1 dev eth0
//
// On the host, at the other end, which has 169.254.1.1 so that it answers for it whatever routes the host has:
//
//	netd1f0c…       169.254.1.1/32 scope link, MAC ee:ee:ee:ee:ee:ee
//	A               dev netd1f0c… scope link src S
//	A               lladdr <the container's MAC> permanent
//
// S is an address that other nodes can answer: the tunnel's, in mode bgp the node's. Without it the host would speak to
// its own containers as 169.254.1.1.
func (b *builder) workloads() error {
	for _, e := range b.facts.Endpoints {
		n, ok := b.network(e.Network)
		if !ok {
			return fmt.Errorf("workload %s: the file has no network %q", e.ID, e.Network)
		}
		b.workload(e, n)
	}
	return nil
}

func (b *builder) network(name string) (config.Network, bool) {
	for _, n := range b.c.Networks {
		if n.Name == name {
			return n, true
		}
	}
	return config.Network{}, false
}

func (b *builder) workload(e object.Endpoint, n config.Network) {
	why := b.workloadCause(e)
	veth := object.VethName(string(e.ID))
	host32 := netip.PrefixFrom(e.IPv4, e.IPv4.BitLen())
	gateway := netip.PrefixFrom(object.Gateway, 32)

	b.put(object.Veth{
		Name: veth, MAC: object.HostEndMAC, MTU: b.mtu(n), Up: true, Alias: "netd: " + string(e.ID),
		Workload: e.ID, Peer: e.Interface, PeerMAC: e.MAC, PeerMTU: b.mtu(n), PeerUp: true,
	}, why)
	b.put(object.Addr{Link: veth, Prefix: gateway, Scope: object.ScopeLink}, why)
	for _, s := range [][3]string{
		{"conf", "proxy_arp", "1"},
		{"neigh", "proxy_delay", "0"}, // else the first answer takes up to 800 ms
		{"conf", "forwarding", "1"},
		{"conf", "rp_filter", "1"},
	} {
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", s[0], veth, s[1]), Value: s[2]}, why)
	}
	b.noIPv6(veth, why)
	b.put(object.Neigh{Link: veth, IP: e.IPv4, MAC: e.MAC}, why)

	src, stands := b.self.Address.Addr(), []reconcile.Key(nil)
	if n.Mode != config.ModeBGP {
		if tunnel, ok := b.c.Tunnel(b.self, n.Name, false); ok {
			src = tunnel
			stands = []reconcile.Key{object.Addr{Link: b.tunnelName(n), Prefix: netip.PrefixFrom(tunnel, 32)}.Key()}
		}
	}
	b.put(object.Route{Dst: host32, Table: object.MainTable, Type: object.Unicast, Dev: veth, Src: src, Scope: object.ScopeLink}, why, stands...)

	b.put(object.Addr{In: e.ID, Link: e.Interface, Prefix: host32, Scope: object.ScopeGlobal}, why)
	b.put(object.Route{In: e.ID, Dst: gateway, Table: object.MainTable, Type: object.Unicast, Dev: e.Interface, Scope: object.ScopeLink}, why)
	b.put(object.Route{In: e.ID, Dst: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Table: object.MainTable, Type: object.Unicast,
		Via: object.Gateway, Dev: e.Interface}, why)
}

func (b *builder) tunnelName(n config.Network) string {
	if n.Mode == config.ModeIPIP {
		return tunl0
	}
	return object.VXLANName(n.VNI)
}

// workloadCause is the line of the file that declares a workload, or the runtime that brought it.
func (b *builder) workloadCause(e object.Endpoint) reconcile.Cause {
	for _, w := range b.c.Workloads {
		if WorkloadID(w) == e.ID {
			return cause("workload "+w.Name, w.Pos)
		}
	}
	return reconcile.Cause{Text: "workload " + string(e.ID)}
}

// WorkloadID is the identity of a workload declared in the file.
func WorkloadID(w config.Workload) object.Place { return object.Place("file/" + w.Name) }

// EndpointOf is the endpoint of a workload declared in the file, with its computed MAC where the file gives none.
func EndpointOf(w config.Workload) object.Endpoint {
	e := object.Endpoint{ID: WorkloadID(w), Netns: w.Netns, Interface: w.Interface, MAC: w.MAC, Network: w.Network}
	for _, a := range w.Addresses {
		if a.Is4() {
			e.IPv4 = a
		} else {
			e.IPv6 = a
		}
	}
	if e.MAC == (object.MAC{}) {
		e.MAC = object.WorkloadMAC(string(e.ID))
	}
	return e
}
