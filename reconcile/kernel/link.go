package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// links is the kind of veth pairs, VXLAN devices and tunl0. Created ones carry group 142 in the very message that makes
// them, so that a kill right after it leaves nothing that is not known as netd's.
type links struct{ k *Kernel }

func (links) Name() string { return object.KindLink }

// Names under which the store keeps what tunl0 was before netd took it up.
const (
	keepTunnelMTU   = "link/tunl0/mtu"
	keepTunnelState = "link/tunl0/state"
)

func (s links) List(_ context.Context, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	h, err := s.k.host()
	if err != nil {
		return nil, nil, err
	}
	asked := wanted(want)
	nsids := s.nsids()
	for _, l := range h.links.byName {
		r, err := s.resource(h, l, asked[object.LinkKey("", l.name)], nsids)
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("link %s: %w", l.name, err)
		case r != nil:
			own = append(own, r)
		case asked[object.LinkKey("", l.name)]:
			foreign = append(foreign, reconcile.Holder{Key: object.LinkKey("", l.name), What: describeLink(l), Who: "not made by netd: it is not in link group 142"})
		}
	}
	if asked[object.LinkKey("", "tunl0")] {
		foreign = append(foreign, rivals(h.links)...)
	}
	return own, foreign, nil
}

func (s links) Get(ctx context.Context, keys []reconcile.Key, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	all, foreign, err := s.List(ctx, want)
	return only(all, keys), foreign, err
}

// resource is the value of a link that is netd's, nil for any other.
func (s links) resource(h place, l link, asked bool, nsids map[int]object.Place) (reconcile.Resource, error) {
	switch {
	case l.isNetdVeth():
		return s.veth(l, nsids)
	case l.isNetdVXLAN():
		local, _ := netip.AddrFromSlice(l.vxlan.local)
		return object.VXLAN{
			Name: l.name, VNI: l.vxlan.vni, Port: l.vxlan.port, Local: local, Underlay: h.links.byIndex[l.vxlan.lower].name,
			MAC: l.mac, MTU: l.mtu, Up: l.up(), Learning: l.vxlan.learning, Alias: l.alias,
		}, nil
	case l.name == "tunl0" && l.typ == "ipip":
		if _, kept := s.k.store.Before(keepTunnelMTU); asked || kept || l.isNetdTunnel() {
			return object.IPIP{Name: l.name, MTU: l.mtu, Up: l.up()}, nil
		}
	}
	return nil, nil
}

// nsids are the ids by which this namespace knows those of the workloads.
func (s links) nsids() map[int]object.Place {
	ids := make(map[int]object.Place, len(s.k.endpoints))
	for in, path := range s.k.endpoints {
		if id, err := s.k.nsid(path); err == nil && id >= 0 {
			ids[id] = in
		}
	}
	return ids
}

// nsid is the id by which the host's namespace knows the one at path; -1 where it has none yet, and so no veth into it.
func (k *Kernel) nsid(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	var req encoder
	req.raw(unix.AF_UNSPEC, 0, 0, 0) // struct rtgenmsg, padded
	req.u32(unix.NETNSA_FD, uint32(fd))
	id := -1
	err = k.c.get(unix.RTM_GETNSID, 0, req.b, func(body []byte) error {
		if len(body) < 4 {
			return nil
		}
		for a := range attributes(body[4:]) {
			if a.typ == unix.NETNSA_NSID {
				id = int(int32(a.u32()))
			}
		}
		return nil
	})
	return id, err
}

func (s links) veth(l link, nsids map[int]object.Place) (reconcile.Resource, error) {
	v := object.Veth{Name: l.name, MAC: l.mac, MTU: l.mtu, Up: l.up(), Alias: l.alias, Workload: nsids[l.nsid]}
	if v.Workload == "" {
		return v, nil // in a namespace that no workload has (any more): Replaces says that it must go
	}
	_, err := s.k.inside(v.Workload, func(p place) error {
		if peer, ok := p.links.byIndex[l.peer]; ok {
			v.Peer, v.PeerMAC, v.PeerMTU, v.PeerUp = peer.name, peer.mac, peer.mtu, peer.up()
		}
		return nil
	})
	return v, err
}

