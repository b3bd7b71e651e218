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

	"netd/reconcile/object"
	"netd/testenv/netns"
)

const twoSites = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "%s"
}
node "a" {
  address = "192.168.1.1/24"
  blocks  = ["10.10.1.0/24"]
}
node "b" {
  address = "192.168.1.2/24"
  blocks  = ["10.10.2.0/24"]
}
workload "c-a" {
  node    = "a"
  address = "10.10.1.10"
  netns   = "/run/netns/c-a"
}
workload "c-b" {
  node    = "b"
  address = "10.10.2.10"
  netns   = "/run/netns/c-b"
}
`

// TestUnderlayChanges has two daemons follow whatever happens to the links below them, one thing after the other.
func TestUnderlayChanges(t *testing.T) {
	for _, x := range []struct {
		mode, dev string
		overhead  int
	}{{"vxlan", "vxlan.netd", 50}, {"ipip", "tunl0", 20}, {"bgp", "", 0}} {
		t.Run(x.mode, func(t *testing.T) {
			if x.mode == "ipip" {
				needIPIP(t)
			}
			l := newUnderlay(t, fmt.Sprintf(twoSites, x.mode), "a", "b")
			netns.New(t, "dhcp")
			world := netns.New(t, "world")
			l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24", "a eth1", "dhcp lan 192.168.1.253/24", "world w0 192.0.2.254/24", "world w1 192.168.1.254/24")
			world.Run(t, "ip addr add 203.0.113.1/32 dev lo")
			world.Run(t, "sysctl -q -w net.ipv4.conf.all.arp_ignore=1")
			a, b := l.hosts[0], l.hosts[1]
			a.Run(t, "sysctl -q -w net.ipv4.conf.all.arp_ignore=1") // else either link answers for the other's address
			for _, h := range l.hosts {
				h.start()
			}
			both := func(what string, size int) {
				t.Helper()
				l.settled()
				l.wait(what, func() string {
					if out, err := a.container.Output("ping", "-c1", "-W1", "-Mdo", fmt.Sprint("-s", size-28), "10.10.2.10"); err != nil {
						return "no answer: " + out
					}
					return ""
				})
				l.pings(a.container, "10.10.2.10", size)
				l.pings(b.container, "10.10.1.10", size)
			}
			both("the first answer", 1500-x.overhead)

			for _, mtu := range []int{1400, 9000, 1500} {
				for _, h := range l.hosts {
					h.Run(t, fmt.Sprintf("ip link set eth0 mtu %d", mtu))
				}
				size := mtu - x.overhead
				for _, h := range l.hosts {
					l.wait(fmt.Sprintf("the containers' links at %d", size), func() string {
						out, err := h.container.Output("ip", "link", "show", "dev", "eth0")
						if err != nil || !strings.Contains(out, fmt.Sprintf("mtu %d ", size)) {
							return "it is " + out
						}
						return ""
					})
					if x.dev != "" {
						l.wait(fmt.Sprintf("%s at %d", x.dev, size), func() string { // the next link of the same pass
							out, err := h.Output("ip", "link", "show", "dev", x.dev)
							if err != nil || !strings.Contains(out, fmt.Sprintf("mtu %d ", size)) {
								return "it is " + out
							}
							return ""
						})
					}
				}
				both(fmt.Sprintf("packets of %d bytes", size), size)
			}

			a.Run(t, "ip link set eth0 down")
			a.Run(t, "ip link set eth0 up")
			both("an answer after down and up", 1000)

			a.Run(t, "ip link set eth0 down")
			a.Run(t, "ip link set eth0 name lan0")
			a.Run(t, "ip link set lan0 up")
			both("an answer after the new name", 1000)
			a.has("sysctl net.ipv4.conf.lan0.forwarding", "= 1")
			a.has("nft list chain inet netd spoof", `"lan0"`)
			a.has("nft list set inet netd switched", `"lan0"`) // it was netd that switched it, under whatever name

			if _, err := a.Output("ip", "link", "set", "lan0", "name", "lan1"); err == nil { // Linux 6.1 wants it down for that
				both("an answer after another name, given while it is up", 1000)
				a.has("sysctl net.ipv4.conf.lan1.forwarding", "= 1")
				a.has("nft list chain inet netd spoof", `"lan1"`)
				a.has("nft list set inet netd switched", `"lan1"`)
				a.Run(t, "ip link set lan1 name lan0")
				both("an answer after the former name", 1000)
			}

			a.Run(t, "ip addr del 192.168.1.1/24 dev lan0")
			a.Run(t, "ip addr add 192.168.1.1/24 dev eth1")
			b.Run(t, "ip neigh flush dev eth0")
			both("an answer on the other link", 1000)
			if x.mode == "vxlan" {
				a.has("ip -d link show vxlan.netd", "local 192.168.1.1 dev eth1")
			}
			if x.mode == "bgp" {
				a.has("ip route", "10.10.2.0/24 via 192.168.1.2 dev eth1 proto 142")
			}

			// A default route by another link: what comes back to masqueraded packets comes in there. Then by the underlay's instead:
			// the other's switch is what it was.
			forwards := func(link, value string) {
				t.Helper()
				l.wait("forwarding of "+link+" at "+value, func() string {
					out, err := a.Output("sysctl", "-n", "net.ipv4.conf."+link+".forwarding")
					if err != nil || out != value+"\n" {
						return "it is " + out
					}
					return ""
				})
			}
			forwards("lan0", "0")
			a.Run(t, "ip addr add 192.0.2.1/24 dev lan0")
			a.Run(t, "ip route add default via 192.0.2.254 dev lan0")
			forwards("lan0", "1")
			l.settled()
			l.pings(a.container, "203.0.113.1", 1000)
			a.Run(t, "sysctl -q -w net.ipv4.conf.lan0.forwarding=0")
			forwards("lan0", "1")
			a.Run(t, "ip route replace default via 192.168.1.254 dev eth1")
			forwards("lan0", "0")
			both("an answer with another default route", 1000)
			l.pings(a.container, "203.0.113.1", 1000)
			a.has("sysctl net.ipv4.conf.eth1.forwarding", "= 1")
			a.has("nft list set inet netd switched", `{ "eth1" }`)

			// DHCP, as it is on many hosts: the lease of the file's address is renewed with another, which the client sets. That is
			// said, with what is there instead, and nothing is changed by half; the right lease mends it.
			l.settled()
			lease := l.dhcp(a, "eth1")
			lease("192.168.1.1")
			b.Run(t, "ip neigh flush dev eth0")
			both("an answer at the leased address", 1000)
			held := a.held(x.mode)
			lease("192.168.1.77")
			says := "no link of this host holds its address 192.168.1.1 (eth1 has 192.168.1.77/24)"
			l.wait("the wrong address is said", func() string {
				out, code := a.netd("status")
				if code != exitDegraded || !strings.Contains(out, says) {
					return fmt.Sprint(code, " ", out)
				}
				return ""
			})
			if out := a.must(exitFailed, "apply", "-y"); !strings.Contains(out, says) {
				t.Errorf("apply says:\n%s", out)
			}
			if now := a.held(x.mode); now != held {
				t.Errorf("with the wrong lease there is\n%s\nand was\n%s", now, held)
			}
			if log := a.log.String(); strings.Contains(log, "waiting for the node's address") {
				t.Errorf("a daemon that was ready long ago waits to be:\n%s", log)
			}
			lease("192.168.1.1")
			b.Run(t, "ip neigh flush dev eth0")
			both("an answer with the address back", 1000)
			if now := a.held(""); x.mode == "bgp" && !strings.Contains(now, "10.10.2.0/24 via 192.168.1.2 dev eth1") {
				t.Errorf("with the address back there is\n%s", now)
			}

			a.must(0, "destroy", "-y")
			for _, link := range []string{"lan0", "eth1"} { // the host was no router, and is none
				a.has("sysctl net.ipv4.conf."+link+".forwarding", "= 0")
			}
		})
	}
}

// held is what a host has of netd's, without what packets count. With its last address the kernel removes a link's routes itself:
// in mode bgp those are left out.
func (h *labHost) held(mode string) string {
	h.lab.t.Helper()
	all := h.Run(h.lab.t, "ip -d -o link show group 142") + h.Run(h.lab.t, "ip addr show group 142") + h.Run(h.lab.t, "ip neigh show nud permanent") + h.Run(h.lab.t, "bridge fdb show") +
		h.Run(h.lab.t, "nft -s list ruleset") + h.container.Run(h.lab.t, "ip addr show dev eth0") + h.container.Run(h.lab.t, "ip route")
	if mode != "bgp" {
		all += h.Run(h.lab.t, "ip route show proto 142")
	}
	return all
}

// dhcp has the address of a host's link leased by dnsmasq, in the namespace dhcp, to busybox's udhcpc. What is returned has the
// server give the link another address from now on, and the client renew its lease: it is refused and asks anew.
func (l *twoHosts) dhcp(h *labHost, link string) (lease func(address string)) {
	t := l.t
	t.Helper()
	dir, server := t.TempDir(), netns.Open("/run/netns/dhcp")
	mac := strings.Fields(h.Run(t, "ip -br link show dev "+link))[2]
	leases := filepath.Join(dir, "hosts")
	script := `case $1 in
