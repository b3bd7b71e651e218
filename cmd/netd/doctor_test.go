package main

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"netd/reconcile/doctor"
	"netd/testenv/netns"
)

// examined is what `netd doctor` finds on a host, by check: the worst.
func (h *labHost) examined(flags ...string) (map[string]checkView, int) {
	h.lab.t.Helper()
	out, code := h.netd(append([]string{"doctor", "--json"}, flags...)...)
	var v doctorView
	if err := json.Unmarshal([]byte(out[max(strings.Index(out, "\n{\n")+1, 0):]), &v); err != nil || v.SchemaVersion != 1 {
		h.lab.t.Fatalf("%v in %s", err, out)
	}
	rank := map[doctor.Level]int{doctor.OK: 1, doctor.Warn: 2, doctor.Fail: 3}
	found := map[string]checkView{}
	for _, c := range v.Checks {
		if rank[c.Level] > rank[found[c.Name].Level] {
			found[c.Name] = c
		}
	}
	return found, code
}

// TestDoctorWell: a sound host of each mode and of both families has nothing to be said of, with netd's objects on it.
func TestDoctorWell(t *testing.T) {
	for _, mode := range []string{"vxlan", "bgp"} {
		t.Run(mode, func(t *testing.T) {
			text := strings.ReplaceAll(`network "lab" {
  pools = ["10.10.0.0/16", "2001:db8:10::/48"]
  mode  = "MODE"
}
node "a" {
  address  = "192.168.1.1/24"
  address6 = "2001:db8:1::1/64"
  blocks   = ["10.10.1.0/24", "2001:db8:10:1::/64"]
}
node "b" {
  address  = "192.168.1.2/24"
  address6 = "2001:db8:1::2/64"
  blocks   = ["10.10.2.0/24", "2001:db8:10:2::/64"]
}
`, "MODE", mode)
			l := newUnderlay(t, text, "a", "b")
			l.destroyed()
			l.wire("a eth0 192.168.1.1/24 2001:db8:1::1/64", "b eth0 192.168.1.2/24 2001:db8:1::2/64")
			l.apply()
			found, _ := l.hosts[0].examined()
			if len(found) != len(doctor.Checks) {
				t.Errorf("%d checks of %d", len(found), len(doctor.Checks))
			}
			for name, c := range found {
				if c.Level == doctor.Fail || c.Level == doctor.Warn && name != "clocks" {
					t.Errorf("%s: %s %s", name, c.Level, c.Evidence)
				}
			}
		})
	}
}

