package desired

import (
	"cmp"
	"fmt"
	"net/netip"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
)

// A container's wire. In the container, of the families that it has an address of:
//
//	eth0            A/32                                 A6/128
//	169.254.1.1     dev eth0 scope link
//	default         via 169.254.1.1 dev eth0             via fe80::ecee:eeff:feee:eeee dev eth0
//
// On the host, at the other end, which has the gateway's address so that it answers for it whatever routes the host has:
//
//	netd1f0c…       169.254.1.1/32 scope link            fe80::ecee:eeff:feee:eeee/64, MAC ee:ee:ee:ee:ee:ee
//	A               dev netd1f0c… scope link src S       A6 dev netd1f0c… src S6
//	A               lladdr <the container's MAC> permanent, A6 likewise
//
// S is an address that other nodes can answer: the tunnel's, in mode bgp the node's. Without it the host would speak to
// its own containers as 169.254.1.1.
func (b *builder) workloads() error {
	for _, e := range b.facts.Endpoints {
		b.stranded(e)
		n, ok := b.home(e)
		if !ok {
			how := ""
			if e.Handed {
				how = fmt.Sprintf(" (docker network disconnect %s %s)", e.Network, cmp.Or(e.Name, "CONTAINER"))
			}
			return fmt.Errorf("workload %s: the file has no network %q and no pool with its address; detach it%s or put the network back", e.Who(), e.Network, how)
		}
		b.workload(e, n)
	}
	return nil
}

func (b *builder) networkNamed(name string) (config.Network, bool) {
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
	mtu := b.mtu(n)
	for _, a := range e.Addrs() {
		mtu = min(mtu, b.mtu(b.networkOf(a, n)))
	}
	if e.MTU != 0 {
		mtu = min(mtu, e.MTU)
	}
	b.put(object.Veth{
		Name: veth, MAC: object.HostEndMAC, MTU: mtu, Up: true, Alias: "netd: " + string(e.ID),
		Workload: e.ID, Peer: e.Interface, PeerMAC: e.MAC, PeerMTU: mtu, PeerUp: true,
	}, why)
	b.ipv6Link(veth, mtu, e.IPv6.IsValid(), why)
	if e.IPv4.IsValid() {
		b.put(object.Addr{Link: veth, Prefix: host(object.Gateway), Scope: object.ScopeLink}, why)
		for _, s := range [][3]string{
			{"conf", "proxy_arp", "1"},
			{"neigh", "proxy_delay", "0"}, // else the first answer takes up to 800 ms
			{"conf", "forwarding", "1"},
			{"conf", "rp_filter", "1"},
		} {
			b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", s[0], veth, s[1]), Value: s[2]}, why)
		}
		if e.Handed { // its ports may be published; what answers this host's loopback then, see publish, and nothing once they are not
			local := "0"
			if len(e.Ports) > 0 {
				local = "1"
			}
			b.put(object.Sysctl{Name: object.LinkSysctl("ipv4", "conf", veth, "route_localnet"), Value: local}, why)
		}
		if e.Netns != "" && !e.Beside {
			b.put(object.Route{In: e.ID, Dst: host(object.Gateway), Table: object.MainTable, Type: object.Unicast, Dev: e.Interface, Scope: object.ScopeLink}, why)
		}
	}
	if e.IPv6.IsValid() {
		b.put(object.Addr{Link: veth, Prefix: netip.PrefixFrom(object.Gateway6, 64), Scope: object.ScopeLink}, why)
		b.put(object.Sysctl{Name: object.LinkSysctl("ipv6", "conf", veth, "proxy_ndp"), Value: "1"}, why)
		if e.Netns != "" {
			b.put(object.Sysctl{In: e.ID, Name: object.LinkSysctl("ipv6", "conf", e.Interface, "disable_ipv6"), Value: "0"}, why) // Docker's default is 1
		}
	}
	for _, a := range e.Addrs() {
		b.reach(e, a, b.networkOf(a, n), why)
	}
}

// secondMetric is that of a default route that netd puts where its container's runtime knows of none: the runtime's, if it ever puts
// one, has another place and is the better one.
const secondMetric = 2048

// networkOf is the network whose pool holds an address; n where none does any more.
func (b *builder) networkOf(a netip.Addr, n config.Network) config.Network {
	if of, ok := b.c.NetworkOf(host(a)); ok {
		return of
	}
	return n
}

// reach puts the ways between the host and one address of a container.
func (b *builder) reach(e object.Endpoint, a netip.Addr, n config.Network, why reconcile.Cause) {
	f := familyOf(a.Is6())
	veth := object.VethName(string(e.ID))
	gateway, scope := object.Gateway, object.ScopeLink
	if f.v6 {
		gateway, scope = object.Gateway6, object.ScopeGlobal // the kernel knows no other for IPv6 routes
	}
	b.put(object.Neigh{Link: veth, IP: a, MAC: e.MAC}, why)

	src, stands := f.address(b.self).Addr(), []reconcile.Key(nil)
	if n.Mode != config.ModeBGP {
		if tunnel, ok := b.c.Tunnel(b.self, n.Name, f.v6); ok {
			src = tunnel
			stands = []reconcile.Key{object.Addr{Link: tunnelName(n, n.Mode), Prefix: host(tunnel)}.Key()}
		}
	}
	b.put(object.Route{Dst: host(a), Table: object.MainTable, Type: object.Unicast, Dev: veth, Src: src, Scope: scope}, why, stands...)

	if e.Netns == "" { // nothing in it can be looked at
		return
	}
	b.put(object.Addr{In: e.ID, Link: e.Interface, Prefix: host(a), Scope: object.ScopeGlobal}, why)
	// There is one place for a default route, and one for the route to its gateway. Who comes second has routes to its own
	// network's pools.
	if !e.Beside {
		r := object.Route{In: e.ID, Dst: netip.PrefixFrom(gateway, 0).Masked(), Table: object.MainTable, Type: object.Unicast, Via: gateway, Dev: e.Interface}
		if e.Second {
			r.Metric = secondMetric
		}
		b.put(r, why)
		return
	}
	for _, p := range f.of(n.Pools) {
		b.put(object.Route{In: e.ID, Dst: p, Table: object.MainTable, Type: object.Unicast, Via: gateway, Dev: e.Interface, Src: a, Onlink: true}, why)
	}
}

// workloadCause is the line of the file that declares a workload, or the runtime that brought it.
func (b *builder) workloadCause(e object.Endpoint) reconcile.Cause {
	for _, w := range b.c.Workloads {
		if WorkloadID(w) == e.ID {
			return cause("workload "+w.Name, w.Pos)
		}
	}
	return reconcile.Cause{Text: "workload " + e.Who()}
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
