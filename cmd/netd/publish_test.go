package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"netd/testenv/docker"
	"netd/testenv/netns"
)

// TestPublished has Docker publish ports of containers on netd's network, beside Docker's own drops: who gets to them, who is told
// that he cannot have one, and that they come back and go.
func TestPublished(t *testing.T) {
	for _, mode := range []string{"vxlan", "bgp"} {
		t.Run(mode, func(t *testing.T) {
			l, hosts := newPluginLab(t, mode)
			d, h, far := hosts[0], l.hosts[0], l.hosts[1]
			serve := func(name string, more ...string) {
				t.Helper()
				d.Docker(append(append([]string{"run", "-d", "--network", "lab", "--name", name}, more...), docker.Image,
					"/bin/sh", "-c", "echo "+name+" >/index.html; httpd -f -p 80 -h /")...)
			}
			says := func(from *netns.NS, to, name string) {
				t.Helper()
				l.wait(from.Name+" to "+to, func() string {
					out, err := from.Output("wget", "-q", "-T", "1", "-t", "1", "-O", "-", "http://"+to+"/")
					if err != nil || strings.TrimSpace(out) != name {
						return fmt.Sprint(out, err)
					}
					return ""
				})
			}
			silent := func(from *netns.NS, to string) {
				t.Helper()
				if out, err := from.Output("wget", "-q", "-T", "1", "-t", "1", "-O", "-", "http://"+to+"/"); err == nil {
					t.Errorf("%s: %s answers %s", from.Name, to, out)
				}
			}
			old := dials(t, far.NS, "192.168.170.137:5353") // a flow that does not pause before, between and after
			if err := old.asks(); err == nil {
				t.Error("something answers at a port that nobody has")
			}
			serve("web", "-p", "8080:80", "-p", "5353:53/udp")
			serve("one", "-p", "192.168.170.137:8081:80", "--ip", "10.10.40.150")
			serve("client")

			says(far.NS, "192.168.170.137:8080", "web")
			says(far.NS, "192.168.170.137:8081", "one")
			says(h.NS, "192.168.170.137:8080", "web") // the host's own sockets
			says(h.NS, "192.168.170.137:8081", "one")
			says(h.NS, "10.10.40.150", "one")
			gets := func(from, port, name string) { // by the host's address
				t.Helper()
				if out := d.Docker("exec", from, "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 10 192.168.170.137 "+port); !strings.Contains(out, name) {
					t.Errorf("%s asks for %s: %q", from, name, out)
				}
			}
			for _, from := range []string{"client", "web", "one"} { // from containers of this host, themselves too
				gets(from, "8080", "web")
				gets(from, "8081", "one")
			}
			inside := func(name string) *netns.NS {
				return netns.Open("/proc/" + d.Docker("inspect", "-f", "{{.State.Pid}}", name) + "/ns/net")
			}
			heard := echoes(t, inside("web"), ":53")
			answered := func(what string, f *flow) {
				t.Helper()
				l.wait(what, func() string {
					if err := f.asks(); err != nil {
						return err.Error()
					}
					return ""
				})
			}
			answered("the flow of before", old)
			// Who asks is seen as he is, but for the container itself.
			for _, x := range []struct {
				who  string
				from *netns.NS
				seen string
			}{
				{"another host", far.NS, "192.168.170.138"}, {"a container", inside("client"), addressIn(t, d, "client", "lab")},
				{"one that publishes too", inside("one"), "10.10.40.150"}, {"itself", inside("web"), ""},
			} {
				answered(x.who, dials(t, x.from, "192.168.170.137:5353"))
				own := addressIn(t, d, "web", "lab")
				if got := heard(); x.seen != "" && got != x.seen || got == own {
					t.Errorf("%s is seen as %s", x.who, got)
				}
			}
			silent(far.NS, "192.168.170.137:8082")
			// By the loopback too, for which no container gets to what listens there alone.
			says(h.NS, "127.0.0.1:8080", "web")
			serve("near", "-p", "127.0.0.1:8082:80")
			says(h.NS, "127.0.0.1:8082", "near")
			silent(far.NS, "192.168.170.137:8082")
			silent(h.NS, "127.0.0.1:8081")
			h.spared(t, "127.0.0.1:9999")
			if err := inside("web").Do(func() error {
				return bareToMAC(packet("10.10.40.130", "127.0.0.1", 17, udp(9999, []byte(marker))), "eth0", "ee:ee:ee:ee:ee:ee")
			}); err != nil {
				t.Fatal(err)
			}
			l.wait("the guard", func() string {
				if out := h.Run(t, "nft list chain inet netd publish-guard"); strings.Contains(out, "packets 0 ") {
					return out
				}
				return ""
			})
			d.Docker("rm", "-f", "near")

			for _, x := range []struct{ words, args string }{
				{"port 8080/tcp of this host is published for ", "-p 8080:80"},
				{"port 8081/tcp of this host is published for ", "-p 8081:80"},
				{"-p 192.0.2.1:8090->80/tcp: this host has no address 192.0.2.1", "-p 192.0.2.1:8090:80"},
				{"-p [::2]:8090->80/tcp: this host has no address ::2", "-p [::2]:8090:80"},
				{"-p [::]:8090->80/tcp: the container has no address of that family", "-p [::]:8090:80"},
			} {
				refusedBy(t, d, x.words, append(append([]string{"run", "--rm", "--network", "lab"}, strings.Fields(x.args)...), docker.Image, "/bin/sleep", "0")...)
			}
			if mode == "vxlan" {
				refusedBy(t, d, "netd itself listens at that port of this host, for VXLAN (vxlan.port of network lab)", "run", "--rm", "--network", "lab", "-p", "4789:53/udp", docker.Image, "/bin/sleep", "0")
			} else {
				refusedBy(t, d, "netd itself listens at that port of this host, for BGP (bgp.listen_port)", "run", "--rm", "--network", "lab", "-p", "179:80", docker.Image, "/bin/sleep", "0")
			}
			h.spared(t, "127.0.0.1:9998")
			refusedBy(t, d, "address already in use", "run", "--rm", "--network", "lab", "-p", "9998:53/udp", docker.Image, "/bin/sleep", "0")
			h.taken("3 by docker")

			// What others damage is in the plan's words, and comes back.
			h.Run(t, "nft delete element inet netd published { tcp . 8080 : 10.10.40.130 . 80 }")
			says(far.NS, "192.168.170.137:8080", "web")
			h.Run(t, "nft delete element inet netd published { tcp . 8080 : 10.10.40.130 . 80 } ; add element inet netd published { tcp . 8080 : 10.10.40.150 . 80 }")
			says(far.NS, "192.168.170.137:8080", "web")
			h.Run(t, "nft flush chain inet netd publish-source")
			l.wait("the container by its own port", func() string {
				if err := dials(t, inside("web"), "192.168.170.137:5353").asks(); err != nil {
					return err.Error()
				}
				return ""
			})
			h.Run(t, "nft flush chain inet netd publish")
			says(far.NS, "192.168.170.137:8080", "web")
			d.Run("iptables", "-F", "DOCKER-USER")
			says(far.NS, "192.168.170.137:8080", "web")
			if out := d.Run("sh", "-c", "iptables-save | iptables-restore && iptables-save"); !strings.Contains(out, "--ctstate DNAT") {
				t.Error(out)
			}
			h.taken("3 by docker")
			says(far.NS, "192.168.170.137:8080", "web")
			if out := h.must(0, "show", "workloads"); !strings.Contains(out, "192.168.170.137:8081->80/tcp") {
				t.Error(out)
			}
			if out := h.must(0, "show", "workloads", "--json"); !strings.Contains(out, `"8080->80/tcp"`) {
				t.Error(out)
			}

			narrowly := func() {
				t.Helper()
				if log := h.log.String(); !strings.Contains(log, `"ports": ["`) || strings.Contains(log, `"cause": "published ports"`) { // a pass over everything had to do what was left
					t.Errorf("not narrowly:\n%s", log)
				}
			}
			narrowly()

			// They outlive the daemon and its restart, and move to who has the port next. A flow that began while somebody had taken the
			// translation away comes to the container once it is back.
			h.stop(syscall.SIGKILL)
			says(far.NS, "192.168.170.137:8080", "web")
			h.restored()
			h.Run(t, "nft flush chain inet netd publish")
			h.Run(t, "nft flush chain inet netd publish-output")
			astray := map[string]*flow{"another host": dials(t, far.NS, "192.168.170.137:5353"), "the host itself": dials(t, h.NS, "127.0.0.1:5353")}
			for who, f := range astray {
				if err := f.asks(); err == nil {
					t.Errorf("%s is answered without the translation", who)
				}
			}
			h.start()
			for who, f := range astray {
				answered("the flow of "+who+", which began without the translation", f)
			}
			h.taken("3 by docker")
			d.Docker("rm", "-f", "web")
			silent(far.NS, "192.168.170.137:8080")
			if err := old.asks(); err == nil {
				t.Error("a container that is gone answers")
			}
			serve("next", "-p", "8080:80", "-p", "5353:53/udp")
			says(far.NS, "192.168.170.137:8080", "next")
			echoes(t, inside("next"), ":53")
			answered("the flow of before the second one", old)
			d.Docker("restart", "-t", "0", "next")
			says(far.NS, "192.168.170.137:8080", "next")

			h.must(0, "destroy", "-y")
			silent(far.NS, "192.168.170.137:8080")
			h.must(0, "apply", "-y")
			says(far.NS, "192.168.170.137:8080", "next")

			// With another network's default route the ports are that one's, and the way to this host's loopback is shut again.
			link := strings.Fields(h.Run(t, "ip -o route show "+addressIn(t, d, "next", "lab")))[2]
			open := func() string {
				return strings.TrimSpace(h.Run(t, "cat /proc/sys/net/ipv4/conf/"+link+"/route_localnet"))
			}
			if open() != "1" {
				t.Errorf("route_localnet of %s is %s", link, open())
			}
			d.Docker("network", "connect", "bridge", "next")
			l.wait("the loopback shut", func() string {
				if now := open(); now != "0" {
					return now
				}
				return ""
			})
			d.Docker("rm", "-f", "next", "one", "client")
			h.taken("1 by file")
			if out := h.Run(t, "nft list ruleset"); strings.Contains(out, "publish") {
				t.Errorf("it stays:\n%s", out)
			}
			narrowly()
		})
	}
}