deconfig) ip -4 addr flush dev $interface ;;
bound | renew) ip -4 addr flush dev $interface; ip addr add $ip/$mask dev $interface ;;
esac`
	for path, text := range map[string]string{leases: "", filepath.Join(dir, "set"): "#!/bin/sh\n" + script + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	run := func(ns *netns.NS, cmd *exec.Cmd) (*exec.Cmd, *said) {
		log := &said{}
		cmd.Stdout, cmd.Stderr = log, log
		if err := ns.Start(cmd); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd, log
	}
	dnsmasq, served := run(server, exec.Command("dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--user=root", "--pid-file=", "--port=0", "--interface=lan", "--bind-interfaces",
		"--no-ping", "--dhcp-authoritative", "--dhcp-range=192.168.1.50,static,255.255.255.0,1h", "--dhcp-hostsfile="+leases, "--dhcp-leasefile="+filepath.Join(dir, "leases")))
	has := func(log *said, n int, text string) func() string {
		return func() string {
			if out := log.String(); strings.Count(out, text) < n {
				return "it says: " + out
			}
			return ""
		}
	}
	reads, obtained := 1, map[string]int{}
	l.wait("dnsmasq to be there", has(served, reads, "read "+leases)) // a signal before that ends it
	var client *exec.Cmd
	var asked *said
	return func(address string) {
		t.Helper()
		if err := os.WriteFile(leases, []byte(mac+","+address+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := dnsmasq.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		reads++
		l.wait("dnsmasq's word that it has read "+leases, has(served, reads, "read "+leases))
		if client == nil {
			client, asked = run(h.NS, exec.Command("busybox", "udhcpc", "-f", "-i", link, "-t", "100", "-T", "1", "-s", filepath.Join(dir, "set")))
		} else if err := client.Process.Signal(syscall.SIGUSR1); err != nil { // renew
			t.Fatal(err)
		}
		obtained[address]++
		l.wait("the lease of "+address, has(asked, obtained[address], "lease of "+address+" obtained"))
	}
}

// TestMSS has a container announce more than a tunnel carries: what the far end sees is what fits, of either family.
func TestMSS(t *testing.T) {
	l := newUnderlay(t, fmt.Sprintf(twoFamilies, "always", `address = "192.168.1.1/24"`, `address = "192.168.1.2/24"`), "a", "b")
	netns.New(t, "four")
	netns.New(t, "six")
	l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
	for _, h := range l.hosts {
		h.Run(t, "ip link set eth0 mtu 1400")
	}
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	a.Run(t, "ip link set "+object.VethName("file/c-a")+" mtu 9000")
	a.container.Run(t, "ip link set eth0 mtu 9000")
	for to, want := range map[string]string{"10.10.2.10": "mss 1310,", "[fd00:10:0:2::10]": "mss 1290,"} { // 1400 less 50 for the tunnel less 40 or 60
		dump := exec.Command("tcpdump", "-Z", "root", "-l", "-n", "-i", "eth0", "-c", "1", "tcp")
		var out bytes.Buffer
		dump.Stdout = &out
		ready, err := dump.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := b.container.Start(dump); err != nil {
			t.Fatal(err)
		}
		_, _ = ready.Read(make([]byte, 1)) // it says that it listens

		// Refused at once, when the way is there.
		_, _ = a.container.Output("socat", "-T1", "-u", "OPEN:/dev/null", "TCP:"+to+":80,connect-timeout=30")
		if err := dump.Wait(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(out.String(), want) {
			t.Errorf("the SYN to %s, want %s in: %s", to, want, out.String())
		}
	}
}