// TestDoctor makes each fault that a namespace can have, sees it named, mends it as the finding says, and sees it gone.
func TestDoctor(t *testing.T) {
	l := newLab(t, "vxlan")
	a, b := l.hosts[0], l.hosts[1]
	all := func(h *labHost, lines ...string) func() {
		return func() {
			for _, line := range lines {
				h.Run(t, line)
			}
		}
	}
	program := func(line string) (func(), func()) {
		var cmd *exec.Cmd
		return func() {
				f := strings.Fields(line)
				cmd = exec.Command(f[0], f[1:]...)
				if err := a.Start(cmd); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = cmd.Process.Kill() })
			}, func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
	}
	twin := netns.New(t, "twin")
	netns.Run(t, fmt.Sprintf("ip link add twin%d type veth peer name ens33 netns twin", wires))
	netns.Run(t, fmt.Sprintf("ip link set twin%d master wire up", wires))
	wires++
	twin.Run(t, "ip link set ens33 up")
	twin.Run(t, "ip addr add 192.168.170.200/24 dev ens33")
	listens, ends := program("socat -u UDP-RECV:4789 /dev/null")
	peers, quits := program("socat -u TCP-LISTEN:179 /dev/null")
	routes := func() { // as a program does that has that port
		a.Run(t, "ip route add default via 192.168.170.138 proto bird")
		peers()
	}
	nothing := func() {}
	before, _ := a.examined()

	for _, x := range []struct {
		name, check string
		fault       func()
		level       doctor.Level
		says        string
		mend        string // "fix": the finding's own command; "there": that, on the other host; "--fix"; else what is named by after
		after       func()
	}{
		{"another program has the VXLAN port", "udp-port", listens, doctor.Fail, "UDP port 4789 is held by pid ", "fix", ends},
		{"the node's address with another prefix", "address", all(a, "ip addr flush dev ens33", "ip addr add 192.168.170.137/25 dev ens33"), doctor.Warn,
			"ens33 holds the node's address as 192.168.170.137/25, the file has 192.168.170.137/24", "fix", func() { a.must(0, "apply", "-y") }},
		{"a masquerade of nftables in the tunnel", "masquerade", all(a, "nft add table ip own", "nft add chain ip own post { type nat hook postrouting priority 90 ; }", "nft add rule ip own post masquerade"), doctor.Warn,
			"ip own post handle 2 gives what containers here send to those of other nodes by vxlan.netd another source", "fix", func() { a.Run(t, "nft delete table ip own") }},
		{"a masquerade of iptables", "masquerade", all(a, "iptables -t nat -A POSTROUTING ! -o lo -j MASQUERADE"), doctor.Warn,
			"ip nat POSTROUTING handle ", "fix", func() { a.Run(t, "iptables -t nat -F"); a.Run(t, "nft delete table ip nat") }},
		{"Docker's policy, before netd's accepts", "forward-policy", all(a, "nft add table ip filter", "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }"),
			doctor.Fail, "the policy of ip filter FORWARD is drop, and nothing there accepts netd's links", "", func() { a.must(0, "apply", "-y"); b.must(0, "apply", "-y") }},
		{"the underlay does not forward", "forwarding", all(a, "sysctl -qw net.ipv4.conf.ens33.forwarding=0"), doctor.Fail, "net.ipv4.conf.ens33.forwarding is 0", "--fix", nothing},
		{"the tunnel is strict", "rp-filter", all(a, "sysctl -qw net.ipv4.conf.vxlan/netd.rp_filter=1"), doctor.Fail, "vxlan.netd checks sources strictly", "--fix", nothing},
		{"another program's route", "foreign-routes", all(a, "ip route add 10.10.77.0/24 via 192.168.170.138 proto bird"), doctor.Fail, "route 10.10.77.0/24 dev ens33 of protocol bird (12)", "fix", nothing},
		{"a chain that rejects what it does not know", "firewall", all(a, "nft delete table ip filter", "nft add table inet strict", "nft add chain inet strict f { type filter hook forward priority 10 ; }",
			"nft add rule inet strict f ct state established accept", "nft add rule inet strict f reject"), doctor.Fail, "inet strict f rejects what is forwarded by its rule inet strict f handle 3 (reject)", "fix",
			func() { // it opened that to netd's network alone
				stranger := func() error {
					_, err := twin.Output("ping", "-c1", "-W5", "10.10.40.129")
					return err
				}
				twin.Run(t, "ip route add 10.10.40.129 via 192.168.170.137")
				if out := l.flows(); out != "" {
					t.Error(out)
				}
				if stranger() == nil {
					t.Error("what no node sends is forwarded too")
				}
				a.Run(t, "nft delete table inet strict")
				l.wait("a stranger's ping where nothing rejects it", func() string {
					if err := stranger(); err != nil {
						return err.Error()
					}
					return ""
				})
			}},
		{"an input that drops", "firewall", all(a, "nft add table inet strict", "nft add chain inet strict i { type filter hook input priority 10 ; policy drop ; }"), doctor.Fail,
			"inet strict i drops what comes in by its policy (drop), and no rule of it accepts UDP 4789", "fix", func() { a.Run(t, "nft delete table inet strict") }},
		{"a rule of iptables against the tunnel's port", "firewall", all(a, "iptables -A INPUT -p udp --dport 4789 -j DROP"), doctor.Fail,
			"ip filter INPUT drops UDP 4789 of the other nodes by its rule ip filter INPUT handle ", "fix", func() { a.Run(t, "nft delete table ip filter"); a.must(0, "apply", "-y") }},
		{"a rule against the way out", "firewall", all(a, "nft add table inet strict", "nft add chain inet strict o { type filter hook output priority 10 ; }", "nft add rule inet strict o ip daddr 192.168.170.138 drop"), doctor.Fail,
			"inet strict o drops UDP 4789 to the other nodes by its rule inet strict o handle 2 (drop)", "fix", func() { a.Run(t, "nft delete table inet strict") }},
		{"a rule against a pool", "firewall", all(a, "nft add table inet strict", "nft add chain inet strict f { type filter hook forward priority 10 ; }", "nft add rule inet strict f ip saddr 10.10.194.0/24 reject"), doctor.Fail,
			"inet strict f rejects what is forwarded from 10.10.194.129 to 10.10.40.129 by its rule inet strict f handle 2 (reject)", "fix", func() {
				if out := l.flows(); out != "" {
					t.Error(out)
				}
				a.Run(t, "nft delete table inet strict")
			}},
		{"the link is down", "address", all(a, "ip link set ens33 down"), doctor.Fail, "ens33, which holds the node's address, is down: no other node is reached", "fix", nothing},
		{"the link has no carrier", "address", func() { netns.Run(t, "ip link set "+a.wire+" down") }, doctor.Fail, "ens33, which holds the node's address, has no carrier", "",
			func() { netns.Run(t, "ip link set "+a.wire+" up") }},
		{"a raw drop", "raw-drops", all(a, "nft add table ip raw", "nft add chain ip raw PREROUTING { type filter hook prerouting priority -300 ; }", "nft add rule ip raw PREROUTING ip daddr 10.10.40.129 counter drop"),
			doctor.Fail, "ip raw PREROUTING handle 2 drops packets to 10.10.40.129/32", "fix", nothing},
		{"iptables-legacy beside nftables", "legacy-iptables", all(a, "iptables-legacy -P FORWARD DROP"), doctor.Fail, "the FORWARD policy of iptables-legacy is DROP, which netd does not see", "", nothing},
		{"this node's address twice", "duplicate-address", all(&labHost{NS: twin}, "ping -c1 192.168.170.137", "ip addr add 192.168.170.137/24 dev ens33"), doctor.Fail, "has this node's address 192.168.170.137 too", "there", nothing},
		{"another's address twice", "duplicate-address", all(&labHost{NS: twin}, "ip addr add 192.168.170.138/24 dev ens33"), doctor.Fail, "both have 192.168.170.138, node baihl-node's address", "there", nothing},
		{"no TCP in the tunnel", "checksum-offload", all(b, "nft add table inet fault", "nft add chain inet fault in { type filter hook input priority 0 ; }", "nft add rule inet fault in iifname vxlan.netd meta l4proto tcp drop"),
			doctor.Warn, "through the VXLAN tunnel baihl-node (10.10.194.128) answers pings and no TCP", "", func() { b.Run(t, "nft delete table inet fault") }},
		{"a small path", "path-mtu", all(b, "nft add table inet fault", "nft add chain inet fault in { type filter hook prerouting priority -400 ; }", "nft add rule inet fault in ip length gt 1400 drop"),
			doctor.Fail, "the way to node baihl-node (192.168.170.138) carries 1400 bytes, ens33 1500", "fix", func() { b.Run(t, "nft delete table inet fault") }},
		{"another program has the BGP port", "bgp-port", routes, doctor.Fail, "this host has default via 192.168.170.138 dev ens33 of protocol bird", "fix", quits},
	} {
		t.Run(x.name, func(t *testing.T) {
			l.t = t
			if x.check == "bgp-port" {
				l.mode("bgp")
				before, _ = a.examined()
			}
			if c := before[x.check]; c.Level != doctor.OK {
				t.Fatalf("before: %s: %s %s", x.check, c.Level, c.Evidence)
			}
			x.fault()
			var found checkView
			l.wait("the fault to be named", func() string { // a program that was just started has its port a moment later
				all, code := a.examined()
				found = all[x.check]
				if found.Level != x.level || !strings.Contains(found.Evidence, x.says) || x.level == doctor.Fail && code != 3 {
					return fmt.Sprintf("exit %d, %s: %s, want %s: %s", code, found.Level, found.Evidence, x.level, x.says)
				}
				return ""
			})
			if found.Fix == "" {
				t.Error("no fix")
			}
			switch x.mend {
			case "--fix":
				if all, _ := a.examined("--fix"); all[x.check].Level != doctor.OK || all[x.check].Fixed != "done" {
					t.Errorf("after --fix: %+v", all[x.check])
				}
			case "fix", "there":
				if found.Safe {
					t.Error("this fix is somebody else's and called safe")
				}
				if strings.Contains(found.Fix, "kill ") && !strings.Contains(found.Evidence, "(socat -u ") || strings.Contains(found.Fix, "systemctl") || strings.Contains(found.Fix, "/etc/") {
					t.Fatalf("this fix is not for a namespace: %s", found.Fix)
				}
				where := a.NS
				if x.mend == "there" {
					where = twin
					if out, err := a.Output("sh", "-ec", found.Fix[strings.LastIndex(found.Fix, ": ")+1:]); err != nil || !strings.Contains(out, "192.168.170.") {
						t.Errorf("the other addresses of that host: %v: %s", err, out)
					}
				}
				if out, err := where.Output("sh", "-ec", found.Fix); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				l.wait("the fault to be gone", func() string { // a link that was set up has its carrier a moment later
					if now, _ := a.examined(); now[x.check].Level != doctor.OK {
						return fmt.Sprintf("after the fix: %s %s", now[x.check].Level, now[x.check].Evidence)
					}
					return ""
				})
			}
			x.after()
			if x.check == "legacy-iptables" { // its tables stay for as long as the namespace does: the finding stays, milder
				if out, err := a.Output("sh", "-ec", found.Fix); err != nil {
					t.Errorf("%v: %s", err, out)
				}
				if before, _ = a.examined(); before[x.check].Level != doctor.Warn || !strings.Contains(before[x.check].Evidence, "has the tables filter") {
					t.Errorf("afterwards: %+v", before[x.check])
				}
				return
			}
			l.wait("all to be well", func() string {
				if before, _ = a.examined(); before[x.check].Level != doctor.OK { // the next one's fault comes after this
					return fmt.Sprintf("afterwards: %s %s", before[x.check].Level, before[x.check].Evidence)
				}
				return ""
			})
		})
	}
	if now, _ := a.examined(); !strings.HasPrefix(now["clocks"].Evidence, "1 nodes told theirs") && now["clocks"].Level != doctor.Warn {
		t.Errorf("clocks: %+v", now["clocks"])
	}
	l.t = t
	a.must(0, "destroy", "-y")
	b.must(0, "destroy", "-y")
}