// echoes has a socket of a namespace send back what it gets by UDP, until the test's end. heard is whom it heard last.
func echoes(t *testing.T, ns *netns.NS, at string) (heard func() string) {
	t.Helper()
	var c net.PacketConn
	if err := ns.Do(func() (err error) { c, err = net.ListenPacket("udp", at); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	var last atomic.Value
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			last.Store(from.(*net.UDPAddr).AddrPort().Addr().Unmap().String())
			_, _ = c.WriteTo(b[:n], from)
		}
	}()
	return func() string { return last.Load().(string) }
}

// flow is a UDP socket that asks one address.
type flow struct{ net.Conn }

// dials is a flow from a namespace until the test's end.
func dials(t *testing.T, ns *netns.NS, to string) *flow {
	t.Helper()
	var c net.Conn
	if err := ns.Do(func() (err error) { c, err = net.Dial("udp", to); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &flow{c}
}

// asks sends a datagram, and is an error where it does not come back.
func (f *flow) asks() error {
	if err := f.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := f.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 100)
	if n, err := f.Read(b); err != nil || string(b[:n]) != "hello" {
		return fmt.Errorf("%q comes back: %w", b[:n], err)
	}
	return nil
}

// spared has a UDP socket of a host hear nothing until the test's end.
func (h *labHost) spared(t *testing.T, at string) {
	t.Helper()
	var c net.PacketConn
	if err := h.Do(func() (err error) { c, err = net.ListenPacket("udp", at); return err }); err != nil {
		t.Fatal(err)
	}
	heard := make(chan net.Addr, 1)
	go func() {
		if _, from, err := c.ReadFrom(make([]byte, 100)); err == nil {
			heard <- from
		}
		close(heard)
	}()
	t.Cleanup(func() {
		c.Close()
		if from, ok := <-heard; ok {
			t.Errorf("%s hears %s", at, from)
		}
	})
}

// restored has nft save netd's tables and load them again, as a host's own service does at its start: netd, which does not run,
// finds nothing to do.
func (h *labHost) restored() {
	t := h.lab.t
	t.Helper()
	saved := filepath.Join(h.dir, "saved.nft")
	for _, table := range []string{"inet netd", "arp netd"} {
		if err := os.WriteFile(saved, []byte(h.Run(t, "nft list table "+table)), 0o600); err != nil {
			t.Fatal(err)
		}
		h.Run(t, "nft delete table "+table)
		h.Run(t, "nft -f "+saved)
	}
	if out := h.must(0, "plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("after nft list and nft -f:\n%s", out)
	}
}
