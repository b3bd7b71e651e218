package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"netd/testenv/netns"
)

// TestCNIDualStack attaches containers of both families by the plugin, with a daemon and without one: they reach each other by
// either, and by addresses that they ask for; nothing of them stays.
func TestCNIDualStack(t *testing.T) {
	for _, with := range []bool{true, false} {
		t.Run(map[bool]string{true: "daemon", false: "no daemon"}[with], func(t *testing.T) {
			l := newUnderlay(t, fmt.Sprintf(twoFamilies, "always", `address = "192.168.1.1/24"`, `address = "192.168.1.2/24"`), "a", "b")
			netns.New(t, "four")
			netns.New(t, "six")
			l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
			l.destroyed()
			l.apply()
			wanted := "fd00:10:0:2::77"
			var boxes []*netns.NS
			var addrs [][]string
			for i, h := range l.hosts {
				if with {
					h.start()
				}
				box := netns.New(t, fmt.Sprintf("box%d", i))
				box.Run(t, "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1") // as some runtimes make it
				c := pluginCall{id: "c1", netns: box.Path()}
				if h.Name == "b" {
					c.args = "IP=10.10.2.77," + wanted
				}
				var have []string
				for _, ip := range h.add(c).IPs {
					addr, _, _ := strings.Cut(ip.Address, "/")
					have = append(have, addr)
				}
				boxes, addrs = append(boxes, box), append(addrs, have)
			}
			if len(addrs[0]) != 2 || !strings.HasPrefix(addrs[0][0], "10.10.1.") || !strings.HasPrefix(addrs[0][1], "fd00:10:0:1::") {
				t.Fatalf("addresses of a's container: %v", addrs[0])
			}
			if got := strings.Join(addrs[1], " "); got != "10.10.2.77 "+wanted {
				t.Fatalf("addresses of b's container: %s", got)
			}
			for i, box := range boxes {
				for _, to := range addrs[1-i] {
					l.pings(box, to, 1300)
				}
				l.pings(l.hosts[i].NS, addrs[i][1], 1300)
			}
			for i, h := range l.hosts {
				h.inSync()
				c := pluginCall{id: "c1", netns: boxes[i].Path()}
				c.conf = map[string]any{"prevResult": h.add(c).raw}
				c.command = "CHECK"
				if out, code := h.cni(c); code != 0 {
					t.Errorf("CHECK: %s", out)
				}
				boxes[i].Run(t, "ip -6 addr del "+addrs[i][1]+"/128 dev eth0")
				if out, code := h.cni(c); !with && code == 0 {
					t.Errorf("CHECK without the IPv6 address: %s", out)
				}
				h.del(pluginCall{id: "c1"})
				h.inSync()
				for _, trace := range []string{"ip -o link", "ip -6 route", "ip -6 neigh", "nft list ruleset"} {
					if out := h.Run(t, trace); strings.Contains(out, linkOf("c1")) || strings.Contains(out, addrs[i][1]+" ") {
						t.Errorf("after DEL, %s:\n%s", trace, out)
					}
				}
			}
		})
	}
}

// TestCNIFlows: the kernel keeps no flow of a container that went, neither one that it began nor one to it, whoever took it away; those
// of another stay.
func TestCNIFlows(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	stays := netns.New(t, "stays")
	kept := h.address(h.add(pluginCall{id: "stays", netns: stays.Path()}))
	flows := func(addr string) (n int) {
		for line := range strings.Lines(h.Run(t, "cat /proc/net/nf_conntrack")) {
			if strings.Contains(line, "src="+addr+" ") {
				n++
			}
		}
		return n
	}
	talks := func(box *netns.NS, addr string) {
		t.Helper()
		box.Run(t, "socat -u FILE:/proc/version UDP:192.168.170.138:9")
		h.Run(t, "socat -u FILE:/proc/version UDP:"+addr+":9")
		if n := flows(addr); n != 2 {
			t.Fatalf("%d flows of %s: the test proves nothing", n, addr)
		}
	}
	talks(stays, kept)
	for _, how := range []string{"a daemon", "a plugin", "the sweep"} {
		box, err := netns.At("/run/netns/goes")
		if err != nil {
			t.Fatal(err)
		}
		c := pluginCall{id: "c1", netns: box.Path()}
		addr := h.address(h.add(c))
		talks(box, addr)
		switch how {
		case "a daemon":
			h.del(c)
		case "a plugin":
			h.stop(syscall.SIGTERM)
			h.del(c)
			h.start()
		}
		if err := box.Remove(); err != nil {
			t.Fatal(err)
		}
		l.wait("no flow, by "+how, func() string {
			if flows(addr) > 0 {
				return h.Run(t, "cat /proc/net/nf_conntrack")
			}
			return ""
		})
		if n := flows(kept); n != 2 {
			t.Errorf("by %s the other has %d flows", how, n)
		}
	}
}

