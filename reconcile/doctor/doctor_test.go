package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/reconcile/object"
)

const none = `{"nftables": [{"metainfo": {"version": "1.0.6"}}]}`

func nft(objects string) map[string]string {
	return map[string]string{"nft -j list ruleset": `{"nftables": [` + objects + `]}`}
}

// firewalld has the form of firewalld's own tables, written by hand: base chains that end in a reject.
const firewalld = `{"chain":{"family":"inet","table":"firewalld","name":"filter_FORWARD","handle":9,"type":"filter","hook":"forward","prio":10,"policy":"accept"}},
{"chain":{"family":"inet","table":"firewalld","name":"filter_INPUT","handle":8,"type":"filter","hook":"input","prio":10,"policy":"accept"}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_FORWARD","handle":30,"expr":[{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}},{"accept":null}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_FORWARD","handle":31,"expr":[{"reject":{"type":"icmpx","expr":"admin-prohibited"}}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_INPUT","handle":40,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"tcp","field":"dport"}},"right":22}},{"accept":null}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_INPUT","handle":41,"expr":[{"reject":{"type":"icmpx","expr":"admin-prohibited"}}]}}`

// ufw, written by hand: it drops by iptables' policies; nft shows what it has no words for as xt.
const ufw = `{"chain":{"family":"ip","table":"filter","name":"FORWARD","handle":2,"type":"filter","hook":"forward","prio":0,"policy":"drop"}},
{"chain":{"family":"ip","table":"filter","name":"INPUT","handle":1,"type":"filter","hook":"input","prio":0,"policy":"drop"}},
{"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":5,"expr":[{"xt":{"type":"match","name":"conntrack"}},{"counter":{}},{"accept":null}]}}`

// docker29 has the form of the table of Docker's own nftables backend, written by hand: no DOCKER-USER in it.
const docker29 = `{"chain":{"family":"ip","table":"docker-bridges","name":"filter-FORWARD","handle":1,"type":"filter","hook":"forward","prio":0,"policy":"%s"}},
{"rule":{"family":"ip","table":"docker-bridges","chain":"filter-FORWARD","handle":4,"expr":[{"match":{"op":"==","left":{"meta":{"key":"oifname"}},"right":"docker0"}},{"drop":null}]}}`

// firewalldZones are the jumps between its chains, and that to the zone of the underlay.
const firewalldZones = `{"rule":{"family":"inet","table":"firewalld","chain":"filter_FORWARD","handle":20,"expr":[{"jump":{"target":"filter_FORWARD_ZONES"}}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_INPUT","handle":21,"expr":[{"jump":{"target":"filter_IN_public_allow"}}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_FORWARD_ZONES","handle":22,"expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"vxlan.netd"}},{"goto":{"target":"filter_FWD_netd"}}]}},`

// strict is a chain that drops all but what a rule accepts.
func strict(hook, expr string) string {
	out := `{"chain":{"family":"inet","table":"strict","name":"x","hook":"` + hook + `","prio":0,"policy":"drop"}}`
	if expr != "" {
		out += `,{"rule":{"family":"inet","table":"strict","chain":"x","handle":3,"expr":[` + expr + `,{"accept":null}]}}`
	}
	return out
}

// tooOften is a chain that drops what comes too often, and accepts the rest.
func tooOften(hook string, prio int) string {
	return fmt.Sprintf(`{"chain":{"family":"inet","table":"often","name":"x","hook":%q,"prio":%d,"policy":"accept"}},
{"rule":{"family":"inet","table":"often","chain":"x","handle":3,"expr":[{"limit":{"rate":400,"per":"second","inv":true}},{"drop":null}]}}`, hook, prio)
}

func from(value string) string {
	return `{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":` + value + `}}`
}

const udp4789 = `,{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":4789}}`

// against is a base chain of nftables' that accepts, but for what rules, expressions with their verdict, say.
func against(hook string, rules ...string) string {
	out := `{"chain":{"family":"inet","table":"open","name":"x","hook":"` + hook + `","prio":0,"policy":"accept"}}`
	for i, expr := range rules {
		out += fmt.Sprintf(`,{"rule":{"family":"inet","table":"open","chain":"x","handle":%d,"expr":[%s]}}`, 7+i, strings.TrimPrefix(expr, ","))
	}
	return out
}

const drop = `,{"drop":null}`

// opened is what a chain has to forward in mode vxlan.
const opened = `nft insert rule CHAIN iifname '{ "netd*" }' oifname '{ "netd*", "vxlan.netd" }' ip saddr '{ 10.10.0.0/16 }' ip daddr '{ 10.10.0.0/16 }' accept
nft insert rule CHAIN iifname '{ "vxlan.netd" }' oifname '{ "netd*" }' ip saddr '{ 10.10.0.0/16, 192.168.170.138 }' ip daddr '{ 10.10.0.0/16 }' accept
nft insert rule CHAIN iifname '{ "netd*" }' oifname '{ "ens33" }' ip saddr '{ 10.10.0.0/16 }' accept
nft insert rule CHAIN iifname '{ "ens33" }' oifname '{ "netd*" }' ip daddr '{ 10.10.0.0/16 }' ct state established,related accept    # until`

// openedBare is that in mode bgp with a router outside the file and a default route by another link.
const openedBare = `nft insert rule inet strict x iifname '{ "netd*" }' oifname '{ "netd*" }' ip saddr '{ 10.10.0.0/16, 192.168.170.138 }' ip daddr '{ 10.10.0.0/16 }' accept
nft insert rule inet strict x iifname '{ "netd*" }' oifname '{ "ens33", "eth9" }' ip saddr '{ 10.10.0.0/16 }' accept
nft insert rule inet strict x iifname '{ "ens33", "eth9" }' oifname '{ "netd*" }' ip daddr '{ 10.10.0.0/16 }' ct state established,related accept
nft insert rule inet strict x iifname '{ "ens33" }' oifname '{ "netd*" }' ip saddr '{ 10.10.0.0/16, 172.20.0.0/14, 192.168.170.138 }' ip daddr '{ 10.10.0.0/16 }' accept    # until`

// openedRules are two of its rules, as nft prints them.
func openedRules(pool string) string {
	pools := func(field string) string {
		return `,{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"` + field + `"}},"right":{"set":[{"prefix":{"addr":"` + pool + `","len":16}}]}}}`
	}
	return meta("==", "iifname", `{"set":["netd*"]}`) + "," + meta("==", "oifname", `{"set":["netd*","vxlan.netd"]}`) + pools("saddr") + pools("daddr") +
		`,{"accept":null}]}},{"rule":{"family":"inet","table":"strict","chain":"x","handle":4,"expr":[` +
		meta("==", "iifname", `{"set":["vxlan.netd"]}`) + "," + meta("==", "oifname", `{"set":["netd*"]}`) + pools("saddr") + pools("daddr")
}

// routes are the programs of a host with a default route by eth9.
func routes(objects string) map[string]string {
	out := nft(objects)
	out["ip -4 -j -d route show default table all"] = `[{"type":"unicast","dst":"default","gateway":"10.0.0.1","dev":"eth9","protocol":"bird"}]`
	return out
}

