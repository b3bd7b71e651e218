package config

import (
	"encoding/json"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// Parts of files with faults.
const (
	lab = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "vxlan"
}
`
	nodeA = `node "a" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}
`
	pair = lab + nodeA + `node "b" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}
`
)

func inNetwork(lines string) string { return strings.Replace(pair, `"vxlan"`, "\"vxlan\"\n"+lines, 1) }
func inNode(lines string) string {
	return strings.Replace(pair, `"192.168.170.137/24"`, "\"192.168.170.137/24\"\n"+lines, 1)
}
func inBGP(lines string) string      { return pair + "bgp {\n" + lines + "\n}\n" }
func inPeer(lines string) string     { return pair + "peer \"tor\" {\n" + lines + "\n}\n" }
func inWorkload(lines string) string { return pair + "workload \"w\" {\n" + lines + "\n}\n" }

const (
	tor = "address = \"192.168.170.1\"\nasn = 65100\n"
	web = "node = \"a\"\naddress = \"10.10.40.130\"\n"
)

// faults are files with one fault each, the message's title, and words that must be in what it says.
var faults = []struct{ text, title, says string }{
	// The file as a whole.
	{"locals { x = 1 }", "no network", "add a network block"},
	{lab, "no node", "no host will find itself in it"},
	{pair + "node \"a\" {\naddress = \"192.168.170.139/24\"\nblocks = []\n}", `node "a": declared twice`, "give one of them another name"},
	{pair + "peer \"p\" {\n" + tor + "}\npeer \"p\" {\naddress = \"192.168.170.2\"\nasn = 65100\n}", `peer "p": declared twice`, ""},
	{pair + "network \"lab\" {\npools = [\"10.11.0.0/16\"]\nmode = \"bgp\"\n}", `network "lab": declared twice`, ""},
	{inWorkload(web + "docker = \"x\"\n}\nworkload \"w\" {\nnode = \"a\"\naddress = \"10.10.40.131\"\ndocker = \"y\""), `workload "w": declared twice`, ""},
	{pair + "bgp {\n}\nbgp {\n}\n", "bgp: only one block", "has a bgp block at"},
	{pair + "node \"-\" {\naddress = \"192.168.170.139/24\"\nblocks = []\n}", `node "-": wrong name`, "begins with a letter or digit"},
	{pair + "variable \"x\" {}\n", "variable without a value", "NETD_VAR_x"},
	{pair + "variable \"x\" { default = 1 }\nvariable \"x\" { default = 2 }", "variable declared twice", ""},
	{pair + "variable \"a b\" {}\n", "wrong name of a variable", "cannot be written as var.NAME"},
	{inNode("labels = { x = local.blok }") + "locals { block = 1 }", "Unknown local", `Did you mean "block"?`},
	{inNode("labels = { x = var.blok }") + "variable \"block\" { default = 1 }", "Unknown variable", `Did you mean "block"?`},
	{strings.Replace(pair, `"vxlan"`, "vxlan", 1), "Unknown variable", `Text stands in quotes: "vxlan".`},
	{inNode("labels = { x = blok }") + "locals { block = 1 }", "Unknown variable", "written local.NAME and var.NAME"},
	{strings.Replace(inWorkload(web+"docker = \"x\""), "blocks ", "bloks ", 1), `node "a": unknown attribute`, `Did you mean "blocks"?`},
	{strings.Replace(inWorkload(web+"docker = \"x\""), "  blocks  = [\"10.10.40.128/26\"]\n", "", 1), `node "a": blocks is missing`, "a list of CIDRs"},
	{strings.Replace(pair, "address ", "adress ", 1), `node "a": unknown attribute`, `Did you mean "address"?`},
	{strings.Replace(pair, "pools ", "pool ", 1), `network "lab": unknown attribute`, `Did you mean "pools"?`},
	{strings.Replace(pair, "mode ", "modus ", 1), `network "lab": unknown attribute`, `Did you mean "mode"?`},
	{inNetwork("vxlan { vni = 7, port = 8472 }"), "several attributes on one line", "on a line of its own"},
	{pair + "dynamic \"network\" {\nfor_each = range(60000)\nlabels = [\"n${network.key}\"]\ncontent {\npools = [\"10.11.0.0/16\"]\nmode = \"vxlan\"\n" +
		"dynamic \"vxlan\" {\nfor_each = range(60000)\ncontent {\n}\n}\n}\n}", "too many blocks", "more than 65536"},
	{pair + "locals {\n a = 1\n}\nlocals {\n a = 2\n}", "local defined twice", "local.a"},
	{pair + "locals {\n a = local.b\n b = local.a\n}", "locals refer to themselves", "local.a"},

	// network
	{inNode("labels = \x00"), "not a text file", "no UTF-8 text"},
	{strings.Replace(pair, `192.168.170.138/24"`, "192.168.170.138/24", 1), "Invalid multi-line string", ""},
	{inNetwork("rezerved = []"), `network "lab": unknown attribute`, `Did you mean "reserved"?`},
	{strings.NewReplacer(`["10.10.0.0/16"]`, `["10.10.0.0/16", "fd00::/48"]`, `"vxlan"`, "\"vxlan\"\nreceive = [\"ipip\"]").Replace(pair), `network "lab": ipip carries IPv4 only`, ""},
	{pair + "peer \"left\" {\naddress = \"fe80::1%eth0\"\nasn = 65101\n}\npeer \"right\" {\naddress = \"fe80::1%eth1\"\nasn = 65102\n}\n", `peer "right": address taken`, "on one link only"},
	{pair + "networks \"x\" {}\n", "unknown block", `Did you mean "network"?`},
	{pair + "pool = 1\n", "unknown attribute", `An attribute named "pool" is not expected here`},
	{pair + "variable \"x\" {\n  default = 1\n  defalt = 1\n}\n", "unknown attribute", `An attribute named "defalt" is not expected here`},
	{pair + "bgp \"x\" {}\n", "Extraneous label for bgp", "It has no name: bgp { … }"},
	{pair + "network \"x\" \"y\" {}\n", "Extraneous label for network", "It has one name: network \"NAME\" { … }"},
	{inNode("interface = \"eth0\"\ninterface = \"eth1\""), "attribute set twice", `The attribute "interface" was already set at `},
	{pair + "locals {\n  x = abs(1)\n}\n", "Call to unknown function", "The functions are cidrhost, "},
	{inNetwork("colour = 1"), `network "lab": unknown attribute`, `"colour" is not expected`},
	{inNetwork("box {}"), `network "lab": unknown block`, ""},
	{strings.Replace(pair, `pools = ["10.10.0.0/16"]`, "", 1), `network "lab": pools is missing`, "a list of CIDRs"},
	{strings.Replace(pair, `["10.10.0.0/16"]`, "[]", 1), `network "lab": wrong pools`, "at least one pool"},
	{strings.Replace(pair, `["10.10.0.0/16"]`, `["10.10.0.0/16", null]`, 1), `network "lab": wrong pools`, "a null in it"},
	{strings.Replace(pair, `["10.10.0.0/16"]`, `["10.10.0.0"]`, 1), `network "lab": wrong pools`, `A single address is "10.10.0.0/32"`},
	{strings.Replace(pair, `["10.10.0.0/16"]`, `["10.10.0.1/16"]`, 1), `network "lab": wrong pools`, `is "10.10.0.0/16" meant?`},
	{strings.Replace(pair, `["10.10.0.0/16"]`, `{ a = [] }`, 1), `network "lab": wrong pools`, "A list of strings is wanted here"},
	{strings.Replace(pair, `"vxlan"`, `"bgp"`+"\nencapsulate = \"always\"", 1), `network "lab": wrong encapsulate`, "encapsulates nothing"},
	{strings.Replace(pair, `["10.10.0.0/16"]`, "null", 1), `network "lab": pools is missing`, "a list of CIDRs"},
	{strings.Replace(pair, `"vxlan"`, "null", 1), `network "lab": mode is missing`, `"ipip", "vxlan" or "bgp"`},
	{strings.Replace(pair, `"192.168.170.137/24"`, "null", 1), `node "a": no address`, "with its prefix length"},
	{strings.Replace(pair, `["10.10.40.128/26"]`, "null", 1), `node "a": blocks is missing`, "a list of CIDRs"},
	{inPeer("address = \"192.168.170.1\"\nasn = null"), `peer "tor": asn is missing`, "a number"},
	{inNetwork(`encapsulate = "never"`), `network "lab": wrong encapsulate`, `"always", "cross-subnet"`},
	{inNetwork(`receive = ["gre"]`), `network "lab": wrong receive`, `"gre" is no mode`},
	{inNetwork(`reserved = ["10.10.40.129/26"]`), `network "lab": wrong reserved`, "neither an address nor a CIDR"},
	{inNetwork(`nat_outgoing = "perhaps"`), `network "lab": wrong nat_outgoing`, `true or false is wanted here, not "perhaps"`},
	{inNetwork("mtu = 67"), `network "lab": mtu too small`, "IPv4 needs at least 68 bytes; 67 is given"},
	{strings.Replace(inNetwork("mtu = 1279"), `["10.10.0.0/16"]`, `["10.10.0.0/16", "fd00::/48"]`, 1), `network "lab": mtu too small`, "IPv6 needs at least 1280 bytes; 1279 is given"},
	{inNetwork("mtu = 70000"), `network "lab": wrong mtu`, "A whole number is wanted between 1 and 65535"},
	{inNetwork("mtu = 1400.5"), `network "lab": wrong mtu`, "A whole number"},
	{inNetwork("mtu = \"large\""), `network "lab": wrong mtu`, `A number is wanted here, not "large"`},
	{inNetwork("vxlan {}\nvxlan {}"), `network "lab": only one vxlan block`, ""},
	{inNetwork("vxlan {\nvni = 16777216\n}"), "vxlan: wrong vni", "between 1 and 16777215"},
	{pair + "network \"two\" {\npools = [\"10.10.64.0/18\"]\nmode = \"bgp\"\n}", `network "two": pools overlap`, `10.10.64.0/18 overlaps 10.10.0.0/16 of network "lab"`},
	{pair + "network \"two\" {\npools = [\"10.11.0.0/16\"]\nmode = \"vxlan\"\n}", `network "two": vxlan (vni, port) taken`, "vni = 4097"},
	{strings.Replace(pair, `"vxlan"`, `"ipip"`, 1) + "network \"two\" {\npools = [\"10.11.0.0/16\"]\nmode = \"ipip\"\nmtu = 1400\n}", `network "two": ipip networks share one mtu`, "use tunl0"},
	{strings.Replace(pair, `["10.10.0.0/16"]`, `["10.10.0.0/16", "fd00::/48"]`, 1) + "network \"two\" {\npools = [\"fd01::/48\"]\nmode = \"ipip\"\n}", `network "two": ipip carries IPv4 only`, ""},
	{strings.Replace(strings.Replace(pair, `"vxlan"`, `"ipip"`, 1), `address = "192.168.170.137/24"`, `address6 = "fd09::1/64"`, 1), `network "lab": nodes without address`, "give address to"},
	{strings.Replace(pair, `address = "192.168.170.137/24"`, `address6 = "fd09::1/64"`, 1), `network "lab": no family for all nodes`, "Without address: "},

	// node
	{strings.Replace(pair, `address = "192.168.170.137/24"`, "", 1), `node "a": no address`, "with its prefix length"},
	{strings.Replace(pair, `"192.168.170.137/24"`, `"192.168.170.137"`, 1), `node "a": wrong address`, "the same as on the host's interface"},
	{strings.Replace(pair, `"192.168.170.137/24"`, `"fd09::1/64"`, 1), `node "a": wrong address`, "is no IPv4 address"},
	{strings.Replace(pair, `"192.168.170.137/24"`, `"192.168.170.0/24"`, 1), `node "a": wrong address`, "first or last address of its subnet"},
	{strings.Replace(pair, `"192.168.170.137/24"`, `"192.168.171.255/22"`, 1), `node "a": wrong address`, "first or last address of its subnet"},
	{strings.Replace(pair, `"192.168.170.137/24"`, `"127.0.0.1/8"`, 1), `node "a": wrong address`, "not an address of a host"},
	{inNode(`address6 = "192.168.170.137/24"`), `node "a": wrong address6`, "is no IPv6 address"},
	{strings.Replace(pair, "192.168.170.138", "192.168.170.137", 1), `node "b": address taken`, `the address of node "a"`},
	{inNode(`router_id = "fd09::1"`), `node "a": wrong router_id`, "as an IPv4 address"},
	{inNode(`router_id = "0.0.0.0"`), `node "a": wrong router_id`, "other than 0.0.0.0"},
	{inNode(`route_reflector = "0.0.0.0"`), `node "a": wrong route_reflector`, "other than 0.0.0.0"},
	{inNode(`router_id = "one"`), `node "a": wrong router_id`, `"one" is no IP address`},
	{inNode(`interface = "a/b"`), `node "a": wrong interface`, "no name of a network interface"},
	{inNode(`route_reflector = "fd09::1"`), `node "a": wrong route_reflector`, "as an IPv4 address"},
	{inNode("asn = 23456"), `node "a": wrong asn`, "AS_TRANS"},
	{inNode("asn = 65535"), `node "a": wrong asn`, "65535 is reserved (RFC 7300)"},
	{inNode("asn = 4294967295"), `node "a": wrong asn`, "4294967295 is reserved (RFC 7300)"},
	{inNode("asn = 4294967296"), `node "a": wrong asn`, "between 1 and 4294967295"},
	{inNode("labels = \"rack\""), `node "a": wrong labels`, "A map of strings"},
	{strings.Replace(pair, `["10.10.40.128/26"]`, `["10.11.40.128/26"]`, 1), `node "a": block outside every pool`, "in no network's pool (10.10.0.0/16)"},
	{strings.Replace(pair, `["10.10.40.128/26"]`, `["10.10.40.128/26", "10.10.40.160/27"]`, 1), `node "a": blocks overlap`, "10.10.40.160/27 overlaps 10.10.40.128/26 of the same node"},
	{strings.Replace(pair, `["10.10.40.128/26"]`, `["10.10.194.0/24"]`, 1), `node "b": block overlaps one of node "a"`, "needs blocks of its own"},
	{strings.Replace(pair, `["10.10.40.128/26"]`, `["10.10.40.128/32"]`, 1), `node "a": no address for the tunnel`, "two or more"},
	{strings.Replace(strings.Replace(pair, `["10.10.0.0/16"]`, `["192.168.0.0/16", "10.10.0.0/16"]`, 1), `["10.10.40.128/26"]`, `["192.168.170.0/26"]`, 1), `node "a": block overlaps the underlay`, "would no longer be reached"},
	{strings.Replace(pair, `["10.10.0.0/16"]`, `["10.10.0.0/16", "192.168.0.0/16"]`, 1), `network "lab": pool overlaps the underlay`, "would cut hosts off"},
	{strings.Replace(strings.Replace(pair, `"vxlan"`, `"bgp"`, 1), `address = "192.168.170.137/24"`, "address6 = \"fd09::1/64\"\nrouter_id = \"1.1.1.1\"", 1), `node "a": no address`, "needs an IPv4 next hop"},
	{strings.NewReplacer(`"vxlan"`, `"bgp"`, `["10.10.0.0/16"]`, `["10.10.0.0/16", "fd00::/48"]`, `["10.10.40.128/26"]`, `["fd00::/64"]`).Replace(pair), `node "a": no address6`, "needs an IPv6 next hop"},
	{strings.NewReplacer(`"vxlan"`, `"bgp"`, "192.168.170.138", "192.168.171.138").Replace(pair), `node "b": no way to node "a"`, "are in different subnets"},

	// bgp
	{pair + "network \"six\" {\npools = [\"fd00::/48\"]\nmode = \"bgp\"\n}\nnode \"c\" {\nrouter_id = \"1.1.1.1\"\naddress6 = \"fd01::1/64\"\nblocks = [\"fd00::/64\"]\n}\n" +
		"node \"d\" {\nrouter_id = \"1.1.1.2\"\naddress6 = \"fd02::1/64\"\nblocks = [\"fd00:0:0:1::/64\"]\n}\n", `node "d": no way to node "c"`, "d (fd02::/64) and c (fd01::/64) are in different subnets"},
	{strings.NewReplacer(`"vxlan"`, `"bgp"`, "192.168.170.138/24\"", "192.168.170.138/24\"\nrouter_id = \"192.168.170.137\"").Replace(pair), `node "b": router_id taken`, `Node "a"`},
	{strings.NewReplacer(`address = "192.168.170.137/24"`, `address6 = "fd09::1/64"`, `["10.10.40.128/26"]`, "[]").Replace(inPeer(tor)), `node "a": no router_id`, "since the node has no address"},
	{strings.Replace(pair, `"192.168.170.138/24"`, "\"192.168.170.138/24\"\nasn = 65001\nroute_reflector = \"1.1.1.1\"", 1), `node "a": another AS than its reflector`, "RFC 4456"},
	{inBGP("asn = 0"), "bgp: wrong asn", "between 1 and 4294967295"},
	{inBGP("asn = 23456"), "bgp: wrong asn", "AS_TRANS"},
	{inBGP("asn = 65535"), "bgp: wrong asn", "64512 to 65534"},
	{inBGP("asn = 4294967295"), "bgp: wrong asn", "4200000000 to 4294967294"},
	{inBGP("listen_port = 0"), "bgp: wrong listen_port", "between 1 and 65535"},
	{inBGP(`graceful_restart = "4096s"`), "bgp: wrong graceful_restart", `"4095s" at most`},
	{inBGP(`graceful_restart = "soon"`), "bgp: wrong graceful_restart", "is no duration"},
	{inBGP(`graceful_restart = "1500ms"`), "bgp: wrong graceful_restart", "Whole seconds"},
	{inBGP(`hold_time = "2s"`), "bgp: wrong hold_time", "at least 3 (RFC 4271) and at most 65535"},
	{inBGP(`hold_time = "0s"`), "bgp: wrong hold_time", "at least 3 (RFC 4271)"},
	{strings.Replace(inBGP("mesh = false"), `"vxlan"`, `"bgp"`, 1), "bgp: no sessions", "no node learns"},
	{inBGP(`password_file = ""`), "bgp: wrong password_file", "Take the line out"},
	{inBGP(`router_id = "1.1.1.1"`), "bgp: unknown attribute", "It is an attribute of node."},
	{inBGP(`advertise = ["pools"]`), "bgp: wrong advertise", `"pools" is unknown`},

	// peer
	{inPeer("asn = 65100"), `peer "tor": address is missing`, ""},
	{inPeer("address = \"192.168.170.138\"\nasn = 65100"), `peer "tor": a node of the file`, `is node "b"`},
	{inPeer("address = \"192.168.170.1\"\nasn = 23456"), `peer "tor": wrong asn`, "AS_TRANS"},
	{inPeer("address = \"192.168.170.1\"\nasn = 65535"), `peer "tor": wrong asn`, "reserved (RFC 7300)"},
	{inPeer("address = \"192.168.170.1\"\nasn = 4294967295"), `peer "tor": wrong asn`, "reserved (RFC 7300)"},
	{inPeer(tor + `nodes = ["c"]`), `peer "tor": unknown node`, `no node "c"`},
	{inPeer(tor + "nodes = [\"a\"]\nmatch_labels = { x = \"y\" }"), `peer "tor": wrong match_labels`, "not both"},
	{inPeer("address = \"0.0.0.0\"\nasn = 65100"), `peer "tor": wrong address`, "not an address of a router"},
	{inPeer("address = \"127.0.0.1\"\nasn = 65100"), `peer "tor": wrong address`, "not an address of a router"},
	{inPeer("address = \"192.168.170.255\"\nasn = 65100"), `peer "tor": wrong address`, "first or the last address of the subnet of node"},
	{inPeer("address = \"fe80::1\"\nasn = 65100\npassive = true"), `peer "tor": wrong passive`, "does not listen on link-local addresses"},
	{inPeer(tor + `hold_time = "0s"`), `peer "tor": wrong hold_time`, "at least 3 (RFC 4271)"},
	{inPeer(tor + `password_file = ""`), `peer "tor": wrong password_file`, "Take the line out"},
	{inPeer(tor + `graceful_restart = "10s"`), `peer "tor": unknown attribute`, "It is an attribute of bgp."},
	{inPeer(tor + `remote_as = 65100`), `peer "tor": unknown attribute`, "The attributes of peer are address, asn, "},
	{inPeer(tor + `nodes = []`), `peer "tor": no node`, "nobody has this session"},
	{inPeer(tor + `match_labels = { x = "y" }`), `peer "tor": no node matches`, "nobody has this session"},
	{inPeer(tor + "}\npeer \"two\" {\n" + tor), `peer "two": address taken`, `has a session with 192.168.170.1 from peer "tor"`},
	{inPeer(tor + "ttl_security = true\nmultihop = 2"), `peer "tor": wrong ttl_security`, "exclude each other"},
	{inPeer(tor + "multihop = 256"), `peer "tor": wrong multihop`, "between 1 and 255"},
	{inPeer(tor + "local_pref = 0"), `peer "tor": wrong local_pref`, "between 1 and 4294967295"},
	{inPeer("address = \"192.168.170.1\"\nasn = 64512\nprepend = 1"), `peer "tor": prepend within an AS`, "Take prepend out"},
	{inPeer(tor + "prepend = 11"), `peer "tor": wrong prepend`, "between 0 and 10"},
	{inPeer(tor + "hold_time = \"1500ms\""), `peer "tor": wrong hold_time`, "Whole seconds"},
	{inPeer(tor + "communities = [\"65536:1\"]"), `peer "tor": wrong communities`, "is no community"},
	{inPeer(tor + "communities = [" + strings.Repeat(`"65000:1", `, 65) + "]"), `peer "tor": wrong communities`, "65 are too many"},
	{inPeer(tor + "import = [\"10.0.0.0/8 le\"]"), `peer "tor": wrong import`, "not a prefix with ge and le"},
	{inPeer(tor + "import = [\"10.0.0.1/8\"]"), `peer "tor": wrong import`, "10.0.0.1/8 has bits set behind its length, 10.0.0.0/8 has not"},
	{inPeer(tor + "import = [\"ten\"]"), `peer "tor": wrong import`, `"ten": ten is no prefix`},
	{inPeer(tor + "export = [\"10.0.0.0/8 le 33\"]"), `peer "tor": wrong export`, "le 33 is not possible"},
	{inPeer(tor + "export = [\"10.0.0.0/8 eq 16\"]"), `peer "tor": wrong export`, "neither ge nor le"},
	{inPeer(tor + "export = [\"10.0.0.0/8 ge 24 le 16\"]"), `peer "tor": wrong export`, "ge is larger than le"},

	// workload
	{inWorkload(strings.Replace(web, `"a"`, `"c"`, 1) + `docker = "x"`), `workload "w": unknown node`, `no node "c"`},
	{inWorkload(web), `workload "w": which container?`, "Give one of"},
	{inWorkload(web + "docker = \"x\"\nnetns = \"/run/netns/x\""), `workload "w": which container?`, ""},
	{inWorkload(web + `containerd = "x"`), `workload "w": wrong containerd`, "NAMESPACE/ID"},
	{inWorkload(web + `containerd = "/x"`), `workload "w": wrong containerd`, "NAMESPACE/ID"},
	{inWorkload(web + `containerd = "x/"`), `workload "w": wrong containerd`, "NAMESPACE/ID"},
	{inWorkload(web + `netns = "x"`), `workload "w": wrong netns`, "no absolute path"},
	{inWorkload(web + "docker = \"x\"\ninterface = \"lo\""), `workload "w": wrong interface`, "in a container"},
	{inWorkload(web + "docker = \"x\"\nmac = \"01:00:00:00:00:01\""), `workload "w": wrong mac`, "no unicast MAC"},
	{inWorkload(web + "docker = \"x\"\nmac = \"00:00:00:00:00:00\""), `workload "w": wrong mac`, "no unicast MAC"},
	{inWorkload(web + "docker = \"x\"\nnetwork = \"lap\""), `workload "w": unknown network`, `Did you mean "lab"?`},
	{inWorkload(web + "docker = \"x\"\nnetwork = \"other\""), `workload "w": unknown network`, `no network "other"`},
	{strings.Replace(inWorkload(web+"docker = \"x\"\nnetwork = \"two\""), lab, lab+"network \"two\" {\npools = [\"10.11.0.0/16\"]\nmode = \"bgp\"\n}\n", 1), `workload "w": another network`, `of network "lab", not "two"`},
	{inWorkload(web + "docker = \"x\"\n}\nworkload \"v\" {\nnode = \"a\"\naddress = \"10.10.40.131\"\ndocker = \"x\""), `workload "v": container taken`, `Workload "w"`},
	{inWorkload(web + "docker = \"x\"\n}\nworkload \"v\" {\n" + web + "docker = \"y\""), `workload "v": address taken`, `10.10.40.130 is the address of workload "w"`},
	{inWorkload("node = \"a\"\naddress = \"10.10.194.130\"\ndocker = \"x\""), `workload "w": address outside its node's blocks`, `It lies in 10.10.194.128/26 of node "b"`},
	{inWorkload("node = \"a\"\naddress = \"10.10.40.128\"\ndocker = \"x\""), `workload "w": the tunnel's address`, "Take another"},
	{inWorkload("node = \"a\"\naddress = [\"10.10.40.130\", \"10.10.40.131\"]\ndocker = \"x\""), `workload "w": wrong address`, "one IPv4 and one IPv6"},
	{inWorkload("node = \"a\"\naddress = \"ten\"\ndocker = \"x\""), `workload "w": wrong address`, "is no IP address"},

	// daemon
	{pair + "daemon {\non_change = \"ask\"\n}", "daemon: wrong on_change", `"apply", "hold"`},
	{pair + "daemon {\nhttp = \"9142\"\n}", "daemon: wrong http", "no address with a port"},
}

