package config

// BlockDoc describes a kind of block: what the decoder accepts and what the reference page prints.
type BlockDoc struct {
	Type       string
	Label      string // what stands behind the type, "" for none
	Doc        string
	Attributes []AttributeDoc
	Blocks     []BlockDoc
}

// AttributeDoc describes an attribute.
type AttributeDoc struct {
	Name     string
	Required bool
	Type     string
	Default  string // as it would be written; "" for none
	Doc      string
}

// Schema is every block that the file may hold, in the order of the reference page.
var Schema = []BlockDoc{
	{Type: "network", Label: "NAME", Doc: "Pools of addresses whose packets travel between nodes in one way. One or more; the pools of different networks do not overlap.", Attributes: []AttributeDoc{
		{Name: "pools", Required: true, Type: "list of CIDRs", Doc: "The addresses of the network's containers. Every node's block lies in exactly one pool, which gives the block its network."},
		{Name: "mode", Required: true, Type: `"ipip", "vxlan" or "bgp"`, Doc: "How packets between nodes travel: in IPv4 (RFC 2003), in UDP (RFC 7348), or bare, by routes learned over BGP (RFC 4271)."},
		{Name: "encapsulate", Type: `"always" or "cross-subnet"`, Default: `"always"`, Doc: "cross-subnet: bare between nodes whose addresses share a subnet. Not with mode bgp."},
		{Name: "receive", Type: "list of modes", Doc: "Modes whose packets are accepted besides the network's own: the step between two modes."},
		{Name: "nat_outgoing", Type: "bool", Default: "true", Doc: "Masquerade IPv4 that leaves a pool for an address in no pool."},
		{Name: "nat_outgoing6", Type: "bool", Default: "false", Doc: "The same for IPv6."},
		{Name: "nat_exempt", Type: "list of CIDRs", Doc: "Destinations that are not masqueraded."},
		{Name: "mtu", Type: "number", Doc: "Bytes of a container's packet. Derived: the underlay link's MTU less 20 (ipip), 50 or 70 (vxlan over IPv4 or IPv6), 0 (bgp)."},
		{Name: "reserved", Type: "list of addresses and CIDRs", Doc: "Never handed out automatically."},
	}, Blocks: []BlockDoc{
		{Type: "vxlan", Doc: "The VXLAN device of the network. Two networks with one (vni, port) are an error; where they share a vni, the one at the lowest port has the name of that VNI (vxlan.netd for 4096, netdvx7 for 7), another netdx with both in hexadecimal.", Attributes: []AttributeDoc{
			{Name: "vni", Type: "number", Default: "4096", Doc: "The VXLAN network identifier, 24 bits."},
			{Name: "port", Type: "number", Default: "4789", Doc: "The UDP port."},
		}},
	}},
	{Type: "node", Label: "NAME", Doc: "One host.", Attributes: []AttributeDoc{
		{Name: "address", Type: "address with prefix length", Doc: "The host's underlay address, as on its interface. Needed unless address6 is given."},
		{Name: "address6", Type: "address with prefix length", Doc: "The same for IPv6. Needed for IPv6 blocks in mode bgp."},
		{Name: "router_id", Type: "IPv4 address", Default: "address", Doc: "The BGP identifier. Needed for BGP without address."},
		{Name: "blocks", Required: true, Type: "list of CIDRs", Doc: "The addresses of this node's containers; may be empty. The first is the tunnel's, and addresses are handed out in this order."},
		{Name: "interface", Type: "string", Doc: "The underlay link. The one that holds address; needed where two links hold it, or lo does."},
		{Name: "asn", Type: "number", Default: "bgp.asn", Doc: "The node's autonomous system."},
		{Name: "route_reflector", Type: "IPv4 address", Doc: "A cluster id: this node reflects, and the others peer with reflectors only."},
		{Name: "labels", Type: "map of strings", Doc: "What a peer's match_labels selects by."},
	}},
	{Type: "bgp", Doc: "What all sessions share. At most one; mode bgp works without it.", Attributes: []AttributeDoc{
		{Name: "asn", Type: "number", Default: "64512", Doc: "The autonomous system of the nodes."},
		{Name: "mesh", Type: "bool", Doc: "Every node has a session with every other. On while no node is a route reflector."},
		{Name: "listen_port", Type: "number", Default: "179", Doc: "The TCP port of the sessions between nodes."},
		{Name: "password_file", Type: "path", Doc: "A file with the TCP MD5 password (RFC 2385) of the mesh: owned by root, mode 0600 or 0400."},
		{Name: "graceful_restart", Type: "duration", Default: `"120s"`, Doc: "The restart time (RFC 4724); \"0s\" turns it off."},
		{Name: "hold_time", Type: "duration", Default: `"9s"`, Doc: "The hold time offered; at least 3 s."},
		{Name: "multipath", Type: "bool", Default: "true", Doc: "Several equal next hops for a prefix."},
		{Name: "advertise", Type: "list", Default: `["blocks"]`, Doc: "\"blocks\", also \"workloads\": each container's /32."},
		{Name: "ttl_security", Type: "bool", Doc: "GTSM (RFC 5082) between nodes. On where two nodes share a subnet."},
	}},
	{Type: "peer", Label: "NAME", Doc: "A router outside the file: a ToR switch, an external route reflector.", Attributes: []AttributeDoc{
		{Name: "address", Required: true, Type: "address", Doc: "The router's address."},
		{Name: "asn", Required: true, Type: "number", Doc: "The router's autonomous system."},
		{Name: "nodes", Type: "list of node names", Doc: "The nodes that have this session. All."},
		{Name: "match_labels", Type: "map of strings", Doc: "Instead of nodes: those that have all these labels."},
		{Name: "port", Type: "number", Default: "179", Doc: "The router's TCP port."},
		{Name: "password_file", Type: "path", Doc: "A file with the TCP MD5 password of the session."},
		{Name: "multihop", Type: "number", Doc: "Hops to the router. Directly attached."},
		{Name: "ttl_security", Type: "bool", Default: "false", Doc: "GTSM (RFC 5082): the router must send TTL 255."},
		{Name: "passive", Type: "bool", Default: "false", Doc: "Wait for the router to open the session."},
		{Name: "hold_time", Type: "duration", Default: "bgp.hold_time", Doc: "The hold time offered to this router."},
		{Name: "import", Type: "prefix list", Doc: "What may be learned: \"10.0.0.0/8\", \"10.0.0.0/8 le 24\", \"10.0.0.0/8 ge 16 le 24\". Nothing for eBGP; the blocks of the file's bgp networks for iBGP."},
		{Name: "export", Type: "prefix list", Doc: "What may be told. The node's own blocks, of all networks."},
		{Name: "communities", Type: "list", Doc: "Put on what is exported: \"65000:1\", \"65000:1:2\" or a well-known name; at most 64."},
		{Name: "prepend", Type: "number", Default: "0", Doc: "0 to 10 times the own AS, on export."},
		{Name: "local_pref", Type: "number", Doc: "LOCAL_PREF of what is imported: 100 from another AS where left out, within one what it has."},
		{Name: "max_prefixes", Type: "number", Default: "1000", Doc: "A family; more closes the session."},
		{Name: "next_hop_self", Type: "bool", Default: "true", Doc: "Exported routes have the node as next hop."},
		{Name: "default_route", Type: "bool", Default: "false", Doc: "Accept 0.0.0.0/0 and ::/0."},
	}},
	{Type: "workload", Label: "NAME", Doc: "A container declared in the file. Give one of docker, containerd and netns.", Attributes: []AttributeDoc{
		{Name: "node", Required: true, Type: "node name", Doc: "Where it runs."},
		{Name: "address", Required: true, Type: "address or list", Doc: "One address, or a list with one IPv4 and one IPv6, in the node's blocks."},
		{Name: "docker", Type: "string", Doc: "The container's name, or its id: all of it, or the first 12 digits or more."},
		{Name: "containerd", Type: "string", Doc: "\"NAMESPACE/ID\"."},
		{Name: "netns", Type: "path", Doc: "A network namespace."},
		{Name: "interface", Type: "string", Default: `"eth0"`, Doc: "The link's name in the container."},
		{Name: "mac", Type: "MAC address", Doc: "The link's address in the container. Computed from the name."},
		{Name: "network", Type: "network name", Doc: "The network whose pool holds the address: checked when given."},
	}},
	{Type: "daemon", Doc: "How `netd run` behaves.", Attributes: []AttributeDoc{
		{Name: "on_change", Type: `"apply" or "hold"`, Default: `"apply"`, Doc: "Take each valid change of the file at once, or hold it until `netd apply`."},
		{Name: "http", Type: "address and port", Doc: "Where metrics and the page are served. Nowhere."},
	}},
}

// docOf returns the description of a kind of block, at the top level or within one.
func docOf(kind string) BlockDoc {
	for _, b := range Schema {
		if b.Type == kind {
			return b
		}
		for _, sub := range b.Blocks {
			if sub.Type == kind {
				return sub
			}
		}
	}
	return BlockDoc{Type: kind}
}