// Modes with more of the file behind them.
const (
	six    = "vxlan\"\n}\nnetwork \"six\" {\n  pools = [\"2001:db8:10::/48\"]\n  vxlan {\n    vni = 7\n  }\n  mode  = \"vxlan"
	routed = "bgp\"\n}\npeer \"tor\" {\n  address = \"192.168.170.1\"\n  asn = 65000\n  import = [\"172.20.0.0/14 le 24\"]\n}\nbgp {\n  asn = 64512 # "
	third  = "vxlan\"\n}\nnode \"c\" {\n  address = \"192.168.170.150/24\"\n  blocks = [\"10.10.3.0/24\"] # "
	many   = "vxlan\"\n}\nlocals {\n  all = range(40)\n}\ndynamic \"node\" {\n  for_each = { for i in local.all : format(\"n%d\", i) => i }\n  labels = [node.key]\n  content {\n    address = \"${cidrhost(\"192.168.170.0/24\", 2 * node.value + 1)}/24\"\n    blocks = []\n  }\n}\nlocals { # "
)

// packaged is a file of the package's.
func packaged(name string) string {
	b, err := os.ReadFile("../../packaging/" + name)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// TestPackaged: what doctor writes against those who manage links is what the package has, but for the comments.
func TestPackaged(t *testing.T) {
	files := map[string]string{"/run/systemd/netif/state": "x", "/sys/class/net/netd1/ifindex": "7\n", "/run/systemd/netif/links/7": "NETWORK_FILE=/x/50.network\n", "/run/NetworkManager/devices/1": ""}
	s := site(t, "vxlan", recorded{files: files, programs: nmHost("").programs})
	var typed string
	for _, f := range append(networkd(context.Background(), s), networkManager(context.Background(), s)...) {
		typed += f.Fix + "\n"
	}
	for name, at := range map[string]string{"networkd/zz-netd.conf": "/etc/systemd/networkd.conf.d/zz-netd.conf", "networkd/00-netd.network": "/etc/systemd/network/00-netd.network", "NetworkManager/zz-netd.conf": "/etc/NetworkManager/conf.d/zzz-netd.conf"} {
		var lines []string
		for line := range strings.Lines(packaged(name)) {
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		if want := put(at, strings.Join(lines, "")); !strings.Contains(typed, want+"\n") {
			t.Errorf("%s: no command is\n%s\nof\n%s", name, want, typed)
		}
	}
}

// sysctls is a host with these files.
func sysctls(names ...string) recorded {
	files := map[string]string{}
	for i := 0; i < len(names); i += 2 {
		files[names[i]] = names[i+1]
	}
	return recorded{files: files}
}

// nmHost is a host whose NetworkManager has these links, with files of its own.
func nmHost(links string, names ...string) recorded {
	r := sysctls(append(names, "/run/NetworkManager/devices/1", "")...)
	var said strings.Builder
	for line := range strings.Lines(links) {
		name, state, _ := strings.Cut(strings.TrimSpace(line), ":")
		said.WriteString("GENERAL.DEVICE:" + name + "\nGENERAL.STATE:" + state + "\n\n")
	}
	r.programs = map[string]string{"nmcli -t -f GENERAL.DEVICE,GENERAL.STATE device show": said.String()}
	return r
}

// held is a host whose process 9 has the VXLAN port open.
func held(command, group string) recorded {
	return recorded{files: map[string]string{"/proc/net/udp": "sl\n 1: 00000000:12B5 00000000:0000 07 0:0 0:0 0 0 0 77 2\n", "/proc/9/cmdline": command, "/proc/9/cgroup": group},
		links: map[string]string{"/proc/9/fd/3": "socket:[77]"}}
}

// bird is a host whose BGP port is BIRD's, with default routes as ip prints them.
func bird(routes string) recorded {
	return recorded{files: map[string]string{"/proc/net/tcp": "sl\n 1: 00000000:00B3 00000000:0000 0A 0:0 0:0 0 0 0 77 2\n", "/proc/9/cmdline": "bird\x00-f\x00", "/proc/9/cgroup": "0::/system.slice/bird.service"},
		links: map[string]string{"/proc/9/fd/3": "socket:[77]"}, programs: map[string]string{"ip -4 -j -d route show default table all": routes, "nft -j list ruleset": none}}
}

// postrouting is a chain of NAT with one rule.
func postrouting(expr string) string {
	return `{"chain":{"family":"ip","table":"own","name":"POST","handle":1,"type":"nat","hook":"postrouting","prio":100,"policy":"accept"}},
{"rule":{"family":"ip","table":"own","chain":"POST","handle":7,"expr":[` + expr + `]}}`
}

func meta(op, key, value string) string {
	return `{"match":{"op":"` + op + `","left":{"meta":{"key":"` + key + `"}},"right":` + value + `}}`
}

// programs are those that a fix runs, but for what any line of a shell has, and for the package of a program that was not there to look with.
func programs(fix string) (out []string) {
	for line := range strings.Lines(regexp.MustCompile(`'[^']*'`).ReplaceAllString(fix, "TEXT")) {
		line, _, _ = strings.Cut(line, "    # ")
		for _, part := range regexp.MustCompile(`&&|\|\|?|;|\bdo\b|\$?\(|\)`).Split(line, -1) {
			f := strings.Fields(part)
			if len(f) > 0 && !strings.Contains(f[0], "=") && regexp.MustCompile(`^[a-z]`).MatchString(f[0]) && line != "apt-get install nftables" &&
				!slices.Contains([]string{"mkdir", "printf", "echo", "cat", "mv", "grep", "umask", "while", "done", "dpkg"}, f[0]) {
				out = append(out, f[0])
			}
		}
	}
	return out
}

// TestChecks: what each check says of a recorded host that a namespace cannot be.
func TestChecks(t *testing.T) {
	const secret = "bgp\"\n}\nbgp {\n  password_file = \"/etc/netd/it's"
	addr := netip.MustParseAddr
	for _, x := range []struct {
		name, check, mode string
		host              recorded
		level             Level
		says, fix         string
		safe              bool
	}{
		{"OK vxlan is built in", "module", "vxlan", recorded{files: map[string]string{"/proc/sys/kernel/osrelease": "6.1.0\n", "/lib/modules/6.1.0/modules.builtin": "kernel/drivers/net/vxlan/vxlan.ko\n"}, programs: nft("")}, OK, "nf_tables, vxlan", "", false},
		{"OK ipip is loaded", "module", "ipip", recorded{files: map[string]string{"/proc/sys/net/ipv4/conf/tunl0/mtu": "1"}, programs: nft("")}, OK, "ipip", "", false},
		{"bad ipip is there and not loaded", "module", "ipip", recorded{files: map[string]string{"/proc/sys/kernel/osrelease": "6.1.0", "/lib/modules/6.1.0/modules.dep": "kernel/net/ipv4/ipip.ko: kernel/net/ipv4/ip_tunnel.ko"}, programs: nft("")}, Warn, "the module ipip is there and not loaded", "modprobe ipip", true},
		{"bad no ipip", "module", "ipip", recorded{files: map[string]string{"/proc/sys/kernel/osrelease": "6.1.0"}, programs: nft("")}, Fail, "the kernel 6.1.0 has no ipip", "apt-get install linux-image-$(dpkg --print-architecture)    # ", false},
		{"bad no ipip on Ubuntu", "module", "ipip", recorded{files: map[string]string{"/proc/sys/kernel/osrelease": "6.1.0", "/etc/os-release": "NAME=Ubuntu\nID=ubuntu\n"}, programs: nft("")}, Fail, "the kernel 6.1.0 has no ipip", "apt-get install linux-modules-extra-6.1.0    # ", false},
		{"bad no ipip on Fedora", "module", "ipip", recorded{files: map[string]string{"/proc/sys/kernel/osrelease": "6.1.0", "/usr/bin/dnf": ""}, programs: nft("")}, Fail, "the kernel 6.1.0 has no ipip", "dnf install kernel-modules-extra    # ", false},
		{"bad udev makes new links strict", "new-links", "vxlan", sysctls("/etc/sysctl.d/99-hard.conf", "net.ipv4.conf.*.rp_filter = 1\n"), Warn, "/etc/sysctl.d/99-hard.conf says net.ipv4.conf.*.rp_filter = 1: udev", `rp_filter = 2\n-net.ipv4.conf.netd*.forwarding = 1\n' > /etc/sysctl.d/zzz-netd.conf`, true},
		{"bad a later pattern beats one that is for netd", "new-links", "vxlan\"\n  vxlan {\n    vni = 7\n  } # ", sysctls("/etc/sysctl.d/99-hard.conf", "net/ipv4/conf/*/rp_filter=1\n", "/usr/lib/sysctl.d/60-other.conf", "net.ipv4.conf.netdvx*.rp_filter = 2\n"), Warn, "99-hard.conf", "-net.ipv4.conf.netdvx7.rp_filter = 2", true},
		{"bad new links do not forward", "new-links", "vxlan", sysctls("/usr/lib/sysctl.d/50-hard.conf", "net.ipv4.conf.*.forwarding=0"), Warn, "50-hard.conf says net.ipv4.conf.*.forwarding = 0: udev", "-net.ipv4.conf.netd*.forwarding = 1", true},
		{"bad nor does the underlay", "new-links", "vxlan", sysctls("/run/sysctl.d/50-hard.conf", "net.ipv4.conf.ens33.forwarding=0"), Warn, "/run/sysctl.d/50-hard.conf says net.ipv4.conf.ens33.forwarding = 0: at the next boot", "zz-netd-underlay.conf", false},
		{"OK the link's own line beats a later pattern", "new-links", "vxlan", sysctls("/etc/sysctl.d/99-hard.conf", "net.ipv4.conf.*.rp_filter = 1\n", "/usr/lib/sysctl.d/60-other.conf", "-net.ipv4.conf.vxlan/netd.rp_filter = 2\n"), OK, "none of 2 lines", "", false},
		{"OK a line without a value: no pattern sets it", "new-links", "vxlan", sysctls("/etc/sysctl.d/99-hard.conf", "net.ipv4.conf.*.rp_filter = 1\n-net.ipv4.conf.vxlan/netd.rp_filter\n"), OK, "", "", false},
		{"OK /etc hides the file", "new-links", "vxlan", sysctls("/usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 1\n", "/etc/sysctl.d/50-default.conf", "# net.ipv4.conf.*.rp_filter = 1\n"), OK, "none of 0 lines", "", false},
		{"OK the package's file beats a pattern that is not for netd", "new-links", "vxlan\"\n  vxlan {\n    vni = 7\n  } # ", sysctls("/etc/sysctl.d/99-hard.conf", "net.ipv4.conf.*.rp_filter = 1\n", "/etc/sysctl.d/local.conf", "net.ipv4.conf.*.rp_filter = 1\n", "/usr/lib/sysctl.d/zz-netd.conf", packaged("sysctl.d/zz-netd.conf")), OK, "none of 5 lines", "", false},
		{"bad a file after all others", "new-links", "vxlan", sysctls("/etc/sysctl.d/zzzz.conf", "net.ipv4.conf.vxlan/netd.rp_filter = 1\nnet.ipv4.conf.ens33.forwarding = 0\n"), Warn, "zzzz.conf says net.ipv4.conf.vxlan.netd.rp_filter = 1: udev", "/etc/sysctl.d/~zzz-netd.conf", true},
		{"bad nor does the underlay, by that", "new-links", "vxlan", sysctls("/etc/sysctl.d/zzzz.conf", "net.ipv4.conf.vxlan/netd.rp_filter = 1\nnet.ipv4.conf.ens33.forwarding = 0\n"), Warn, "at the next boot", "/etc/sysctl.d/~zz-netd-underlay.conf", false},
		{"bad no link has the address", "address", "vxlan", recorded{}, Fail, "no link of this host holds the node's address 192.168.170.137", "ip addr add 192.168.170.137/24 dev ens33", false},
		{"bad of several links none has it", "address", "vxlan", recorded{files: map[string]string{"/proc/sys/net/ipv4/conf/eth0/mtu": "", "/proc/sys/net/ipv4/conf/eth1/mtu": ""}, nowhere: true}, Fail, "no link of this host", "ip addr add 192.168.170.137/24 dev LINK", false},
		{"bad the only link has it not", "address", "vxlan", recorded{files: map[string]string{"/proc/sys/net/ipv4/conf/eth0/mtu": "", "/proc/sys/net/ipv4/conf/docker0/mtu": "", "/proc/sys/net/ipv4/conf/netd1/mtu": ""}, nowhere: true}, Fail, "no link of this host", "ip addr add 192.168.170.137/24 dev eth0", false},
		{"bad another host has it", "address", "vxlan", recorded{claims: map[netip.Addr][]object.MAC{addr("192.168.170.137"): {{2, 0, 0, 0, 0, 9}}}}, Fail, "which 02:00:00:00:00:09 on ens33 has", "hostnamectl set-hostname NAME    # ", false},
		{"bad the link has it with another prefix", "address", "vxlan", recorded{held: "192.168.170.137/16"}, Warn, "ens33 holds the node's address as 192.168.170.137/16", "echo 1 > /proc/sys/net/ipv4/conf/ens33/promote_secondaries && ip addr add 192.168.170.137/24 dev ens33 && ip addr del 192.168.170.137/16 dev ens33", false},
		{"bad a small path", "path-mtu", "vxlan", recorded{paths: []Path{{MTU: 1400, Link: "ens33", LinkMTU: 1500}}}, Fail, "carries 1400 bytes, ens33 1500", "ip link set dev ens33 mtu 1400", false},
		{"bad a path too small for IPv6", "path-mtu", "vxlan", recorded{paths: []Path{{MTU: 1200, Link: "ens33", LinkMTU: 1500}}}, Fail, "carries 1200 bytes, ens33 1500", "tracepath -n 192.168.170.138    # ", false},
		{"bad more nodes than fit", "neighbours", "vxlan", recorded{programs: map[string]string{"ip -j ntable show": `[{"family":"inet","thresh3":1},{"family":"inet","dev":"lo"},{"family":"inet6","thresh3":0}]`,
			"ip -4 -j neigh show": `[{"dst":"192.168.170.138","state":["REACHABLE"]},{"dst":"192.168.170.1","state":["STALE"]},{"dst":"10.10.40.1","state":["PERMANENT"]}]`}}, Warn,
			"1 nodes in 192.168.170.0/24 and 1 others are more neighbours than fit (net.ipv4.neigh.default.gc_thresh3 is 1)", "sysctl -q -p /etc/sysctl.d/60-netd-neighbours-ipv4.conf", false},
		{"OK they fit", "neighbours", "vxlan", recorded{programs: map[string]string{"ip -j ntable show": `[{"family":"inet","thresh3":1024}]`, "ip -4 -j neigh show": "[]"}}, OK, "1 of 1024", "", false},
		{"bad a masquerade of all", "masquerade", "bgp", recorded{programs: nft(postrouting(`{"masquerade":null}`))}, Warn, "ip own POST handle 7 gives what containers here send to those of other nodes by ens33 another source", "nft insert rule ip own POST ip saddr '{ 10.10.0.0/16 }' ip daddr '{ 10.10.0.0/16 }' accept", false},
		{"bad a masquerade of iptables by the link", "masquerade", "vxlan", recorded{programs: nft(strings.ReplaceAll(postrouting(meta("==", "oifname", `"vxlan*"`)+`,{"counter":null},{"xt":{"type":"target","name":"MASQUERADE"}}`), `"own"`, `"nat"`))}, Warn, "by vxlan.netd another source", "iptables -t nat -I POSTROUTING -s 10.10.0.0/16 -d 10.10.0.0/16 -j ACCEPT", false},
		{"OK a masquerade by another link", "masquerade", "vxlan", recorded{programs: nft(postrouting(meta("==", "oifname", `"ens33"`) + `,{"masquerade":null}`))}, OK, "", "", false},
		{"OK a masquerade of Docker's own", "masquerade", "bgp", recorded{programs: nft(postrouting(meta("!=", "oifname", `"docker0"`) + `,{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"172.17.0.0","len":16}}}},{"masquerade":null}`))}, OK, "", "", false},
		{"OK a masquerade of what is marked", "masquerade", "bgp", recorded{programs: nft(postrouting(meta("==", "mark", "4") + `,{"masquerade":null}`))}, OK, "", "", false},
		{"OK the pools are accepted before", "masquerade", "bgp", recorded{programs: nft(postrouting(`{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":{"set":[{"prefix":{"addr":"10.10.0.0","len":16}},"10.9.0.1"]}}},{"accept":null}`) +
			`,{"rule":{"family":"ip","table":"own","chain":"POST","handle":8,"expr":[{"masquerade":null}]}}`)}, OK, "", "", false},
		{"bad another's route", "foreign-routes", "bgp", recorded{routes: []object.Held{{Dst: netip.MustParsePrefix("10.10.7.0/24"), Dev: "ens33", Table: 254, Who: "protocol bird (12)", Proto: 12}}}, Fail, "route 10.10.7.0/24 dev ens33 of protocol bird (12)", "ip route del 10.10.7.0/24 dev ens33 table 254 proto 12    # ", false},
		{"bad another's blackhole", "foreign-routes", "bgp", recorded{routes: []object.Held{{Dst: netip.MustParsePrefix("10.10.7.0/24"), Table: 254, Who: "protocol 80", Proto: 80}}}, Fail, "route 10.10.7.0/24 of", "ip route del 10.10.7.0/24 table 254 proto 80    # ", false},
		{"bad all links are strict by all", "rp-filter", "vxlan", recorded{files: map[string]string{"/proc/sys/net/ipv4/conf/all/rp_filter": "1", "/proc/sys/net/ipv4/conf/vxlan.netd/rp_filter": "0"}}, Fail, "all 1, vxlan.netd 0", "echo 2 >", true},
		{"OK a kernel's socket has the port", "udp-port", "vxlan", recorded{files: map[string]string{"/proc/net/udp": "sl\n 1: 00000000:12B5 00000000:0000 07 0:0 0:0 0 0 0 77 2\n"}}, OK, "", "", false},
		{"bad pid 9 has it", "udp-port", "vxlan", recorded{files: map[string]string{"/proc/net/udp": "sl\n 1: 00000000:12B5 00000000:0000 07 0:0 0:0 0 0 0 77 2\n", "/proc/9/cmdline": "ovs\x00-x\x00"}, links: map[string]string{"/proc/9/fd/3": "socket:[77]"}}, Fail, "UDP port 4789 is held by pid 9 (ovs -x)", "kill 9    # or", false},
		{"bad a unit has it", "udp-port", "vxlan", recorded{files: map[string]string{"/proc/net/udp": "sl\n 1: 00000000:12B5 00000000:0000 07 0:0 0:0 0 0 0 77 2\n", "/proc/9/cgroup": "0::/system.slice/ovs-vswitchd.service\n"}, links: map[string]string{"/proc/9/fd/3": "socket:[77]"}}, Fail, "UDP port 4789 is held by pid 9", "systemctl disable --now 'ovs-vswitchd.service'    # or", false},
		{"bad a unit in a slice of its own has it", "udp-port", "vxlan", held("ovs", `0::/fast.slice/fast-net.slice/ovs\x2dd@1.service/a/b.service`), Fail, "held by pid 9", `systemctl disable --now 'ovs\x2dd@1.service'    # or`, false},
		{"bad a user's unit has it, of a name of the system's", "udp-port", "vxlan", held("x", "0::/user.slice/user-1000.slice/user@1000.service/app.slice/systemd-networkd.service"), Fail, "held by pid 9", "kill 9    # or", false},
		{"bad a group has it that is named to be typed", "udp-port", "vxlan", held("x", "0::/made.slice/';reboot;'.service"), Fail, "held by pid 9", "kill 9    # or", false},
		{"bad a socket unit has it, and its service too", "udp-port", "vxlan", recorded{files: map[string]string{"/proc/net/udp": "sl\n 1: 00000000:12B5 00000000:0000 07 0:0 0:0 0 0 0 77 2\n", "/proc/1/cmdline": "/sbin/init\x00", "/proc/1/cgroup": "0::/init.scope", "/proc/9/cmdline": "vx\x00", "/proc/9/cgroup": "0::/system.slice/vx.service"},
			links: map[string]string{"/proc/1/fd/40": "socket:[77]", "/proc/9/fd/3": "socket:[77]"}}, Fail, "UDP port 4789 is held by pid 1 (/sbin/init)", "systemctl list-sockets --all    # which of them has it: systemctl disable --now that    # or give", false},
		{"bad a published port", "udp-port", "vxlan", held("/usr/bin/docker-proxy\x00-proto\x00udp\x00", "0::/system.slice/docker.service"), Fail, "held by pid 9", "docker ps    # whose", false},
		{"bad this node's address is another's too", "duplicate-address", "vxlan", recorded{claims: map[netip.Addr][]object.MAC{addr("192.168.170.137"): {{2, 0, 0, 0, 0, 9}}}}, Fail, "has this node's address", "grep -qiE 'ether (02:00:00:00:00:09)' && ip addr del", false},
		{"bad another's address twice", "duplicate-address", "vxlan", recorded{claims: map[netip.Addr][]object.MAC{addr("192.168.170.138"): {{2, 0, 0, 0, 0, 8}, {2, 0, 0, 0, 0, 9}}}}, Fail, "both have 192.168.170.138", "grep -qiE 'ether (02:00:00:00:00:08|02:00:00:00:00:09)' && ip addr del", false},
		{"OK no password", "password-file", "bgp", recorded{}, OK, "no session of this node has one", "", false},
		{"OK a password", "password-file", secret, recorded{files: map[string]string{"/etc/netd/it's": ""}}, OK, "/etc/netd/it's: root's alone", "", false},
		{"bad no password", "password-file", secret, recorded{}, Fail, "does not exist", `install -D -m 600 /dev/stdin '/etc/netd/it'\''s'    # then`, false},
		{"bad others read it", "password-file", secret, recorded{files: map[string]string{"/etc/netd/it's": "it has mode 0644"}}, Fail, "it has mode 0644", `chown -h root '/etc/netd/it'\''s' && chmod 600 '/etc/netd/it'\''s'`, false},
		{"bad a link to what others read", "password-file", secret, recorded{files: map[string]string{"/etc/netd/it's": "it has mode 0644"}, links: map[string]string{"/etc/netd/it's": "/etc/passwd"}}, Fail, "it has mode 0644; it is a link to /etc/passwd",
			`(umask 077 && cat '/etc/netd/it'\''s' > '/etc/netd/it'\''s.netd' && mv -fT '/etc/netd/it'\''s.netd' '/etc/netd/it'\''s')    # a copy`, false},
		{"bad a folder", "password-file", secret, recorded{files: map[string]string{"/etc/netd/it's": "is not a regular file"}}, Fail, "is not a regular file", `ls -ld '/etc/netd/it'\''s'    # `, false},
		{"bad two lines in it", "password-file", secret, recorded{files: map[string]string{"/etc/netd/it's": "must hold 1 to 80 bytes on one line"}}, Fail, "must hold 1 to 80 bytes", `install -D -m 600 /dev/stdin '/etc/netd/it'\''s'    # then`, false},
		{"bad in a folder of another's", "password-file", "bgp\"\n}\nbgp {\n  password_file = \"/home/x/bgp", recorded{files: map[string]string{"/home/x/bgp": "must belong to root"}}, Fail, "must belong to root; and others than root may put another file in its place, in /home/x", `install -D -m 600 /dev/stdin /etc/netd/bgp    # then`, false},
		{"OK the speaker has 179", "bgp-port", "bgp", recorded{files: map[string]string{"/proc/net/tcp": "sl\n 1: 00000000:00B3 00000000:0000 0A 0:0 0:0 0 0 0 77 2\n", "/proc/9/cmdline": "netd\x00speaker\x00"}, links: map[string]string{"/proc/9/fd/3": "socket:[77]"}}, OK, "", "", false},
		{"bad bird has 179, and no default route", "bgp-port", "bgp", bird(`[{"dst":"default","gateway":"10.0.0.1","dev":"eth9","protocol":"dhcp"},{"dst":"default","dev":"ens33","protocol":"netd"}]`), Fail, "TCP port 179 is held by pid 9 (bird -f)", "systemctl disable --now 'bird.service'    # or give", false},
		{"bad bird has 179, and the default route", "bgp-port", "bgp", bird(`[{"dst":"default","gateway":"10.0.0.1","dev":"eth9","protocol":"bird"},{"dst":"default","protocol":"186","nexthops":[{"via":{"family":"inet6","host":"fe80::1"},"dev":"e1"},{"gateway":"10.0.0.2","dev":"e2"}]}]`), Fail,
			"and this host has default via 10.0.0.1 dev eth9 of protocol bird, default via fe80::1 dev e1 via 10.0.0.2 dev e2 of protocol 186",
			"ip route show default table all proto bird\nip route show default table all proto 186    # if that is its own: give this host another default route first, or the next command may cut it off\nsystemctl disable --now 'bird.service'    # or give", false},
		{"OK the tunnel's own address, and the nodes' subnet", "foreign-routes", "vxlan", recorded{routes: []object.Held{{Dev: "vxlan.netd", OfAddress: true}, {Dev: "ens33", OfAddress: true}}}, OK, "none", "", false},
		{"bad a link of others in a pool", "foreign-routes", "vxlan", recorded{routes: []object.Held{{Dst: netip.MustParsePrefix("10.10.9.0/24"), Dev: "br0", Table: 254, Who: "protocol kernel (2)", OfAddress: true}}}, Fail, "route 10.10.9.0/24 dev br0 of protocol kernel (2)", "ip route del 10.10.9.0/24 dev br0 table 254", false},
		{"OK no networkd", "networkd", "vxlan", recorded{}, OK, "does not run", "", false},
		{"bad networkd deletes foreign routes", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/etc/systemd/networkd.conf": "#ManageForeignRoutes=no\n"}}, Fail, "without ManageForeignRoutes=no", "/etc/systemd/networkd.conf.d/zz-netd.conf", false},
		{"OK networkd is told", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/usr/lib/systemd/networkd.conf.d/zz-netd.conf": packaged("networkd/zz-netd.conf"), "/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=yes\n", "/etc/systemd/networkd.conf.d/99-own.conf": "[Network]\nManageForeignRoutes=yes\n"}}, OK, "", "", false},
		{"bad networkd is told otherwise after that", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/usr/lib/systemd/networkd.conf.d/zz-netd.conf": packaged("networkd/zz-netd.conf"), "/run/systemd/networkd.conf.d/zzz.conf": "[Network]\nManageForeignRoutes=true\n"}}, Fail,
			"without ManageForeignRoutes=no (/run/systemd/networkd.conf.d/zzz.conf has it true, after all others)", "> '/etc/systemd/networkd.conf.d/~zz-netd.conf'", false},
		{"bad the package's file is hidden", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/usr/lib/systemd/networkd.conf.d/zz-netd.conf": packaged("networkd/zz-netd.conf"), "/etc/systemd/networkd.conf.d/zz-netd.conf": ""}}, Fail, "without ManageForeignRoutes=no", "> /etc/systemd/networkd.conf.d/zz-netd.conf", false},
		{"bad it is said in another section", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/etc/systemd/networkd.conf": "[DHCPv4]\nManageForeignRoutes=no\n"}}, Fail, "without ManageForeignRoutes=no", "", false},
		{"bad a file before the package's manages our link", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n",
			"/sys/class/net/vxlan.netd/ifindex": "7\n", "/run/systemd/netif/links/7": "NETWORK_FILE=/etc/systemd/network/00-all.network\n"}}, Fail, "manages vxlan.netd by /etc/systemd/network/00-all.network", "> /etc/systemd/network/0-netd.network", false},
		{"bad networkd manages our link", "networkd", "vxlan", recorded{files: map[string]string{"/run/systemd/netif/state": "x", "/etc/systemd/networkd.conf": "[Network]\nManageForeignRoutes=no\n",
			"/sys/class/net/vxlan.netd/ifindex": "7\n", "/run/systemd/netif/links/7": "ADMIN_STATE=configured\nNETWORK_FILE=/etc/systemd/network/all.network\n"}}, Fail, "manages vxlan.netd by /etc/systemd/network/all.network", "00-netd.network", false},
		{"OK no NetworkManager", "networkmanager", "vxlan", recorded{}, OK, "does not run", "", false},
		{"bad NetworkManager takes our links", "networkmanager", "vxlan", nmHost("netd12:100 (connected (externally))"), Fail, "NetworkManager has taken netd12 (connected (externally)): it runs DHCP", "> /etc/NetworkManager/conf.d/zzz-netd.conf\nnmcli general reload conf\nnmcli device set netd12 managed no", true},
		{"OK NetworkManager is told", "networkmanager", "vxlan", nmHost("netd12:10 (unmanaged)\neth0:100 (connected)", "/etc/NetworkManager/conf.d/zz-netd.conf", packaged("NetworkManager/zz-netd.conf")), OK, "zz-netd.conf keeps it off", "", false},
		{"bad it was told, and did not read it", "networkmanager", "vxlan", nmHost("vxlan.netd:70 (connecting (getting IP configuration))", "/etc/NetworkManager/conf.d/zz-netd.conf", packaged("NetworkManager/zz-netd.conf")), Fail, "has taken vxlan.netd (connecting (getting IP configuration)), though /etc/NetworkManager/conf.d/zz-netd.conf says otherwise", "nmcli general reload conf\nnmcli device set vxlan.netd managed no", true},
		{"bad it lets go of these links and will take the next", "networkmanager", "vxlan", nmHost("netd12:10 (nicht verwaltet)"), Fail, "will take netd's links when they are made anew", "> /etc/NetworkManager/conf.d/zzz-netd.conf\nnmcli general reload conf", true},
		{"bad nothing to ask it with", "networkmanager", "vxlan", recorded{files: map[string]string{"/run/NetworkManager/devices/1": ""}}, Warn, "nmcli is not installed", "nmcli general status    # ", false},
		{"OK its list is given anew, and the section is there", "networkmanager", "vxlan", nmHost("", "/usr/lib/NetworkManager/conf.d/zz-netd.conf", packaged("NetworkManager/zz-netd.conf"),
			"/etc/NetworkManager/NetworkManager.conf", "[keyfile]\nunmanaged-devices=none\n"), OK, "zz-netd.conf keeps it off", "", false},
		{"bad its list is given anew", "networkmanager", "vxlan", nmHost("", "/usr/lib/NetworkManager/conf.d/90-netd.conf", "[keyfile]\nunmanaged-devices+=interface-name:netd*\n",
			"/etc/NetworkManager/conf.d/10-own.conf", "[keyfile]\nunmanaged-devices=interface-name:eth9\n"), Fail, "NetworkManager will take", "> /etc/NetworkManager/conf.d/zzz-netd.conf", true},
		{"bad its list is given anew after all others", "networkmanager", "vxlan", nmHost("", "/usr/lib/NetworkManager/conf.d/zzzz.conf", "[keyfile]\nunmanaged-devices+=interface-name:netd*\n",
			"/etc/NetworkManager/conf.d/zzzz.conf", "[keyfile]\nunmanaged-devices -= interface-name:netd*\n"), Fail, "NetworkManager will take", "> '/etc/NetworkManager/conf.d/~zzz-netd.conf'", true},
		{"OK its list is added to", "networkmanager", "vxlan", nmHost("", "/usr/lib/NetworkManager/conf.d/10.conf", "[keyfile]\nunmanaged-devices=interface-name:netd*\n",
			"/etc/NetworkManager/conf.d/10-own.conf", "[keyfile]\nunmanaged-devices+=interface-name:eth9\n"), OK, "/usr/lib/NetworkManager/conf.d/10.conf keeps", "", false},
		{"OK a bridge's own chain, beside pools of IPv6", "firewall", six, recorded{programs: nft(strings.ReplaceAll(strict("forward", ""), "inet", "bridge"))}, OK, "", "", false},
		{"OK a drop of what comes too often", "firewall", "vxlan", recorded{programs: nft(tooOften("forward", 0))}, OK, "", "", false},
		{"OK and raw", "raw-drops", "vxlan", recorded{programs: nft(tooOften("prerouting", -300))}, OK, "none concerns", "", false},
		{"OK a port of whatever protocol", "firewall", "vxlan", recorded{programs: nft(strict("input", `{"match":{"op":"==","left":{"payload":{"protocol":"th","field":"dport"}},"right":{"set":[179,4789]}}}`))}, OK, "", "", false},
		{"bad no nft", "firewall", "vxlan", recorded{}, Warn, "nft is not installed", "apt-get install nftables", false},
		{"bad firewalld rejects what is forwarded", "firewall", "ipip", recorded{programs: nft(firewalld)}, Fail, "inet firewalld filter_FORWARD rejects what is forwarded by its rule inet firewalld filter_FORWARD handle 31 (reject)", "firewall-cmd --permanent --zone=netd --set-target=ACCEPT", false},
		{"bad firewalld lets no tunnel in", "firewall", "ipip", recorded{programs: nft(firewalld)}, Fail, "accepts protocol 4 of the other nodes", "\nfirewall-cmd --permanent --zone=\"$zone\" --add-rich-rule='rule family=ipv4 source address=192.168.170.138 protocol value=4 accept'\nfirewall-cmd --reload", false},
		{"bad firewalld lets no vxlan in", "firewall", "vxlan", recorded{programs: nft(firewalld)}, Fail, "accepts UDP 4789", "zone=$(firewall-cmd --get-zone-of-interface=ens33 2>/dev/null || firewall-cmd --get-default-zone)\nfirewall-cmd --permanent --zone=\"$zone\" --add-rich-rule='rule family=ipv4 source address=192.168.170.138 port port=4789 protocol=udp accept'\n", false},
		{"OK a zone of firewalld's accepts netd's links", "firewall", "vxlan", recorded{programs: nft(firewalldZones + firewalld + `,{"rule":{"family":"inet","table":"firewalld","chain":"filter_FORWARD_ZONES","handle":50,"expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"netd*"}},{"goto":{"target":"filter_FWD_netd"}}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_FWD_netd","handle":51,"expr":[{"accept":null}]}},
{"rule":{"family":"inet","table":"firewalld","chain":"filter_IN_public_allow","handle":52,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"udp","field":"dport"}},"right":4789}},{"accept":null}]}}`)}, OK, "", "", false},
		{"bad firewalld lets no BGP in", "firewall", "bgp", recorded{programs: nft(firewalld)}, Fail, "accepts TCP 179", "source address=192.168.170.138 port port=179 protocol=tcp accept'", false},
		{"bad ufw's policy", "forward-policy", "vxlan", recorded{programs: nft(ufw)}, Fail, "the policy of ip filter FORWARD is drop", "netd apply", false},
		{"bad ufw lets no vxlan in", "firewall", "vxlan", recorded{programs: nft(ufw)}, Fail, "ip filter INPUT drops what comes in by its policy (drop)", "iptables -I INPUT -s 192.168.170.138/32 -p udp --dport 4789 -j ACCEPT    # until", false},
		{"OK netd's accepts stand", "forward-policy", "vxlan", recorded{programs: nft(ufw + `,{"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":9,"expr":[{"match":{"op":"==","left":{"meta":{"key":"iifname"}},"right":"vxlan.netd"}},{"accept":null}]}}`)}, OK, "", "", false},
		{"OK Docker 29 by nftables drops its own alone", "firewall", "vxlan", recorded{programs: nft(strings.Replace(docker29, "%s", "accept", 1))}, OK, "", "", false},
		{"bad Docker 29 by nftables drops all", "firewall", "vxlan", recorded{programs: nft(strings.Replace(docker29, "%s", "drop", 1))}, Fail, "ip docker-bridges filter-FORWARD rejects what is forwarded by its policy (drop)", strings.ReplaceAll(opened, "CHAIN", "ip docker-bridges filter-FORWARD"), false},
		{"bad a chain of all families, from where routers lead too", "firewall", routed, recorded{programs: routes(strict("forward", ""))}, Fail, "inet strict x rejects what is forwarded", openedBare, false},
		{"OK opened so", "firewall", "vxlan", recorded{programs: nft(strict("forward", openedRules("10.10.0.0")))}, OK, "no chain", "", false},
		{"bad opened for another pool", "firewall", "vxlan", recorded{programs: nft(strict("forward", openedRules("10.9.0.0")))}, Fail, "inet strict x rejects what is forwarded", "nft insert", false},
		{"bad opened for answers alone", "firewall", "vxlan", recorded{programs: nft(strict("forward", meta("==", "oifname", `"netd*"`)+`,{"match":{"op":"in","left":{"ct":{"key":"state"}},"right":["established","related"]}}`))}, Fail, "inet strict x rejects what is forwarded", "nft insert", false},
		{"bad a reject of iptables", "firewall", "vxlan", recorded{programs: nft(strings.NewReplacer("inet", "ip", "strict", "filter", `"x"`, `"FORWARD"`).Replace(strict("forward", "")) +
			`,{"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":9,"expr":[{"xt":{"type":"target","name":"REJECT"}}]}}`)}, Fail, "its rule ip filter FORWARD handle 9 (reject)",
			"iptables -I FORWARD -s 10.10.0.0/16,192.168.170.138/32 -d 10.10.0.0/16 -i vxlan.netd -o netd+ -j ACCEPT\niptables -I FORWARD -s 10.10.0.0/16 -i netd+ -o ens33 -j ACCEPT\niptables -I FORWARD -d 10.10.0.0/16 -i ens33 -o netd+ -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT    # until", false},
		{"bad ufw rejects what is routed", "firewall", "vxlan", recorded{programs: nft(ufw + `,{"rule":{"family":"ip","table":"filter","chain":"FORWARD","handle":6,"expr":[{"jump":{"target":"ufw-reject-forward"}}]}},
{"rule":{"family":"ip","table":"filter","chain":"ufw-reject-forward","handle":7,"expr":[{"xt":{"type":"target","name":"REJECT"}}]}}`)}, Fail, "its rule ip filter ufw-reject-forward handle 7 (reject)",
			"ufw route allow in on netd+ out on vxlan.netd from 10.10.0.0/16 to 10.10.0.0/16\nufw route allow in on vxlan.netd out on netd+ from 10.10.0.0/16 to 10.10.0.0/16\nufw route allow in on vxlan.netd out on netd+ from 192.168.170.138 to 10.10.0.0/16\nufw route allow in on netd+ out on ens33 from 10.10.0.0/16 to any", false},
		{"bad an input that lets others in", "firewall", "vxlan", recorded{programs: nft(strict("input", from(`"192.168.170.200"`)+udp4789))}, Fail, "accepts UDP 4789 of the other nodes", "nft insert rule inet strict x ip saddr '{ 192.168.170.138 }' udp dport 4789 accept    # until", false},
		{"OK an input that lets the nodes in by a set", "firewall", "vxlan", recorded{programs: nft(strict("input", from(`"@near"`)+udp4789) + `,{"set":{"family":"inet","table":"strict","name":"near","elem":[{"range":["192.168.170.130","192.168.170.140"]},{"elem":{"val":"10.0.0.1","timeout":9}}]}}`)}, OK, "no chain", "", false},
		{"bad an input by a set without one", "firewall", "vxlan", recorded{programs: nft(strict("input", from(`"@near"`)+udp4789) + `,{"set":{"family":"inet","table":"strict","name":"near"}}`)}, Fail, "accepts UDP 4789 of the other nodes", "", false},
		{"bad an input that lets one node in of two", "firewall", third, recorded{programs: nft(strict("input", from(`{"set":["192.168.170.138"]}`)+udp4789))}, Fail, "accepts UDP 4789 of node c (192.168.170.150)", "ip saddr '{ 192.168.170.138, 192.168.170.150 }' udp dport 4789", false},
		{"OK an input that takes all of the link", "firewall", "vxlan", recorded{programs: nft(strict("input", meta("==", "iifname", `"ens33"`)))}, OK, "no chain", "", false},
		{"bad more nodes than one types", "firewall", many, recorded{programs: nft(strict("input", from(`"192.168.170.138"`)+udp4789))}, Fail, "accepts UDP 4789 of node n0 (192.168.170.1) and 39 more", "ip saddr '{ 192.168.170.0/24 }' udp dport 4789 accept", false},
		{"bad a peer outside the file is let in by nobody", "firewall", routed, recorded{programs: nft(strict("input", from(`"192.168.170.138"`)+strings.Replace(strings.Replace(udp4789, "udp", "tcp", 1), "4789", "179", 1)))}, Fail, "accepts TCP 179 of 192.168.170.1", "ip saddr '{ 192.168.170.1, 192.168.170.138 }' tcp dport 179", false},
		{"OK a raw drop of another's", "raw-drops", "vxlan", recorded{programs: nft(`{"chain":{"family":"ip","table":"raw","name":"PREROUTING","hook":"prerouting","prio":-300,"policy":"accept"}},{"rule":{"family":"ip","table":"raw","chain":"PREROUTING","handle":3,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"daddr"}},"right":"172.17.0.2"}},{"drop":null}]}}`)}, OK, "", "", false},
		{"bad a raw drop of a part of a pool", "raw-drops", "vxlan", recorded{programs: nft(`{"chain":{"family":"ip","table":"raw","name":"PREROUTING","hook":"prerouting","prio":-300,"policy":"accept"}},{"rule":{"family":"ip","table":"raw","chain":"PREROUTING","handle":3,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.10.4.0","len":24}}}},{"drop":null}]}}`)}, Fail, "drops packets from 10.10.4.0/24", "nft delete rule ip raw PREROUTING handle 3", false},
		{"OK a raw drop of what is not in the pool", "raw-drops", "vxlan", recorded{programs: nft(`{"chain":{"family":"ip","table":"raw","name":"PREROUTING","hook":"prerouting","prio":-300,"policy":"accept"}},{"rule":{"family":"ip","table":"raw","chain":"PREROUTING","handle":3,"expr":[{"match":{"op":"!=","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":{"prefix":{"addr":"10.10.0.0","len":16}}}},{"drop":null}]}}`)}, OK, "none", "", false},
		{"OK an input that lets protocol 4 in by its name", "firewall", "ipip", recorded{programs: nft(`{"chain":{"family":"inet","table":"strict","name":"i","hook":"input","prio":0,"policy":"drop"}},{"rule":{"family":"inet","table":"strict","chain":"i","handle":3,"expr":[{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"protocol"}},"right":"ipencap"}},{"accept":null}]}}`)}, OK, "no chain", "", false},
		{"OK no legacy tables", "legacy-iptables", "vxlan", recorded{}, OK, "none", "", false},
		{"bad legacy tables", "legacy-iptables", "vxlan", recorded{files: map[string]string{"/proc/net/ip_tables_names": "filter\nnat\n"}}, Warn, "iptables-legacy has the tables filter, nat", "update-alternatives", false},
		{"bad legacy tables of IPv6", "legacy-iptables", "vxlan", recorded{files: map[string]string{"/proc/net/ip6_tables_names": "filter\n"}}, Warn, "ip6tables-legacy has the tables filter", "update-alternatives --set ip6tables /usr/sbin/ip6tables-nft", false},
		{"bad legacy drops", "legacy-iptables", "vxlan", recorded{files: map[string]string{"/proc/net/ip_tables_names": "filter\n"}, programs: map[string]string{"iptables-legacy -S FORWARD": "-P FORWARD DROP\n"}}, Fail, "the FORWARD policy of iptables-legacy is DROP", "iptables-legacy -I FORWARD -s 10.10.0.0/16 -d 10.10.0.0/16 -i netd+ -o netd+ -j ACCEPT\n", false},
		{"OK clocks agree", "clocks", "vxlan", recorded{clocks: map[netip.Addr]time.Duration{addr("192.168.170.138"): time.Second}}, "", "", "", false},
		{"bad a clock is ahead", "clocks", "vxlan", recorded{clocks: map[netip.Addr]time.Duration{addr("192.168.170.138"): 90 * time.Second}}, Warn, "the clock of node b (192.168.170.138) is 1m30s ahead of this one's", "timedatectl", false},
		{"bad a clock is behind", "clocks", "vxlan", recorded{clocks: map[netip.Addr]time.Duration{addr("192.168.170.138"): -3 * time.Second}}, Warn, "is 3s behind this one's", "timedatectl", false},
		{"bad TCP is lost in the tunnel", "checksum-offload", "vxlan", recorded{paths: []Path{{MTU: 1450, Link: "vxlan.netd", LinkMTU: 1450}}}, Warn, "answers pings and no TCP", "ethtool -K vxlan.netd tx-checksum-ip-generic off", false},
		{"bad TCP is lost in the tunnel of another VNI", "checksum-offload", "vxlan\"\n  vxlan {\n    vni = 7\n  } # ", recorded{paths: []Path{{MTU: 1450, Link: "vxlan.netd", LinkMTU: 1450}}}, Warn, "answers pings and no TCP", "ethtool -K netdvx7 tx-checksum-ip-generic off", false},
		{"OK who does not answer pings is another check's", "checksum-offload", "vxlan", recorded{}, OK, "not tried", "", false},
		{"bad no node answers", "path-mtu", "vxlan", recorded{}, Warn, "none of the 1 addresses of other nodes answers", "netd test", false},
		{"bad a rule against the port in a chain that accepts", "firewall", "vxlan", recorded{programs: nft(against("input", udp4789+drop))}, Fail, "inet open x drops UDP 4789 of the other nodes by its rule inet open x handle 7 (drop)", "nft insert rule inet open x ip saddr '{ 192.168.170.138 }' udp dport 4789 accept    # until", false},
		{"bad a rule against one node", "firewall", third, recorded{programs: nft(against("input", from(`"192.168.170.150"`)+drop))}, Fail, "inet open x drops UDP 4789 of node c (192.168.170.150) by its rule", "", false},
		{"bad a rule against the way out", "firewall", "vxlan", recorded{programs: nft(against("output", udp4789+drop))}, Fail, "inet open x drops UDP 4789 to the other nodes by its rule inet open x handle 7 (drop)", "nft delete rule inet open x handle 7    # and", false},
		{"bad a rule against the pool", "firewall", "vxlan", recorded{programs: nft(against("forward", meta("==", "oifname", `"netd*"`)+drop))}, Fail, "inet open x rejects what is forwarded from 10.10.194.129 to 10.10.40.129 by its rule", "nft insert rule inet open x", false},
		{"OK a rule against another's port", "firewall", "vxlan", recorded{programs: nft(against("input", strings.Replace(udp4789, "4789", "8472", 1)+drop))}, OK, "no chain", "", false},
		{"OK a rule with a limit that is not known here", "firewall", "vxlan", recorded{programs: nft(against("input", udp4789+`,{"limit":{"rate":100}}`+drop))}, OK, "no chain", "", false},
		{"OK a rule after one by which a packet may leave the chain for good", "firewall", "vxlan", recorded{programs: nft(against("input", udp4789+`,{"limit":{"rate":100}},{"goto":{"target":"y"}}`, udp4789+drop) + `,{"chain":{"family":"inet","table":"open","name":"y"}}`)}, OK, "no chain", "", false},
		{"bad a rule after one by which a packet may leave the chain for a while", "firewall", "vxlan", recorded{programs: nft(against("input", udp4789+`,{"limit":{"rate":100}},{"jump":{"target":"y"}}`, udp4789+drop) + `,{"chain":{"family":"inet","table":"open","name":"y"}}`)}, Fail, "inet open x drops UDP 4789 of the other nodes by its rule inet open x handle 8 (drop)", "", false},
		{"OK a rule after a map of verdicts", "firewall", "vxlan", recorded{programs: nft(against("input", `{"vmap":{"key":{"payload":{"protocol":"ip","field":"saddr"}},"data":{"set":[["192.168.170.138",{"accept":null}]]}}}`, udp4789+drop))}, OK, "no chain", "", false},
		{"OK a rule after one that asks a program", "firewall", "vxlan", recorded{programs: nft(against("input", `{"queue":{"num":0}}`, udp4789+drop))}, OK, "no chain", "", false},
		{"OK a rule after one that takes the nodes", "firewall", "vxlan", recorded{programs: nft(against("input", from(`"192.168.170.138"`)+`,{"accept":null}`, udp4789+drop))}, OK, "no chain", "", false},
	} {
		if x.host.programs == nil && x.check != "firewall" && x.check != "legacy-iptables" {
			x.host.programs = map[string]string{"nft -j list ruleset": none}
		}
		i := slices.IndexFunc(Checks, func(c Check) bool { return c.Name == x.check })
		s := site(t, x.mode, x.host)
		if x.host.nowhere {
			s.Link = ""
		}
		if x.host.held != "" {
			p := netip.MustParsePrefix(x.host.held)
			s.Held, s.Holder = map[netip.Addr]netip.Prefix{p.Addr(): p}, map[netip.Addr]string{p.Addr(): "ens33"}
		}
		found := Checks[i].Run(context.Background(), s)
		if len(found) == 0 {
			t.Errorf("%s: nothing", x.name)
		}
		hit := slices.ContainsFunc(found, func(f Finding) bool {
			return f.Level == x.level && strings.Contains(f.Evidence, x.says) && strings.Contains(f.Fix, x.fix) && f.Safe == x.safe
		})
		for _, f := range found {
			for _, program := range programs(f.Fix) {
				if f.Level != OK && !strings.Contains(Checks[i].Fix, program) {
					t.Errorf("%s: the documentation's fix is %q, and nothing of %s in %s", x.name, Checks[i].Fix, program, f.Fix)
				}
			}
			if f.Level != OK && (f.Safe && Checks[i].Safe == "none" || !f.Safe && Checks[i].Safe == "all") {
				t.Errorf("%s: safe is %v, and the documentation says %s", x.name, f.Safe, Checks[i].Safe)
			}
		}
		if x.level == OK {
			hit = hit && len(found) == 1
		}
		if x.level == "" { // of the other nodes alone: this host's own clock is as it is
			hit = !slices.ContainsFunc(found, func(f Finding) bool { return strings.Contains(f.Evidence, "node b") })
		}
		if !hit {
			t.Errorf("%s: %+v", x.name, found)
		}
	}
}