// TestEachFault has a file with each fault that netd finds: it is told, in the fault's words, with its place, and no other
// error is. That each is here is held against the source.
func TestEachFault(t *testing.T) {
	for _, good := range []string{pair, inNetwork("mtu = 68"), strings.Replace(inNetwork("mtu = 1280"), `["10.10.0.0/16"]`, `["10.10.0.0/16", "fd00::/48"]`, 1),
		inBGP("hold_time = \"3s\"\ngraceful_restart = \"4095s\""), inPeer(tor + "prepend = 10\nmultihop = 255\ncommunities = [" + strings.Repeat(`"65535:1:1", `, 64) + "]")} {
		if _, ds := parse(t, "netd.hcl", good, nil); len(ds) > 0 {
			t.Errorf("%v in:\n%s", []Diagnostic(ds), good)
		}
	}
	var told []Diagnostic
	for _, x := range faults {
		_, ds := parse(t, "netd.hcl", x.text, nil)
		found, errs := false, 0
		for _, d := range ds {
			found = found || d.Summary == x.title && strings.Contains(d.Detail, x.says)
			if d.Severity == "error" {
				errs++
			}
			if d.File == "" || d.Line == 0 || d.Column == 0 || d.Source == "" && x.title != "no network" {
				t.Errorf("%s: without a place: %+v", x.title, d)
			}
		}
		if !found || errs > 1 || errs == 0 && len(ds) != 1 {
			t.Errorf("want one fault, %q with %q, got %+v in:\n%s", x.title, x.says, []Diagnostic(ds), x.text)
		}
		told = append(told, ds...)
	}
	for _, file := range []string{"check.go", "checkbgp.go", "overlap.go", "decode.go", "block.go"} {
		for _, f := range formats(t, file) {
			pattern := regexp.MustCompile("(?s)^" + regexp.MustCompile(`%[a-z]`).ReplaceAllString(regexp.QuoteMeta(f), ".*") + "$")
			met := false
			for _, d := range told {
				met = met || pattern.MatchString(d.Detail)
			}
			if !met && !strings.Contains(f, "more than %d bytes") && f != "The value is not known." { // TestHostile; and what HCL itself finds before
				t.Errorf("%s: no file here has the fault %q", file, f)
			}
		}
	}
}

