package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"netd/testenv/netns"
)

// TestTunl0 has the kernel's own tunl0 as netd finds it: idle, in use by others, absent, and with foreign tunnels beside it.
func TestTunl0(t *testing.T) {
	t.Run("ipip", func(t *testing.T) {
		needIPIP(t)
		t.Run("is as it was after destroy", func(t *testing.T) {
			l := newTunl0(t)
			a, b := l.hosts[0], l.hosts[1]
			a.Run(t, "ip link set tunl0 mtu 1300")
			b.Run(t, "ip link set tunl0 mtu 1300 up")
			l.apply()
			for _, h := range l.hosts {
				h.has("ip -o link show dev tunl0", "mtu 1480 ")
				h.has("ip -o link show dev tunl0", "UP")
			}
			l.pings(a.container, "10.10.2.10", 1480)
			for _, h := range l.hosts {
				h.must(0, "destroy", "-y")
			}
			for h, flags := range map[*labHost]string{a: "<NOARP>", b: "<NOARP,UP,LOWER_UP>"} {
				h.has("ip -o link show dev tunl0", flags+" mtu 1300 ")
				if left := h.Run(t, "ip -4 addr show dev tunl0"); strings.Contains(left, "inet ") {
					t.Errorf("%s: destroy left %s", h.Name, left)
				}
			}
		})

		t.Run("stays up while someone else uses it", func(t *testing.T) {
			l := newTunl0(t)
			l.apply()
			a := l.hosts[0]
			a.Run(t, "ip addr add 198.51.100.1/32 dev tunl0")
			a.must(0, "destroy", "-y")
			a.has("ip -o link show dev tunl0", "UP")
			a.has("ip addr show dev tunl0", "198.51.100.1/32")
		})

		// Where tunl0 has an address of netd and no other, the kernel takes the route along with that.
		t.Run("stays up while someone else routes by it", func(t *testing.T) {
			l := newUnderlay(t, fmt.Sprintf(withoutBlocks, "ipip", ""), "a")
			l.wire("a eth0 192.168.1.1/24")
			l.destroyed()
			l.apply()
			a := l.hosts[0]
			a.Run(t, "ip route add 198.51.100.1/32 via 192.168.1.2 dev tunl0 onlink")
			a.must(0, "destroy", "-y")
			a.has("ip -o link show dev tunl0", "UP")
			a.has("ip route", "198.51.100.1 via 192.168.1.2 dev tunl0")
		})

		t.Run("is made where the kernel keeps it out, and plan asks for no module", func(t *testing.T) {
			if os.Getenv("NETD_GUEST") == "" {
				t.Skip("settings of the whole machine: only the guest (make vm) is the test's own")
			}
			machine := netns.Open("/proc/1/ns/net")
			machine.Run(t, "sysctl -q -w net.core.fb_tunnels_only_for_init_net=1")
			t.Cleanup(func() { machine.Run(t, "sysctl -q -w net.core.fb_tunnels_only_for_init_net=0") })
			asked := modprobe(t)
			l := newTunl0(t)
			a := l.hosts[0]
			if out, err := a.Output("ip", "route", "show", "dev", "tunl0"); err == nil {
				t.Fatalf("there is a tunl0: %s", out)
			}
			if got := asked(); !strings.Contains(got, "netdev-tunl0") { // or the next look proves nothing
				t.Fatalf("a look-up by name asked for %q", got)
			}
			if out := a.must(0, "plan"); !strings.Contains(out, "+ link   tunl0") {
				t.Errorf("the plan makes no tunl0:\n%s", out)
			}
			if got := asked(); strings.Contains(got, "tunl0") || strings.Contains(got, "ipip") {
				t.Errorf("plan asked for modules: %s", got)
			}
			l.apply()
			a.has("ip -o link show dev tunl0", "group 142")
			l.pings(a.container, "10.10.2.10", 1480)
			for _, h := range l.hosts {
				h.must(0, "destroy", "-y")
				if out, err := h.Output("ip", "-o", "link", "show", "dev", "tunl0"); err == nil {
					t.Errorf("%s: destroy left %s", h.Name, out)
				}
			}
		})

		t.Run("loses a node's packets to a foreign tunnel, which is a conflict", func(t *testing.T) {
			l := newTunl0(t)
			a, b := l.hosts[0], l.hosts[1]
			a.Run(t, "ip link add theirs type ipip local 192.168.1.1 remote 192.168.1.77")
			a.Run(t, "ip link set theirs up")
			l.apply()
			l.pings(a.container, "10.10.2.10", 1480) // that of a stranger is none
			a.must(0, "destroy", "-y")
			a.Run(t, "ip link add rival type ipip local 192.168.1.1 remote 192.168.1.2")
			a.Run(t, "ip link set rival up")
			if out := a.must(1, "plan"); !strings.Contains(out, "ipip tunnel rival, which takes tunl0's packets from node b") {
				t.Errorf("the plan says:\n%s", out)
			}
			a.must(1, "apply", "-y")
			if out := a.Run(t, "ip route show proto 142"); strings.Contains(out, "tunl0") {
				t.Errorf("routes into a tunnel that is left out:\n%s", out)
			}
			a.has("ip -d link show dev rival", "remote 192.168.1.2 local 192.168.1.1")
			a.Run(t, "ip link del rival")
			a.must(0, "apply", "-y")
			l.pings(a.container, "10.10.2.10", 1480)
			l.pings(b.container, "10.10.1.10", 1480)
		})
	})
}

func newTunl0(t *testing.T) *twoHosts {
	l := newUnderlay(t, fmt.Sprintf(twoSites, "ipip"), "a", "b")
	l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
	l.destroyed()
	return l
}

// modprobe has the kernel's requests for modules written down instead, and returns what gives them and forgets them.
func modprobe(t *testing.T) func() string {
	t.Helper()
	const setting = "/proc/sys/kernel/modprobe"
	was, err := os.ReadFile(setting)
	if err != nil {
		t.Fatal(err)
	}
	program, list := "/tmp/modprobe", "/tmp/modprobe.asked"
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!%s\necho \"$@\" >>%s\nexit 1\n", sh, list)
	if err := os.WriteFile(program, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(setting, []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.WriteFile(setting, was, 0o644) })
	return func() string {
		b, _ := os.ReadFile(list)
		_ = os.Remove(list)
		return string(b)
	}
}