// TestCNILeaving: DEL answers before the kernel has let the link go, and nobody can tell: what comes right after it has the
// namespace, the name, the address that are given back; what is left when the daemon dies over it goes with whoever is next.
func TestCNILeaving(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	h.inSync()
	box, other := netns.New(t, "box"), netns.New(t, "other")
	c := pluginCall{id: "c1", netns: box.Path()}
	first := h.address(h.add(c))
	for range 5 {
		h.del(c)
		if out := h.must(0, "show", "workloads"); strings.Contains(out, "c1") {
			t.Errorf("after DEL:\n%s", out)
		}
		check := c
		check.command = "CHECK"
		check.conf = map[string]any{"prevResult": map[string]any{"cniVersion": "1.1.0"}}
		if out, code := h.cni(check); code == 0 {
			t.Errorf("CHECK after DEL: %s", out)
		}
		if again := h.address(h.add(c)); again != first {
			t.Errorf("the same container has %s, not %s", again, first)
		}
		h.del(c)
		next := pluginCall{id: "c2", netns: box.Path()} // another one in the same namespace
		second := h.address(h.add(next))
		h.del(next)
		asked := pluginCall{id: "c3", netns: other.Path(), args: "IP=" + second}
		if got := h.address(h.add(asked)); got != second {
			t.Errorf("%s was asked for and is %s", second, got)
		}
		h.del(asked)
		h.del(asked)
		if got := h.address(h.add(c)); got != first {
			t.Errorf("c1 is back with %s, not %s", got, first)
		}
	}
	h.inSync()
	for _, next := range []string{"a daemon", "a plugin", "apply"} {
		h.del(c)
		h.stop(syscall.SIGKILL)
		switch next {
		case "a daemon":
			h.start()
		case "a plugin":
			h.del(pluginCall{id: "nobody"})
		case "apply":
			h.must(0, "apply", "-y")
		}
		l.wait("nothing left, with "+next, func() string {
			out := h.Run(t, "ip -o link") + h.Run(t, "nft list ruleset") + h.must(0, "show", "workloads")
			if strings.Contains(out, linkOf("c1")) || strings.Contains(out, first+" ") {
				return out
			}
			return ""
		})
		h.must(0, "plan", "--detailed-exitcode")
		if next != "a daemon" {
			h.start()
			h.inSync()
		}
		if got := h.address(h.add(c)); got != first {
			t.Errorf("with %s: c1 is back with %s, not %s", next, got, first)
		}
	}
	h.del(c)
}

