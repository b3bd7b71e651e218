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
	own, foreign, err = s.look(want, func(string) bool { return true })
	s.k.places.keep(func(in object.Place) bool { _, ok := s.k.endpoints[in]; return ok })
	return own, foreign, err
}

// look reads the links whose name is asked for. Only a veth that is asked for is followed into its container.
func (s links) look(want []reconcile.Resource, name func(string) bool) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	h, err := s.k.host()
	if err != nil {
		return nil, nil, err
	}
	asked := wanted(want)
	for _, l := range h.links.byName {
		if !name(l.name) {
			continue
		}
		r, err := s.resource(h, l, asked[object.LinkKey("", l.name)])
		switch {
		case err != nil:
			return nil, nil, fmt.Errorf("link %s: %w", l.name, err)
		case r != nil:
			own = append(own, r)
		case asked[object.LinkKey("", l.name)]:
			foreign = append(foreign, notNetds(l))
		}
	}
	for _, r := range want {
		if w, ok := r.(object.VXLAN); ok {
			foreign = append(foreign, sameVNI(h, w)...)
		}
	}
	return own, foreign, nil
}

// resource is the value of a link that is netd's, nil for any other.
func (s links) resource(h place, l link, asked bool) (reconcile.Resource, error) {
	switch {
	case l.isNetdVeth():
		return s.veth(l, h.links.at(l.master).name)
	case l.isNetdVXLAN():
		local, _ := netip.AddrFromSlice(l.vxlan.local)
		return object.VXLAN{
			Name: l.name, VNI: l.vxlan.vni, Port: l.vxlan.port, Local: local, Underlay: h.links.at(l.vxlan.lower).name,
			MAC: l.mac, MTU: l.mtu, Up: l.up(), Learning: l.vxlan.learning, Alias: l.alias,
			Renamed: l.renamed, Unmarked: l.unmarked, Master: h.links.at(l.master).name,
		}, nil
	case l.name == "tunl0" && l.typ == "ipip":
		if _, kept := s.k.store.Before(keepTunnelMTU); asked || kept || l.isNetdTunnel() {
			return object.IPIP{Name: l.name, MTU: l.mtu, Up: l.up()}, nil
		}
	}
	return nil, nil
}

func notNetds(l link) reconcile.Holder {
	way := "ip link del " + l.name + " makes room"
	in := l
	if in.group = object.LinkGroup; in.isNetd() {
		way = fmt.Sprintf("ip link set %s group %d gives it to netd, %s", l.name, object.LinkGroup, way)
	}
	return reconcile.Holder{Key: object.LinkKey("", l.name), What: describeLink(l), Who: "not made by netd: " + way}
}

// hasVNI reports whether a link is a VXLAN device beside which, or instead of which, the kernel makes no w.
func (l link) hasVNI(w object.VXLAN) bool {
	return l.typ == "vxlan" && l.vxlan.vni == w.VNI && l.vxlan.port == w.Port && l.vxlan.ipv6 == w.Local.Is6()
}

// sameVNI is the foreign devices that keep the kernel from making w: no two have one VNI on one UDP port and one family
// (drivers/net/vxlan, vxlan_vni_in_use).
func sameVNI(h place, w object.VXLAN) (foreign []reconcile.Holder) {
	for _, l := range h.links.byName {
		if l.name != w.Name && !l.isNetd() && l.hasVNI(w) {
			foreign = append(foreign, reconcile.Holder{Key: w.Key(), What: describeLink(l),
				Who: fmt.Sprintf("not made by netd: it has VNI %d on UDP port %d, which one device alone can have", w.VNI, w.Port)})
		}
	}
	return foreign
}

