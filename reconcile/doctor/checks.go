package doctor

// Checks are all checks, from the host's inside to the wire.
var Checks = []Check{
	{"module", "the kernel has what the file's modes need: ipip, vxlan, nf_tables", module},
	{"forwarding", "the underlay link forwards, and no sysctl.d file takes that or rp_filter back from new links", forwarding},
	{"rp-filter", "the tunnels take packets whose way back is another link (rp_filter 2)", rpFilter},
	{"udp-port", "the UDP port of each VXLAN network is the kernel's", udpPort},
	{"bgp-port", "the BGP port is the speaker's", bgpPort},
	{"foreign-routes", "no other program has routes into the pools", foreignRoutes},
	{"networkd", "systemd-networkd leaves netd's links and routes alone", networkd},
	{"networkmanager", "NetworkManager leaves netd's links alone", networkManager},
	{"forward-policy", "what a firewall's policy drops by default (Docker, ufw) is accepted for netd's links", forwardPolicy},
	{"firewall", "no other table rejects what is forwarded or what the other nodes send: firewalld, ufw, Docker's nftables", firewall},
	{"raw-drops", "no rule drops packets of the pools before anything else is asked", rawDrops},
	{"legacy-iptables", "no iptables-legacy rules beside nftables'", legacyIPTables},
	{"duplicate-address", "nobody else on the wire has a node's address", duplicates},
	{"clocks", "the clocks of the nodes agree, and this one's is kept", clocks},
	{"path-mtu", "the way to each node carries what the link does", pathMTU},
	{"checksum-offload", "TCP passes a tunnel that pings pass", checksumOffload},
}
