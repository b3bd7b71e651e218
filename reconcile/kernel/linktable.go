package kernel

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// link is a network device as RTM_NEWLINK tells of it.
type link struct {
	index  int
	name   string
	typ    string // IFLA_INFO_KIND; empty for physical devices
	flags  uint32
	mtu    int
	mac    object.MAC
	group  uint32
	alias  string
	master int // of which bridge or bond it is a port; 0: of none
	peer   int // IFLA_LINK: the other end of a veth, the lower device of a vxlan
	nsid   int // IFLA_LINK_NETNSID: the namespace of peer; -1: this one
	vxlan  vxlanData
	tunnel tunnelData

	renamed  string // of one of netd's: the name that somebody gave it; name is its own
	unmarked bool   // of one of netd's: somebody took it out of its group; group is its own

	forwarding, acceptRA int // its settings net.ipv4.conf.….forwarding and net.ipv6.conf.….accept_ra; 0 where it has none
}

type vxlanData struct {
	vni      uint32
	port     uint16
	local    []byte
	ipv6     bool // it has a socket of IPv6, not of IPv4
	lower    int
	learning bool
}

type tunnelData struct{ local, remote []byte }

func (l link) up() bool { return l.flags&unix.IFF_UP != 0 }

// noCarrier reports whether a link is up and its wire, its far end or, of a bridge or bond, its ports are not (netdevice(7), IFF_LOWER_UP).
func (l link) noCarrier() bool { return l.up() && l.flags&unix.IFF_LOWER_UP == 0 }

// isNetdVeth reports whether a link is the host's end of a veth of netd: by its name's pattern and its group.
func (l link) isNetdVeth() bool {
	return l.typ == "veth" && l.group == object.LinkGroup && object.IsVethName(l.name)
}

func (l link) isNetdVXLAN() bool {
	return l.typ == "vxlan" && l.group == object.LinkGroup && object.IsVXLANName(l.name)
}

// isNetdTunnel is a tunl0 that netd made itself, where the kernel keeps its own out of the namespace.
func (l link) isNetdTunnel() bool {
	return l.typ == "ipip" && l.name == "tunl0" && l.group == object.LinkGroup
}

func (l link) isNetd() bool { return l.isNetdVeth() || l.isNetdVXLAN() || l.isNetdTunnel() }

// linkTable is the links of a namespace: all of them, or those that are asked for.
type linkTable struct {
	byName  map[string]link
	byIndex map[int]link
	ask     *asker // nil: all are there
}

// asker asks for links one by one, so that a look at one of them costs the same whatever else a host has. It must not be
// asked while a dump is being read.
type asker struct {
	c    *conn
	know func(link) (link, error) // makes out whose a link is; nil: nobody else can have taken one over
	err  error                    // of the first question that failed
}

// asking is a table of which each link is asked for when it is first needed.
func asking(c *conn, know func(link) (link, error)) linkTable {
	return linkTable{map[string]link{}, map[int]link{}, &asker{c: c, know: know}}
}

// named is the link of a name. The error of a question is told by trouble.
func (t linkTable) named(name string) (l link, there bool) {
	if l, there = t.byName[name]; there || t.ask == nil {
		return l, there
	}
	if l, there = t.fetch(0, name); l.name != name { // another one's by rights
		return link{}, false
	}
	return l, there
}

// at is the link of an index, none where there is no such.
func (t linkTable) at(index int) link {
	l, there := t.byIndex[index]
	if !there && t.ask != nil && index > 0 {
		l, _ = t.fetch(index, "")
	}
	return l
}

func (t linkTable) fetch(index int, name string) (link, bool) {
	l, there, err := getLink(t.ask.c, index, name)
	if err == nil && there && t.ask.know != nil {
		l, err = t.ask.know(l)
	}
	if err != nil {
		if t.ask.err == nil {
			t.ask.err = fmt.Errorf("reading links: %w", err)
		}
		return link{}, false
	}
	if there {
		t.byName[l.name], t.byIndex[l.index] = l, l
	}
	return l, there
}

// trouble is why an answer of named or at since the last time may be wrong.
func (t linkTable) trouble() error {
	if t.ask == nil {
		return nil
	}
	err := t.ask.err
	t.ask.err = nil
	return err
}

// forget has each link asked for again.
func (t linkTable) forget() {
	clear(t.byName)
	clear(t.byIndex)
}

var (
	errNoLink = errors.New("no such link")
	errGone   = errors.New("it is not there any more, or not netd's")
)

// index is the index of a link as it is now, asked for right before it is used: a link that was deleted meanwhile may have a
// successor with its index. One with a name of netd's that somebody else made is no such link.
func (t linkTable) index(name string) (int, error) {
	l, err := t.own(name)
	return l.index, err
}

// usurped is the error of a link that has a name of netd's and was made by somebody else.
func (l link) usurped() error {
	if (object.IsVethName(l.name) || object.IsVXLANName(l.name)) && !l.isNetd() {
		return fmt.Errorf("%w of netd's: the %s that is there now was made by somebody else meanwhile", errNoLink, describeLink(l))
	}
	if l.name == "tunl0" && l.typ != "ipip" {
		return fmt.Errorf("%w: %s is no ipip tunnel any more", errNoLink, describeLink(l))
	}
	return nil
}

