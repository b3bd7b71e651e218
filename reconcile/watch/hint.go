package watch

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// hints turns messages into the places that they tell of.
type hints struct {
	Kernel
	names *names
}

var (
	nothing = reconcile.Poke{}
	whole   = reconcile.Poke{Whole: true}
	facts   = reconcile.Poke{Facts: true} // what is wanted may be something else now
)

// tell calls what is told of something, if there is such.
func tell(f func()) {
	if f != nil {
		f()
	}
}

func at(keys ...reconcile.Key) reconcile.Poke { return reconcile.Poke{Keys: keys} }

// of is what a message of rtnetlink asks for.
func (h hints) of(m message) reconcile.Poke {
	if m.nsid >= 0 {
		return h.inside(m)
	}
	switch m.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		return h.link(m)
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return h.addr(m)
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return h.route(m)
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		return h.neigh(m)
	case unix.RTM_NEWNETCONF:
		return h.setting(m)
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		return h.nexthop(m)
	case unix.RTM_DELNSID:
		return h.namespace(m)
	case unix.RTM_NEWNSID, unix.RTM_DELNETCONF: // netd's own doing, or gone with its link
		return nothing
	}
	return whole
}

// link: a link takes along and changes what is on it without a word about that, and all that stands on its key is read
// with it. The host's own links are facts that the wanted state is computed from.
func (h hints) link(m message) reconcile.Poke {
	if len(m.body) < unix.SizeofIfInfomsg {
		return whole
	}
	if m.body[0] == unix.AF_BRIDGE { // a bridge port's state
		return nothing
	}
	name, kind, group := "", "", uint32(0)
	for a := range attributes(m.body[unix.SizeofIfInfomsg:]) {
		switch a.typ {
		case unix.IFLA_IFNAME:
			name = text(a.data)
		case unix.IFLA_GROUP:
			group = a.u32()
		case unix.IFLA_LINKINFO:
			for a := range attributes(a.data) {
				if a.typ == unix.IFLA_INFO_KIND {
					kind = text(a.data)
				}
			}
		}
	}
	switch key := object.LinkKey("", name); {
	case h.Wants(key):
		return at(key)
	case strings.HasPrefix(name, object.PeerPrefix): // a container's end, on its way there or back
		tell(h.Moved)
		return nothing
	case group == object.LinkGroup && kind == "veth" && object.IsVethName(name): // of a container that comes or goes: all that it is is in its name
		return at(key)
	case group == object.LinkGroup, kind == "vxlan", kind == "ipip": // one of netd's by another name, or in the way of one
		return whole
	}
	return h.foreign(name)
}

// foreign is what news of a link that is not netd's asks for, or of its addresses. Its routes go with it and with its last
// address, without an event of their own.
func (h hints) foreign(name string) reconcile.Poke {
	switch {
	case name == "" || h.Bears(object.LinkKey("", name)):
		return whole
	case h.Default != nil && h.Default(name): // may be gone and back, without its default route
		return reconcile.Poke{Wanted: true}
	}
	return facts
}

func (h hints) addr(m message) reconcile.Poke {
	if len(m.body) < unix.SizeofIfAddrmsg {
		return whole
	}
	name, ok := h.names.of(native.Uint32(m.body[4:]))
	if !ok { // the link's own event tells when it went
		return facts
	}
	a, protocol := addrOf(name, m.body)
	if h.Wants(object.LinkKey("", name)) {
		// With a link's last address its routes go, without an event of their own.
		return at(object.LinkKey("", name), a.Key())
	}
	p := h.foreign(name)
	if m.Type == unix.RTM_NEWADDR { // one that comes takes nothing along
		p = facts
	}
	switch {
	case h.Sends != nil && h.Sends(a.Prefix.Addr()): // routes that prefer a source go with it, without an event of their own
		return whole
	case protocol == object.Protocol:
		p.Keys = append(p.Keys, a.Key())
	}
	return p
}