// TestDoctor6: the wire's faults are found of IPv6 addresses alone, where IPv4 has none of them.
func TestDoctor6(t *testing.T) {
	l := newUnderlay(t, `network "lab" {
  pools = ["2001:db8:10::/48"]
  mode  = "vxlan"
}
node "a" {
  address6 = "2001:db8:1::1/64"
  blocks   = ["2001:db8:10:1::/64"]
}
node "b" {
  address6 = "2001:db8:1::2/64"
  blocks   = ["2001:db8:10:2::/64"]
}
`, "a", "b")
	l.destroyed()
	twin := netns.New(t, "twin")
	l.wire("a eth0 2001:db8:1::1/64", "b eth0 2001:db8:1::2/64", "twin eth0")
	l.apply()
	a, b := l.hosts[0], l.hosts[1].NS
	twin.Run(t, "ip link set eth0 up")
	twin.Run(t, "sysctl -qw net.ipv6.conf.eth0.accept_dad=0")
	table := func(rule string) []string {
		return []string{"nft add table inet fault", "nft add chain inet fault in { type filter hook prerouting priority -400 ; }", "nft add rule inet fault in " + rule}
	}
	for _, x := range []struct {
		check string
		on    *netns.NS
		fault []string
		level doctor.Level
		says  string
		mend  string
	}{
		{"duplicate-address", twin, []string{"ip addr add 2001:db8:1::1/64 dev eth0 nodad"}, doctor.Fail, "has this node's address 2001:db8:1::1 too", "ip addr del 2001:db8:1::1/64 dev eth0"},
		{"duplicate-address", twin, []string{"ip addr add 2001:db8:1::2/64 dev eth0 nodad"}, doctor.Fail, "both have 2001:db8:1::2, node b's address", "ip addr del 2001:db8:1::2/64 dev eth0"},
		{"path-mtu", b, table("ip6 length gt 1360 drop"), doctor.Fail, "the way to node b (2001:db8:1::2) carries 1400 bytes, eth0 1500", "nft delete table inet fault"},
		{"checksum-offload", b, table("iifname vxlan.netd meta l4proto tcp drop"), doctor.Warn, "through the VXLAN tunnel b (2001:db8:10:2::) answers pings and no TCP", "nft delete table inet fault"},
	} {
		t.Run(x.check, func(t *testing.T) {
			l.t = t
			if c, _ := a.examined(); c[x.check].Level != doctor.OK {
				t.Fatalf("before: %+v", c[x.check])
			}
			for _, line := range x.fault {
				x.on.Run(t, line)
			}
			l.wait("the fault to be named", func() string { // a link has what it was given a moment later
				if c, _ := a.examined(); c[x.check].Level != x.level || !strings.Contains(c[x.check].Evidence, x.says) || c[x.check].Fix == "" {
					return fmt.Sprintf("%+v, want %s: %s", c[x.check], x.level, x.says)
				}
				return ""
			})
			x.on.Run(t, x.mend)
			if c, _ := a.examined(); c[x.check].Level != doctor.OK {
				t.Errorf("afterwards: %+v", c[x.check])
			}
		})
	}
	l.t = t
	if c, _ := a.examined(); c["clocks"].Level == doctor.OK && !strings.HasPrefix(c["clocks"].Evidence, "not asked") {
		t.Errorf("clocks: %+v", c["clocks"])
	}
}