// TestCNIBlockGone takes the block of a living container out of the file: the plan names both and an apply refuses, until it is
// said that it is meant. The container stays attached and reachable from its host, and its address is nobody else's.
func TestCNIBlockGone(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	h.inSync()
	box := netns.New(t, "box")
	c := pluginCall{id: "c1", netns: box.Path(), args: "IP=10.10.77.5"}
	with := strings.Replace(fmt.Sprintf(walkthrough, "vxlan"), `["10.10.40.128/26"]`, `["10.10.40.128/26", "10.10.77.0/29"]`, 1)
	l.write(with)
	l.wait("the new block", func() string {
		if out := h.must(0, "show", "blocks"); !strings.Contains(out, "10.10.77.0/29") || h.hasNoRoute("10.10.77.0/29") {
			return out
		}
		return ""
	})
	if a := h.add(c); h.address(a) != "10.10.77.5" {
		t.Fatalf("it has %s", h.address(a))
	}
	l.mode("vxlan") // the block is gone
	plan := h.must(0, "plan")
	for _, words := range []string{"Only with --allow-destroy", "10.10.77.0/29", "cni/c1/eth0"} {
		if !strings.Contains(plan, words) {
			t.Errorf("the plan does not say %q:\n%s", words, plan)
		}
	}
	if out := h.must(exitFailed, "apply", "-y"); !strings.Contains(out, "refused, and nothing was changed") {
		t.Errorf("the apply:\n%s", out)
	}
	box.Run(t, "ping -c1 -w20 169.254.1.1")
	h.Run(t, "ping -c1 -w20 10.10.77.5")
	h.must(0, "apply", "-y", "--allow-destroy")
	h.inSync()
	if out := h.must(0, "plan"); !strings.Contains(out, "keeps 10.10.77.5, which is in no block of node") {
		t.Errorf("the plan afterwards:\n%s", out)
	}
	h.Run(t, "ping -c1 -w20 10.10.77.5")
	if again := h.add(pluginCall{id: "c1", netns: box.Path()}); h.address(again) != "10.10.77.5" {
		t.Errorf("ADD again gives %s", h.address(again))
	}
	h.refused(7, pluginCall{command: "ADD", id: "c2", netns: netns.New(t, "box2").Path(), args: "IP=10.10.77.6"})
	h.del(c)
	h.inSync()
	if out := h.Run(t, "ip route"); strings.Contains(out, "10.10.77.") {
		t.Errorf("after DEL:\n%s", out)
	}
}

// hasNoRoute reports whether a host has no route to exactly a prefix.
func (h *labHost) hasNoRoute(prefix string) bool {
	return h.Run(h.lab.t, "ip route show "+prefix) == ""
}

// TestCNIInstall installs the plugin and its list, over what an older one left, and takes both away again: nothing else, and
// once more is no error.
func TestCNIInstall(t *testing.T) {
	dir, err := pluginDir()
	if err != nil {
		t.Fatal(err)
	}
	at, plugin := t.TempDir(), t.TempDir()
	for _, name := range []string{"netd", "netd-cni"} { // netd goes by where its program is, not by links to it
		if out, err := exec.Command("cp", "-L", filepath.Join(dir, name), plugin).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	bin, conf := filepath.Join(at, "bin"), filepath.Join(at, "conf")
	if err := os.MkdirAll(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{filepath.Join(conf, cniConflist): "old", filepath.Join(conf, "20-other.conflist"): "another's"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l := &twoHosts{t: t, file: filepath.Join(at, "netd.hcl")}
	h := &labHost{NS: netns.New(t, "h"), lab: l, dir: at}
	run := func(args ...string) {
		t.Helper()
		cmd := h.command(append(args, "--bin-dir", bin, "--conf-dir", conf)...)
		cmd.Path = filepath.Join(plugin, "netd") // beside which the plugin is
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	files := func() string {
		var names []string
		for _, folder := range []string{bin, conf} {
			entries, err := os.ReadDir(folder)
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				names = append(names, e.Name())
			}
		}
		return strings.Join(names, " ")
	}
	for range 2 {
		run("cni", "install")
		if got := files(); got != "netd-cni 10-netd.conflist 20-other.conflist" {
			t.Fatalf("installed: %s", got)
		}
	}
	want, err := os.ReadFile(filepath.Join(plugin, "netd-cni"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(bin, "netd-cni"))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the plugin is another: %v", err)
	}
	for range 2 {
		run("cni", "uninstall")
		if got := files(); got != "20-other.conflist" {
			t.Fatalf("after uninstall: %s", got)
		}
	}
}
