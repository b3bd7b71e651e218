package config

import (
	"encoding/hex"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// decode fills the configuration. Order: what others take their defaults from comes first.
func (p *parser) decode(blocks hcl.Blocks) {
	p.decodeBGP(blocks.OfType("bgp"))
	for _, b := range blocks.OfType("network") {
		p.decodeNetwork(b)
	}
	for _, b := range blocks.OfType("node") {
		p.decodeNode(b)
	}
	for _, b := range blocks.OfType("peer") {
		p.decodePeer(b)
	}
	for _, b := range blocks.OfType("workload") {
		p.decodeWorkload(b)
	}
	p.decodeDaemon(blocks.OfType("daemon"))
}

func (p *parser) single(blocks hcl.Blocks) *block {
	if len(blocks) == 0 {
		return nil
	}
	for _, b := range blocks[1:] {
		p.report.errorf(b.DefRange, b.Type+": only one block", "The file has a %s block at %s:%d already.", b.Type, blocks[0].DefRange.Filename, blocks[0].DefRange.Start.Line)
	}
	return p.open(blocks[0])
}

func (p *parser) decodeBGP(blocks hcl.Blocks) {
	g := BGP{ASN: 64512, Mesh: true, ListenPort: 179, GracefulRestart: 120 * time.Second, HoldTime: 9 * time.Second, Multipath: true, Advertise: []string{"blocks"}}
	if b := p.single(blocks); b != nil {
		g.Pos = b.pos()
		g.ASN = b.asn("asn", g.ASN)
		g.Mesh = b.boolean("mesh", true)
		g.MeshSet, p.meshRange = b.has("mesh"), b.at("mesh")
		g.ListenPort = uint16(b.integer("listen_port", 179, 1, 65535))
		g.PasswordFile = b.passwordFile()
		g.GracefulRestart = b.duration("graceful_restart", g.GracefulRestart)
		if g.GracefulRestart > 4095*time.Second {
			b.fail("graceful_restart", "The restart time has 12 bits (RFC 4724): \"4095s\" at most.")
		}
		if g.GracefulRestart%time.Second != 0 {
			b.fail("graceful_restart", "Whole seconds are wanted (RFC 4724).")
		}
		g.HoldTime = b.holdTime(g.HoldTime)
		g.Multipath = b.boolean("multipath", true)
		if list := b.list("advertise"); b.has("advertise") {
			g.Advertise = slices.Concat(list) // nil where it is empty
			for _, a := range g.Advertise {
				if a != "blocks" && a != "workloads" {
					b.fail("advertise", "%q is unknown; \"blocks\" and \"workloads\" are wanted.", a)
				}
			}
		}
		g.TTLSecurity = b.boolean("ttl_security", false)
		g.TTLSecuritySet = b.has("ttl_security")
	}
	p.config.BGP = g
}

func (p *parser) decodeNetwork(hb *hcl.Block) {
	b := p.open(hb)
	n := Network{Name: b.name(hb.Labels[0]), Pos: b.pos(), VNI: 4096, Port: 4789, Encapsulate: Always}
	before := len(p.report.list)
	n.Pools = b.prefixes("pools")
	unsure := !b.has("pools") || len(p.report.list) > before || slices.Contains(b.vague, "pools")
	p.poolsUnsure = p.poolsUnsure || unsure || len(n.Pools) == 0
	if len(n.Pools) == 0 && !unsure {
		b.fail("pools", "A network needs at least one pool.")
	}
	n.Mode = Mode(b.oneOf("mode", "", "ipip", "vxlan", "bgp"))
	n.Encapsulate = Encapsulate(b.oneOf("encapsulate", string(Always), string(Always), string(CrossSubnet)))
	if n.Mode == ModeBGP && b.has("encapsulate") {
		b.fail("encapsulate", "Mode bgp encapsulates nothing; take the line out.")
	}
	for _, m := range b.list("receive") {
		switch Mode(m) {
		case ModeIPIP, ModeVXLAN, ModeBGP:
			n.Receive = append(n.Receive, Mode(m))
		default:
			b.fail("receive", "%q is no mode; \"ipip\", \"vxlan\" and \"bgp\" are.", m)
		}
	}
	n.NATOutgoing = b.boolean("nat_outgoing", true)
	n.NATOutgoing6 = b.boolean("nat_outgoing6", false)
	n.NATExempt = b.prefixes("nat_exempt")
	n.MTU = int(b.integer("mtu", 0, 1, 65535))
	for _, s := range b.list("reserved") {
		p, err := netip.ParsePrefix(s)
		if a, aerr := netip.ParseAddr(s); aerr == nil {
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Masked() != p {
			b.fail("reserved", "%q is neither an address nor a CIDR.", s)
			continue
		}
		n.Reserved = append(n.Reserved, p)
	}
	for i, sub := range b.subs {
		if i > 0 {
			p.report.errorf(sub.DefRange, b.title+": only one vxlan block", "The network has one at line %d already.", b.subs[0].DefRange.Start.Line)
			continue
		}
		v := p.open(sub)
		n.VNI = uint32(v.integer("vni", 4096, 1, 1<<24-1))
		n.Port = uint16(v.integer("port", 4789, 1, 65535))
		n.vxlanRange = sub.DefRange
	}
	n.rng, n.poolsRange, n.mtuRange = b.rng, b.at("pools"), b.at("mtu")
	p.config.Networks = append(p.config.Networks, n)
}

func (p *parser) decodeNode(hb *hcl.Block) {
	b := p.open(hb)
	n := Node{Name: b.name(hb.Labels[0]), Pos: b.pos(), BlocksPos: posOf(b.at("blocks"))}
	n.Address = b.underlay("address", false)
	n.Address6 = b.underlay("address6", true)
	for name, a := range map[string]netip.Prefix{"address": n.Address, "address6": n.Address6} {
		n.addressUnsure = n.addressUnsure || b.has(name) && !a.IsValid() || slices.Contains(b.meant, name)
	}
	if !n.addressUnsure && !b.has("address") && !b.has("address6") {
		n.addressUnsure = true
		p.report.errorf(b.rng, b.title+": no address", "Give the host's underlay address with its prefix length: address = \"192.168.170.137/24\".")
	}
	n.RouterID = b.id("router_id", "A router id")
	if !b.has("router_id") && n.Address.IsValid() {
		n.RouterID = n.Address.Addr()
	}
	before := len(p.report.list)
	n.Blocks = b.prefixes("blocks")
	n.blocksUnsure = !b.has("blocks") || len(p.report.list) > before
	n.Interface = b.str("interface", "")
	if n.Interface != "" && !linkForm.MatchString(n.Interface) {
		b.fail("interface", "%q is no name of a network interface.", n.Interface)
	}
	n.ASN = b.asn("asn", p.config.BGP.ASN)
	n.RouteReflector = b.id("route_reflector", "A cluster id")
	n.Labels = b.stringMap("labels")
	n.rng, n.blocksRange, n.addressRange = b.rng, b.at("blocks"), b.at("address")
	p.config.Nodes = append(p.config.Nodes, n)
}

func (p *parser) decodePeer(hb *hcl.Block) {
	b := p.open(hb)
	x := Peer{Name: b.name(hb.Labels[0]), Pos: b.pos(), LocalPref: -1}
	x.Address = b.addr("address")
	if x.Address.IsUnspecified() || x.Address.IsMulticast() || x.Address.IsLoopback() {
		b.fail("address", "%q is not an address of a router.", x.Address)
	}
	x.ASN = b.asn("asn", 0)
	x.Nodes = b.list("nodes")
	x.MatchLabels = b.stringMap("match_labels")
	if b.has("nodes") && b.has("match_labels") {
		b.fail("match_labels", "Give nodes or match_labels, not both.")
	}
	x.Port = uint16(b.integer("port", 179, 1, 65535))
	x.PasswordFile = b.passwordFile()
	x.Multihop = int(b.integer("multihop", 0, 1, 255))
	x.TTLSecurity = b.boolean("ttl_security", false)
	if x.TTLSecurity && x.Multihop > 0 {
		b.fail("ttl_security", "ttl_security and multihop exclude each other.")
	}
	x.Passive = b.boolean("passive", false)
	if x.Passive && x.Address.IsLinkLocalUnicast() {
		b.fail("passive", "netd does not listen on link-local addresses: it dials such a router. Take the line out, and have the router wait.")
	}
	x.HoldTime = b.holdTime(p.config.BGP.HoldTime)
	x.Import, x.ImportSet = b.ranges("import"), b.has("import")
	x.Export, x.ExportSet = b.ranges("export"), b.has("export")
	x.Communities = slices.Concat(b.list("communities"))
	if n := len(x.Communities); n > communitiesMost {
		b.fail("communities", "%d are too many: write %d at most. A BGP message has 4,096 bytes, and others' attributes in it as well.", n, communitiesMost)
	}
	for _, c := range x.Communities {
		if !validCommunity(c) {
			b.fail("communities", "%q is no community: \"65000:1\", \"65000:1:2\" or a well-known name (%s) is wanted.", c, strings.Join(wellKnownCommunities, ", "))
		}
	}
	x.Prepend = int(b.integer("prepend", 0, 0, 10))
	x.LocalPref = int(b.integer("local_pref", -1, 1, 1<<32-1))
	x.MaxPrefixes = int(b.integer("max_prefixes", 1000, 1, 1<<32-1))
	x.NextHopSelf = b.boolean("next_hop_self", true)
	x.DefaultRoute = b.boolean("default_route", false)
	x.rng, x.nodesRange = b.rng, b.at("nodes")
	p.config.Peers = append(p.config.Peers, x)
}

// communitiesMost are, all of them large, the greater part of what the speaker leaves free in a message (pathMost in reconcile/speaker).
const communitiesMost = 64

var wellKnownCommunities = []string{"graceful-shutdown", "blackhole", "no-export", "no-advertise", "no-export-subconfed", "no-peer"}

func validCommunity(s string) bool {
	if slices.Contains(wellKnownCommunities, s) {
		return true
	}
	parts := strings.Split(s, ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	for _, part := range parts {
		if _, err := strconv.ParseUint(part, 10, max(bits, 1)); err != nil {
			return false
		}
	}
	return bits != 0
}

func (p *parser) decodeWorkload(hb *hcl.Block) {
	b := p.open(hb)
	w := Workload{Name: b.name(hb.Labels[0]), Pos: b.pos()}
	w.Node = b.str("node", "")
	w.Addresses = b.addresses("address")
	w.Docker, w.Containerd, w.Netns = b.str("docker", ""), b.str("containerd", ""), b.str("netns", "")
	given := 0
	for _, s := range []string{w.Docker, w.Containerd, w.Netns} {
		if s != "" {
			given++
		}
	}
	if given != 1 && len(b.vague) == 0 {
		p.report.errorf(b.rng, b.title+": which container?", "Give one of docker = \"NAME\", containerd = \"NAMESPACE/ID\" and netns = \"/run/netns/NAME\".")
	}
	if space, id, _ := strings.Cut(w.Containerd, "/"); w.Containerd != "" && (space == "" || id == "" || strings.Contains(id, "/")) {
		b.fail("containerd", "%q is not \"NAMESPACE/ID\".", w.Containerd)
	}
	if w.Netns != "" && !strings.HasPrefix(w.Netns, "/") {
		b.fail("netns", "%q is no absolute path.", w.Netns)
	}
	w.Interface = b.str("interface", "eth0")
	if !linkForm.MatchString(w.Interface) || w.Interface == "lo" {
		b.fail("interface", "%q is no name for an interface in a container.", w.Interface)
	}
	if s := b.str("mac", ""); s != "" {
		raw, err := hex.DecodeString(strings.ReplaceAll(s, ":", ""))
		if err != nil || len(raw) != 6 || raw[0]&1 != 0 || len(s) != 17 || [6]byte(raw) == [6]byte{} {
			b.fail("mac", "%q is no unicast MAC address such as \"02:00:00:00:00:01\".", s)
		} else {
			w.MAC = [6]byte(raw)
		}
	}
	w.Network = b.str("network", "")
	w.rng, w.addressRange, w.nodeRange = b.rng, b.at("address"), b.at("node")
	w.networkRange = b.at("network")
	p.config.Workloads = append(p.config.Workloads, w)
}

func (p *parser) decodeDaemon(blocks hcl.Blocks) {
	b := p.single(blocks)
	if b == nil {
		return
	}
	p.config.Daemon = Daemon{Hold: b.oneOf("on_change", "apply", "apply", "hold") == "hold", HTTP: b.str("http", ""), Pos: b.pos()}
	if h := p.config.Daemon.HTTP; h != "" {
		if _, err := netip.ParseAddrPort(h); err != nil {
			b.fail("http", "%q is no address with a port, such as \"127.0.0.1:9142\".", h)
		}
	}
}