func describeLink(l link) string {
	typ := l.typ
	if typ == "" {
		typ = "device"
	}
	return typ + " " + l.name
}

// rivals are foreign tunnels with both ends given: the kernel prefers them to tunl0 for packets between these, so tunl0
// would receive nothing from that node (net/ipv4/ip_tunnel.c, ip_tunnel_lookup).
func rivals(t linkTable) []reconcile.Holder {
	var out []reconcile.Holder
	for _, l := range t.byName {
		remote, ok := netip.AddrFromSlice(l.tunnel.remote)
		local, _ := netip.AddrFromSlice(l.tunnel.local)
		if l.typ != "ipip" || !ok || remote.IsUnspecified() || !local.IsValid() || local.IsUnspecified() {
			continue
		}
		out = append(out, reconcile.Holder{Key: object.LinkKey("", "tunl0"),
			What: fmt.Sprintf("ipip tunnel %s from %s to %s, which takes tunl0's packets", l.name, local, remote), Who: "not made by netd"})
	}
	return out
}

func (s links) Create(_ context.Context, want reconcile.Resource) error {
	switch w := want.(type) {
	case object.Veth:
		return s.createVeth(w)
	case object.VXLAN:
		return s.createVXLAN(w)
	case object.IPIP:
		return s.createTunnel(w)
	}
	return fmt.Errorf("a link cannot be a %T", want)
}

func (s links) createVeth(w object.Veth) error {
	path, ok := s.k.endpoints[w.Workload]
	if !ok {
		return fmt.Errorf("the network namespace of %s is not known", w.Workload)
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening the network namespace %s: %w", path, err)
	}
	defer unix.Close(fd)
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group = w.Name, w.MTU, object.LinkGroup
	attrs.HardwareAddr = net.HardwareAddr(w.MAC[:])
	v := netlink.NewVeth(attrs)
	v.PeerName, v.PeerHardwareAddr, v.PeerNamespace, v.PeerMTU = w.Peer, net.HardwareAddr(w.PeerMAC[:]), netlink.NsFd(fd), uint32(w.PeerMTU)
	if err := netlink.LinkAdd(v); err != nil {
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s or, in the container, %s exists already: %w", w.Name, w.Peer, err)
		}
		return err
	}
	return s.settle(w)
}

// settle sets what the message that creates a pair cannot (the alias, the peer's state) or may lose (the MAC), from what
// the pair is now to w.
func (s links) settle(w object.Veth) error {
	h, err := s.k.host()
	if err != nil {
		return err
	}
	l, ok := h.links.byName[w.Name]
	if !ok {
		return fmt.Errorf("%w: %s", errNoLink, w.Name)
	}
	if !l.up() {
		if err := noLinkLocal(w.Name); err != nil {
			return err
		}
	}
	if err := h.c.set(l, setting{mac: w.MAC, mtu: w.MTU, up: w.Up, alias: w.Alias}); err != nil {
		return err
	}
	gone, err := s.k.inside(w.Workload, func(p place) error {
		peer, ok := p.links.byIndex[l.peer]
		if !ok {
			return fmt.Errorf("%w: %s in the container", errNoLink, w.Peer)
		}
		return p.c.set(peer, setting{mac: w.PeerMAC, mtu: w.PeerMTU, up: w.PeerUp, alias: peer.alias})
	})
	if gone {
		return fmt.Errorf("the network namespace of %s is gone", w.Workload)
	}
	return err
}

// noLinkLocal keeps the kernel from giving a link that is still down an IPv6 address of its own when it comes up: what
// address it has, and without a second of duplicate detection, is netd's to say.
func noLinkLocal(name string) error {
	s := object.Sysctl{Name: object.LinkSysctl("ipv6", "conf", name, "addr_gen_mode"), Value: "1"}
	if _, there, err := readSysctl(s); err != nil || !there { // no IPv6, or an MTU below its least
		return err
	}
	return writeSysctl(s)
}