func addrOf(link string, body []byte) (_ object.Addr, protocol uint8) {
	var local, address netip.Addr
	for a := range attributes(body[unix.SizeofIfAddrmsg:]) {
		switch a.typ {
		case unix.IFA_LOCAL:
			local, _ = netip.AddrFromSlice(a.data)
		case unix.IFA_ADDRESS:
			address, _ = netip.AddrFromSlice(a.data)
		case ifaProto:
			if len(a.data) > 0 {
				protocol = a.data[0]
			}
		}
	}
	if !local.IsValid() {
		local = address
	}
	return object.Addr{Link: link, Prefix: netip.PrefixFrom(local, int(body[1]))}, protocol
}

const ifaProto = 11 // IFA_PROTO

// route: those of others are no news except where netd wants one, or had one; a default route is a fact. One that was put
// behind another of IPv4 cannot be asked for by itself: the kernel answers with the first of a place.
func (h hints) route(m message) reconcile.Poke {
	r, ok := routeOf("", m.body)
	switch {
	case !ok:
		return whole
	case r.table != unix.RT_TABLE_MAIN:
		return nothing
	case r.dst.Bits() == 0:
		return whole
	case m.Flags&unix.NLM_F_APPEND != 0 && r.protocol != object.Protocol && h.Wants(r.key):
		return whole
	case r.protocol == object.Protocol || h.Wants(r.key):
		return at(r.key)
	case h.Leads != nil && h.Leads(r.dst):
		return whole
	}
	return nothing
}

type route struct {
	key      reconcile.Key
	dst      netip.Prefix
	table    uint32
	protocol uint8
}

func routeOf(in object.Place, body []byte) (r route, ok bool) {
	if len(body) < unix.SizeofRtMsg {
		return r, false
	}
	r.table, r.protocol = uint32(body[4]), body[5]
	dst, metric := netip.IPv4Unspecified(), uint32(0)
	if body[0] == unix.AF_INET6 {
		dst = netip.IPv6Unspecified()
	}
	for a := range attributes(body[unix.SizeofRtMsg:]) {
		switch a.typ {
		case unix.RTA_DST:
			dst, _ = netip.AddrFromSlice(a.data)
		case unix.RTA_TABLE:
			r.table = a.u32()
		case unix.RTA_PRIORITY:
			metric = a.u32()
		}
	}
	if dst.Is6() && metric == 1024 { // IP6_RT_PRIO_USER: no metric was asked for
		metric = 0
	}
	r.dst = netip.PrefixFrom(dst, int(body[1]))
	r.key = object.RouteKey(in, r.dst, r.table, metric)
	return r, r.dst.IsValid()
}

// neigh: entries come and go with traffic; netd's are permanent, on its own links.
func (h hints) neigh(m message) reconcile.Poke {
	if len(m.body) < unix.SizeofNdMsg {
		return whole
	}
	name, ok := h.names.of(native.Uint32(m.body[4:]))
	if !ok || !h.Wants(object.LinkKey("", name)) { // the link's own event tells when it went
		return nothing
	}
	var dst netip.Addr
	var mac object.MAC
	for a := range attributes(m.body[unix.SizeofNdMsg:]) {
		switch a.typ {
		case unix.NDA_DST:
			dst, _ = netip.AddrFromSlice(a.data)
		case unix.NDA_LLADDR:
			if len(a.data) == 6 {
				mac = object.MAC(a.data)
			}
		}
	}
	key := object.Neigh{Link: name, IP: dst}.Key()
	if m.body[0] == unix.AF_BRIDGE {
		key = object.FDB{Link: name, MAC: mac, Dst: dst}.Key()
	}
	if lasting := native.Uint16(m.body[8:])&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0; lasting || h.Wants(key) {
		return at(key)
	}
	return nothing
}

// Attributes of RTM_NEWNETCONF (include/uapi/linux/netconf.h), and the settings that they are.
const netconfIndex = 1 // NETCONFA_IFINDEX