// TestAllAtOnce: one that is set twice hides nothing else that is wrong, and JSON is told in the words of the native syntax.
func TestAllAtOnce(t *testing.T) {
	for name, x := range map[string]struct {
		text string
		want []string
	}{
		"netd.hcl": {strings.Replace(inNode("interface = \"eth0\"\ninterface = \"eth1\""), `"vxlan"`, `"gre"`, 1),
			[]string{`network "lab": wrong mode`, "attribute set twice"}},
		"netd.json": {`{"network": {"lab": {"pools": ["10.10.0.0/16"], "mode": "vxlan", "vxlan": {"vnj": 5}}},
			"node": {"a": {"address": "192.168.170.137/24", "blocks": [], "adress6": "x", "blocks": []}}}`,
			[]string{"vxlan: unknown attribute", `node "a": unknown attribute`, "attribute set twice"}},
	} {
		_, ds := parse(t, name, x.text, nil)
		var got []string
		for _, d := range ds {
			got = append(got, d.Summary)
		}
		if !slices.Equal(got, x.want) {
			t.Errorf("%s: %q, want %q", name, got, x.want)
		}
	}
}

// TestLongValue: a message quotes the beginning of a value that is very long, and still says what to do.
func TestLongValue(t *testing.T) {
	long := strings.Repeat("ä", 400_000)
	for _, text := range []string{strings.Replace(pair, `"vxlan"`, `"`+long+`"`, 1), strings.Replace(pair, `network "lab"`, `network "`+long+`"`, 1), inNode("labels = local.a") + "locals {\n  a = \"" + long + "\"\n}\n",
		pair + "node \"c\" {\n  address = \"" + long + "\"\n  blocks  = [\"" + long + "\"]\n}\n"} {
		_, ds := parse(t, "netd.hcl", text, nil)
		if !ds.HasErrors() {
			t.Fatal("no fault")
		}
		for _, d := range ds {
			if len(d.Summary)+len(d.Detail) > 3000 || !utf8.ValidString(d.Detail) || !strings.HasSuffix(d.Detail, ".") {
				t.Errorf("%d and %d bytes: %.200s … %s", len(d.Summary), len(d.Detail), d.Summary, d.Detail[max(0, len(d.Detail)-200):])
			}
		}
	}
}