// setting is what can be changed of any link.
type setting struct {
	mac   object.MAC // zero: leave
	mtu   int
	up    bool
	alias string
}

// set changes what differs of a link, in one request.
func (c *conn) set(l link, to setting) error {
	b := &batch{}
	b.begin(unix.RTM_NEWLINK, 0)
	var head [unix.SizeofIfInfomsg]byte
	native.PutUint32(head[4:], uint32(l.index))
	if l.up() != to.up {
		if to.up {
			native.PutUint32(head[8:], unix.IFF_UP)
		}
		native.PutUint32(head[12:], unix.IFF_UP)
	}
	b.raw(head[:]...)
	if to.mac != (object.MAC{}) && l.mac != to.mac {
		b.attr(unix.IFLA_ADDRESS, to.mac[:])
	}
	if l.mtu != to.mtu {
		b.u32(unix.IFLA_MTU, uint32(to.mtu))
	}
	if l.alias != to.alias {
		b.attr(unix.IFLA_IFALIAS, []byte(to.alias))
	}
	b.end()
	if err := c.run(b)[0]; err != nil {
		return fmt.Errorf("setting up %s: %w", l.name, err)
	}
	return nil
}

func (s links) createVXLAN(w object.VXLAN) error {
	h, err := s.k.host()
	if err != nil {
		return err
	}
	lower, err := h.links.index(w.Underlay)
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Group = w.Name, w.MTU, object.LinkGroup
	attrs.HardwareAddr = net.HardwareAddr(w.MAC[:])
	err = netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: attrs, VxlanId: int(w.VNI), Port: int(w.Port), SrcAddr: w.Local.AsSlice(),
		VtepDevIndex: lower, Learning: w.Learning})
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("another device has VNI %d on UDP port %d, or the name %s: %w", w.VNI, w.Port, w.Name, err)
	}
	if err != nil {
		return err
	}
	return s.settleVXLAN(w)
}

func (s links) settleVXLAN(w object.VXLAN) error {
	t, err := readLinks(s.k.c)
	if err != nil {
		return err
	}
	l, ok := t.byName[w.Name]
	if !ok {
		return fmt.Errorf("%w: %s", errNoLink, w.Name)
	}
	if !l.up() {
		if err := noLinkLocal(w.Name); err != nil {
			return err
		}
	}
	return s.k.c.set(l, setting{mac: w.MAC, mtu: w.MTU, up: w.Up, alias: w.Alias})
}

func (s links) createTunnel(w object.IPIP) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = w.Name, object.LinkGroup
	// Loading the module by this very request makes the kernel's own tunl0, and then the request is answered with EEXIST.
	err := netlink.LinkAdd(&netlink.Iptun{LinkAttrs: attrs})
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no ipip (module ipip): %w", err)
	case err != nil && !errors.Is(err, unix.EEXIST):
		return err
	}
	return s.adjustTunnel(w)
}

// adjustTunnel sets tunl0's MTU and state, after keeping what they were.
func (s links) adjustTunnel(w object.IPIP) error {
	t, err := readLinks(s.k.c)
	if err != nil {
		return err
	}
	l, ok := t.byName[w.Name]
	if !ok {
		return fmt.Errorf("%w: %s", errNoLink, w.Name)
	}
	if !l.isNetdTunnel() {
		if err := s.k.store.Keep(keepTunnelMTU, strconv.Itoa(l.mtu)); err != nil {
			return err
		}
		if err := s.k.store.Keep(keepTunnelState, strconv.FormatBool(l.up())); err != nil {
			return err
		}
	}
	return s.k.c.set(l, setting{mtu: w.MTU, up: w.Up, alias: l.alias})
}