func describeLink(l link) string {
	typ := l.typ
	if typ == "" {
		typ = "device"
	}
	return typ + " " + l.name
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

// noLinkLocal keeps the kernel from giving a link that is still down an IPv6 address of its own when it comes up: what
// address it has, and without a second of duplicate detection, is netd's to say.
func noLinkLocal(name string) error {
	err := writeSysctl(object.Sysctl{Name: object.LinkSysctl("ipv6", "conf", name, "addr_gen_mode"), Value: "1"})
	if errors.Is(err, unix.ENOENT) { // no IPv6, or an MTU below its least
		return nil
	}
	return err
}

// setting is what can be changed of any link.
type setting struct {
	mac   object.MAC // zero: leave
	mtu   int
	up    bool
	alias string
	free  bool // a port of no bridge, bond or VRF; otherwise: leave
}

// set changes what differs of a link, in one request.
func (c *conn) set(l link, to setting) error {
	if l.up() == to.up && !l.unmarked && (to.mac == object.MAC{} || to.mac == l.mac) && l.mtu == to.mtu && l.alias == to.alias && (!to.free || l.master == 0) {
		return nil
	}
	b := &batch{}
	b.begin(unix.RTM_NEWLINK, 0)
	var flags, change uint32
	if l.up() != to.up {
		change = unix.IFF_UP
		if to.up {
			flags = unix.IFF_UP
		}
	}
	b.ifinfo(l.index, flags, change)
	if to.mac != (object.MAC{}) && l.mac != to.mac {
		b.attr(unix.IFLA_ADDRESS, to.mac[:])
	}
	if l.mtu != to.mtu {
		b.u32(unix.IFLA_MTU, uint32(to.mtu))
	}
	if l.alias != to.alias {
		b.attr(unix.IFLA_IFALIAS, []byte(to.alias))
	}
	if to.free && l.master != 0 {
		b.u32(unix.IFLA_MASTER, 0)
	}
	if l.unmarked {
		b.u32(unix.IFLA_GROUP, object.LinkGroup)
	}
	b.end()
	var neighs *batch
	if to.mac != (object.MAC{}) && l.mac != to.mac {
		var err error
		if neighs, err = c.permanent(l); err != nil {
			return err
		}
	}
	if err := c.run(b, nil)[0]; err != nil {
		return fmt.Errorf("setting up %s: %w", l.name, err)
	}
	if neighs != nil {
		if err := errors.Join(c.run(neighs, nil)...); err != nil {
			return fmt.Errorf("putting the neighbours of %s back: %w", l.name, err)
		}
	}
	return nil
}

// permanent is the requests that put a link's permanent neighbours back: with its MAC the kernel forgets them all
// (net/core/neighbour.c, neigh_changeaddr).
func (c *conn) permanent(l link) (*batch, error) {
	b := &batch{}
	for _, f := range ipFamilies {
		held, err := readNeighs(c, f)
		if err != nil {
			return nil, err
		}
		for _, n := range held {
			if n.index != l.index || n.state&unix.NUD_PERMANENT == 0 {
				continue
			}
			b.begin(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE)
			var head [sizeofNdmsg]byte
			head[0] = f
			native.PutUint32(head[4:], uint32(l.index))
			native.PutUint16(head[8:], unix.NUD_PERMANENT)
			b.raw(head[:]...)
			b.addr(unix.NDA_DST, n.dst)
			b.attr(unix.NDA_LLADDR, n.mac[:])
			b.end()
		}
	}
	return b, nil
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
	wrote()
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("another device has VNI %d on UDP port %d, or the name %s: %w", w.VNI, w.Port, w.Name, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("this kernel has no vxlan (module vxlan): %w", err)
	case err != nil:
		return err
	}
	return s.settleVXLAN(w)
}

// own is a link of netd's, and the host's links beside it.
func (s links) own(name string) (place, link, error) {
	h, err := s.k.host()
	if err != nil {
		return h, link{}, err
	}
	l, err := h.links.own(name)
	return h, l, err
}

func (s links) settleVXLAN(w object.VXLAN) error {
	_, l, err := s.own(w.Name)
	if err != nil {
		return err
	}
	if !l.up() {
		if err := noLinkLocal(w.Name); err != nil {
			return err
		}
	}
	return s.k.c.set(l, setting{mac: w.MAC, mtu: w.MTU, up: w.Up, alias: w.Alias, free: true})
}

func (s links) createTunnel(w object.IPIP) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.Group = w.Name, object.LinkGroup
	// Loading the module by this very request makes the kernel's own tunl0, and then the request is answered with EEXIST.
	err := netlink.LinkAdd(&netlink.Iptun{LinkAttrs: attrs})
	wrote()
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
	_, l, err := s.own(w.Name)
	if err != nil {
		return err
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
		h, l, err := s.own(want.Name)
		if err != nil {
			return err
		}
		lower, err := h.links.index(want.Underlay)
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
		b.ifinfo(l.index, 0, 0)
		b.attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info.b)
		b.end()
		if err := s.k.c.run(b, nil)[0]; err != nil {
			return fmt.Errorf("moving %s: %w", want.Name, err)
		}
	}
	return s.settleVXLAN(want)
}

func (s links) Delete(_ context.Context, have reconcile.Resource) error {
	l, ok, err := s.k.getOwn(have.Key().Name)
	if err == nil && !ok { // it may have another name meanwhile
		var h place
		if h, err = s.k.host(); err == nil {
			l, ok = h.links.byName[have.Key().Name]
		}
	}
	if err != nil || !ok {
		return err
	}
	if _, tunnel := have.(object.IPIP); tunnel && !l.isNetdTunnel() {
		return s.restoreTunnel(l)
	}
	if !l.isNetd() {
		return fmt.Errorf("%s is not netd's any more", describeLink(l))
	}
	return s.k.c.deleteLink(l.index)
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