// TestNull: null is an attribute left out, whichever optional one it is: it has its default.
func TestNull(t *testing.T) {
	for _, doc := range Schema {
		text := map[string]string{"network": pair, "node": pair, "bgp": inBGP("\n"), "peer": inPeer(tor), "workload": inWorkload(web + `docker = "x"`), "daemon": pair + "daemon {\n}\n"}[doc.Type]
		at := strings.LastIndex(text, "}")
		if doc.Type == "network" {
			at = strings.Index(text, "}")
		}
		given := text[strings.LastIndex(text[:at], doc.Type):at]
		for _, a := range doc.Attributes {
			if regexp.MustCompile(`(?m)^\s*` + a.Name + `\s*=`).MatchString(given) {
				continue
			}
			read := func(line string) *Config {
				c, ds := parse(t, "netd.hcl", text[:at]+line+"\n"+text[at:], nil)
				if c == nil {
					t.Fatalf("%s: %v", line, ds)
				}
				c.Digest = ""
				return c
			}
			got, err := json.Marshal(read(a.Name + " = null"))
			if err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(read("# nothing"))
			if err != nil {
				t.Fatal(err)
			}
			files := regexp.MustCompile(`"[^"]*netd.hcl"`) // each in a folder of its own
			if got, want := files.ReplaceAllString(string(got), ""), files.ReplaceAllString(string(want), ""); got != want {
				t.Errorf("%s: %s = null: %s\nleft out: %s", doc.Type, a.Name, got, want)
			}
		}
	}
}

// formats are the texts of the faults that a source file reports.
func formats(t *testing.T, file string) []string {
	t.Helper()
	src, err := goparser.ParseFile(token.NewFileSet(), filepath.Base(file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(src, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		at, found := map[string]int{"errorf": 2, "warnf": 2, "fail": 1}[nameOf(call.Fun)]
		if !found || len(call.Args) <= at {
			return true
		}
		if lit, ok := call.Args[at].(*ast.BasicLit); ok {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out = append(out, s)
			}
		}
		return true
	})
	if len(out) == 0 {
		t.Errorf("%s reports nothing", file)
	}
	return out
}

func nameOf(f ast.Expr) string {
	if s, ok := f.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}