// own is a link of netd's, asked for as index is.
func (t linkTable) own(name string) (link, error) {
	l, ok := t.named(name)
	if err := t.trouble(); err != nil {
		return l, err
	}
	if !ok {
		return l, fmt.Errorf("%w: %s", errNoLink, name)
	}
	return l, l.usurped()
}

// getLink reads one link, by its index where that is not 0, else by its name.
func getLink(c *conn, index int, name string) (l link, there bool, err error) {
	var req encoder
	req.ifinfo(index, 0, 0)
	if index == 0 {
		req.attr(unix.IFLA_IFNAME, cString(name))
	}
	req.u32(unix.IFLA_EXT_MASK, rtextFilterSkipStats)
	err = c.get(unix.RTM_GETLINK, 0, req.b, func(body []byte) error {
		l, there = decodeLink(body), true
		return nil
	})
	if errors.Is(err, unix.ENODEV) {
		return l, false, nil
	}
	return l, there, err
}

const (
	rtextFilterSkipStats = 1 << 3 // RTEXT_FILTER_SKIP_STATS
	iflaIPTunLocal       = 2      // IFLA_IPTUN_LOCAL
	iflaIPTunRemote      = 3      // IFLA_IPTUN_REMOTE
)

func readLinks(c *conn) (linkTable, error) {
	var t linkTable
	var req encoder
	req.ifinfo(0, 0, 0)
	req.u32(unix.IFLA_EXT_MASK, rtextFilterSkipStats)
	err := c.dump(unix.RTM_GETLINK, req.b, func() {
		t = linkTable{byName: map[string]link{}, byIndex: map[int]link{}}
	}, func(body []byte) error {
		l := decodeLink(body)
		t.byName[l.name], t.byIndex[l.index] = l, l
		return nil
	})
	if err != nil {
		return t, fmt.Errorf("reading links: %w", err)
	}
	return t, nil
}

func decodeLink(body []byte) link {
	l := link{nsid: -1}
	if len(body) < unix.SizeofIfInfomsg {
		return l
	}
	l.index = int(int32(native.Uint32(body[4:])))
	l.flags = native.Uint32(body[8:])
	for a := range attributes(body[unix.SizeofIfInfomsg:]) {
		switch a.typ {
		case unix.IFLA_IFNAME:
			l.name = text(a.data)
		case unix.IFLA_MTU:
			l.mtu = int(a.u32())
		case unix.IFLA_ADDRESS:
			if len(a.data) == 6 {
				l.mac = object.MAC(a.data)
			}
		case unix.IFLA_GROUP:
			l.group = a.u32()
		case unix.IFLA_IFALIAS:
			l.alias = text(a.data)
		case unix.IFLA_MASTER:
			l.master = int(a.u32())
		case unix.IFLA_LINK:
			l.peer = int(a.u32())
		case unix.IFLA_LINK_NETNSID:
			l.nsid = int(int32(a.u32()))
		case unix.IFLA_LINKINFO:
			decodeLinkInfo(&l, a.data)
		case unix.IFLA_AF_SPEC:
			decodeSettings(&l, a.data)
		}
	}
	return l
}

// decodeSettings reads what IFLA_AF_SPEC holds: for each family its settings of the link, in the order of the enumerations of
// include/uapi/linux/ip.h, without the 0 that is none there, and ipv6.h.
func decodeSettings(l *link, b []byte) {
	setting := func(b []byte, typ uint16, at int) int {
		for a := range attributes(b) {
			if a.typ == typ && len(a.data) >= 4*at+4 {
				return int(int32(native.Uint32(a.data[4*at:])))
			}
		}
		return 0
	}
	for a := range attributes(b) {
		switch a.typ {
		case unix.AF_INET:
			l.forwarding = setting(a.data, 1 /* IFLA_INET_CONF */, 0 /* IPV4_DEVCONF_FORWARDING */)
		case unix.AF_INET6:
			l.acceptRA = setting(a.data, 2 /* IFLA_INET6_CONF */, 3 /* DEVCONF_ACCEPT_RA */)
		}
	}
}

func decodeLinkInfo(l *link, b []byte) {
	var data []byte
	for a := range attributes(b) {
		switch a.typ {
		case unix.IFLA_INFO_KIND:
			l.typ = text(a.data)
		case unix.IFLA_INFO_DATA:
			data = a.data
		}
	}
	switch l.typ {
	case "vxlan":
		for a := range attributes(data) {
			switch a.typ {
			case unix.IFLA_VXLAN_ID:
				l.vxlan.vni = a.u32()
			case unix.IFLA_VXLAN_PORT: // big endian
				if len(a.data) == 2 {
					l.vxlan.port = uint16(a.data[0])<<8 | uint16(a.data[1])
				}
			case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
				l.vxlan.local = append([]byte(nil), a.data...)
				l.vxlan.ipv6 = a.typ == unix.IFLA_VXLAN_LOCAL6
			case unix.IFLA_VXLAN_GROUP6:
				l.vxlan.ipv6 = true
			case unix.IFLA_VXLAN_LINK:
				l.vxlan.lower = int(a.u32())
			case unix.IFLA_VXLAN_LEARNING:
				l.vxlan.learning = len(a.data) > 0 && a.data[0] != 0
			}
		}
	case "ipip", "gre", "sit":
		for a := range attributes(data) {
			switch a.typ {
			case iflaIPTunLocal:
				l.tunnel.local = append([]byte(nil), a.data...)
			case iflaIPTunRemote:
				l.tunnel.remote = append([]byte(nil), a.data...)
			}
		}
	}
}