func (s links) Update(_ context.Context, have, want reconcile.Resource) error {
	switch w := want.(type) {
	case object.Veth:
		return s.settle(w)
	case object.VXLAN:
		h, _ := have.(object.VXLAN)
		return s.updateVXLAN(h, w)
	case object.IPIP:
		return s.adjustTunnel(w)
	}
	return fmt.Errorf("a link cannot be a %T", want)
}

// updateVXLAN changes the local address and the lower link by a request that names only these (the kernel refuses one that
// repeats a VNI or port even unchanged in some versions).
func (s links) updateVXLAN(have, want object.VXLAN) error {
	if have.Local != want.Local || have.Underlay != want.Underlay {
		t, err := readLinks(s.k.c)
		if err != nil {
			return err
		}
		l, ok := t.byName[want.Name]
		if !ok {
			return fmt.Errorf("%w: %s", errNoLink, want.Name)
		}
		lower, err := t.index(want.Underlay)
		if err != nil {
			return err
		}
		var data, info encoder
		data.u32(unix.IFLA_VXLAN_ID, want.VNI)
		local := uint16(unix.IFLA_VXLAN_LOCAL)
		if want.Local.Is6() {
			local = unix.IFLA_VXLAN_LOCAL6
		}
		data.addr(local, want.Local)
		data.u32(unix.IFLA_VXLAN_LINK, uint32(lower))
		info.attr(unix.IFLA_INFO_KIND, []byte("vxlan"))
		info.attr(unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, data.b)
		b := &batch{}
		b.begin(unix.RTM_NEWLINK, 0)
		var head [unix.SizeofIfInfomsg]byte
		native.PutUint32(head[4:], uint32(l.index))
		b.raw(head[:]...)
		b.attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info.b)
		b.end()
		if err := s.k.c.run(b)[0]; err != nil {
			return fmt.Errorf("moving %s: %w", want.Name, err)
		}
	}
	return s.settleVXLAN(want)
}

func (s links) Delete(_ context.Context, have reconcile.Resource) error {
	t, err := readLinks(s.k.c)
	if err != nil {
		return err
	}
	l, ok := t.byName[have.Key().Name]
	if !ok {
		return nil
	}
	if _, tunnel := have.(object.IPIP); tunnel && !l.isNetdTunnel() {
		return s.restoreTunnel(l)
	}
	if !l.isNetd() {
		return fmt.Errorf("%s is not netd's any more", describeLink(l))
	}
	b := &batch{}
	b.begin(unix.RTM_DELLINK, 0)
	var head [unix.SizeofIfInfomsg]byte
	native.PutUint32(head[4:], uint32(l.index))
	b.raw(head[:]...)
	b.end()
	if err := s.k.c.run(b)[0]; err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

// restoreTunnel puts tunl0's MTU and state back, unless a foreign address or route shows that somebody else uses it now.
func (s links) restoreTunnel(l link) error {
	to := setting{mtu: l.mtu, up: l.up(), alias: l.alias}
	if v, ok := s.k.store.Before(keepTunnelMTU); ok {
		if n, err := strconv.Atoi(v); err == nil {
			to.mtu = n
		}
	}
	if v, ok := s.k.store.Before(keepTunnelState); ok {
		to.up = v == "true"
	}
	used, err := s.k.usedByOthers(l)
	if err != nil {
		return err
	}
	if !used {
		if err := s.k.c.set(l, to); err != nil {
			return err
		}
	}
	return errors.Join(s.k.store.Forget(keepTunnelMTU), s.k.store.Forget(keepTunnelState))
}

// only keeps the resources at keys.
func only(rs []reconcile.Resource, keys []reconcile.Key) []reconcile.Resource {
	asked := make(map[reconcile.Key]bool, len(keys))
	for _, k := range keys {
		asked[k] = true
	}
	var out []reconcile.Resource
	for _, r := range rs {
		if asked[r.Key()] {
			out = append(out, r)
		}
	}
	return out
}