var netconf = map[uint16]string{2: "forwarding", 3: "rp_filter", 5: "proxy_arp"}

// setting: that of all links resets each link's, or is a fact.
func (h hints) setting(m message) reconcile.Poke {
	if len(m.body) < 4 { // struct netconfmsg, padded
		return whole
	}
	family := "ipv4"
	if m.body[0] == unix.AF_INET6 {
		family = "ipv6"
	}
	index, changed := int32(0), []string(nil)
	for a := range attributes(m.body[4:]) {
		if a.typ == netconfIndex {
			index = int32(a.u32())
		} else if name := netconf[a.typ]; name != "" {
			changed = append(changed, name)
		}
	}
	if index < 0 { // NETCONFA_IFINDEX_ALL or _DEFAULT
		return whole
	}
	link, ok := h.names.of(uint32(index))
	if !ok {
		return nothing
	}
	var p reconcile.Poke
	for _, name := range changed {
		if key := (object.Sysctl{Name: object.LinkSysctl(family, "conf", link, name)}).Key(); h.Wants(key) {
			p.Keys = append(p.Keys, key)
		}
	}
	return p
}

func (h hints) nexthop(m message) reconcile.Poke {
	if len(m.body) < 8 { // struct nhmsg
		return whole
	}
	for a := range attributes(m.body[8:]) {
		if a.typ == unix.NHA_ID {
			if key := object.NexthopKey(a.u32()); m.body[2] == object.Protocol || h.Wants(key) {
				return at(key)
			}
		}
	}
	return nothing
}

// namespace: a container's end.
func (h hints) namespace(m message) reconcile.Poke {
	for a := range attributes(m.body[min(4, len(m.body)):]) {
		if a.typ == unix.NETNSA_NSID {
			if len(h.PlacesOf(int(int32(a.u32())))) > 0 {
				return whole
			}
		}
	}
	return nothing
}

// inside: whatever happens in a workload's namespace, what netd has there is read again with its veth.
func (h hints) inside(m message) reconcile.Poke {
	var p reconcile.Poke
	places := h.PlacesOf(m.nsid)
	if len(places) == 0 { // of no known workload yet
		tell(h.Moved)
	}
	for _, in := range places {
		// Docker, which changes the default route of its containers itself, is not to be interrupted.
		if route := m.Type == unix.RTM_NEWROUTE || m.Type == unix.RTM_DELROUTE; route && strings.HasPrefix(string(in), "docker/") {
			tell(h.Rerouted)
			continue
		}
		p.Keys = append(p.Keys, object.LinkKey("", object.VethName(string(in))))
		// And what bears netd's mark and may not be wanted.
		if m.Type == unix.RTM_NEWROUTE {
			if r, ok := routeOf(in, m.body); ok && r.protocol == object.Protocol {
				p.Keys = append(p.Keys, r.key)
			}
		}
	}
	return p
}

// generation is what the end of a transaction of nftables asks for. It says itself who made it.
func generation(m message) reconcile.Poke {
	if m.Type != newGeneration {
		return nothing
	}
	p := reconcile.Poke{Kinds: []string{object.KindNft, object.KindAccept}}
	var pid uint32
	var name string
	for a := range attributes(m.body[min(4, len(m.body)):]) {
		switch {
		case a.typ == unix.NFTA_GEN_PROC_PID && len(a.data) >= 4:
			pid = binary.BigEndian.Uint32(a.data)
		case a.typ == unix.NFTA_GEN_PROC_NAME:
			name = text(a.data)
		}
	}
	if pid != 0 && name != "" {
		by := culprit(pid, name)
		p.By = map[reconcile.Key]string{{Kind: object.KindNft}: by, {Kind: object.KindAccept}: by}
	}
	return p
}

func culprit(pid uint32, name string) string { return fmt.Sprintf("pid %d (%s)", pid, name) }
