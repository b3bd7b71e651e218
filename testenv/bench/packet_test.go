package bench

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

// pair is two hosts on a wire with a container each, as in the walk-through.
type pair struct {
	hosts      [2]*host
	containers [2]*netns.NS
}

var (
	containerAddr = [2]netip.Addr{netip.MustParseAddr("10.10.40.129"), netip.MustParseAddr("10.10.194.134")}
	block         = [2]netip.Prefix{netip.MustParsePrefix("10.10.40.128/26"), netip.MustParsePrefix("10.10.194.128/26")}
	hostAddr      = [2]netip.Addr{netip.MustParseAddr("192.168.170.137"), netip.MustParseAddr("192.168.170.138")}
)

// newPair makes the hosts, the wire and the containers, and nothing else.
func newPair(b testing.TB, name, mode string) *pair {
	p := &pair{}
	wire := "wire-" + name
	netns.Run(b, "ip link add "+wire+" type bridge")
	b.Cleanup(func() { netns.Run(b, "ip link del "+wire) })
	netns.Run(b, "ip link set "+wire+" up")
	var file strings.Builder
	fmt.Fprintf(&file, "network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode = %q\n}\n", mode)
	for i := range p.hosts {
		fmt.Fprintf(&file, "node \"node%d\" {\n  address = \"%s/24\"\n  blocks = [%q]\n}\n", i, hostAddr[i], block[i])
		fmt.Fprintf(&file, "workload \"web%d\" {\n  node = \"node%d\"\n  address = %q\n  netns = \"/run/netns/%s-web%d\"\n}\n", i, i, containerAddr[i], name, i)
	}
	for i := range p.hosts {
		h := &host{netns.New(b, fmt.Sprintf("%s-node%d", name, i)), b.TempDir()}
		p.hosts[i], p.containers[i] = h, netns.New(b, fmt.Sprintf("%s-web%d", name, i))
		port := fmt.Sprintf("%s%d", name, i)
		netns.Run(b, fmt.Sprintf("ip link add %s type veth peer name ens33 netns %s", port, h.Name))
		netns.Run(b, fmt.Sprintf("ip link set %s master %s up", port, wire))
		h.Run(b, fmt.Sprintf("ip addr add %s/24 dev ens33", hostAddr[i]))
		h.Run(b, "ip link set ens33 up")
		if err := os.Chmod(h.dir, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.WriteFile(h.file("netd.hcl"), []byte(file.String()), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

// byNetd has netd set the pair up.
func (p *pair) byNetd(b testing.TB, mode string) {
	for _, h := range p.hosts {
		if mode == "bgp" {
			d, _ := h.start(b)
			b.Cleanup(d.endSpeaker)
		} else {
			timed(b, h.NS, h.command(b, "apply", "-y"))
		}
	}
	p.answer(b)
}

// answer waits until the containers reach each other.
func (p *pair) answer(b testing.TB) {
	b.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; {
		out, err := p.containers[0].Output("ping", "-c1", "-W1", containerAddr[1].String())
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("%v: %s", err, out)
		}
	}
}

// byHand makes the same objects by commands. With guards it also gets the nftables table that netd made on the other pair.
func (p *pair) byHand(b testing.TB, mode string, like *pair, guards bool) {
	mtu := map[string]int{"vxlan": 1450, "ipip": 1480, "bgp": 1500}[mode]
	for i, h := range p.hosts {
		far := 1 - i
		tunnel, farTunnel := block[i].Addr(), block[far].Addr()
		web := object.VethName(fmt.Sprintf("file/web%d", i))
		lines := fmt.Sprintf(`ip link add %[1]s mtu %[2]d address ee:ee:ee:ee:ee:ee type veth peer name eth0 mtu %[2]d netns %[3]s
ip link set %[1]s up
ip addr add 169.254.1.1/32 dev %[1]s scope link
sysctl -q -w net.ipv4.conf.%[1]s.forwarding=1
sysctl -q -w net.ipv4.conf.ens33.forwarding=1
ip route add %[4]s dev %[1]s scope link
ip route add blackhole %[5]s
`, web, mtu, p.containers[i].Name, containerAddr[i], block[i])
		switch mode {
		case "vxlan":
			lines += fmt.Sprintf(`ip link add vxlan.netd mtu %d address %s type vxlan id 4096 dstport 4789 local %s dev ens33 nolearning
ip addr add %s/32 dev vxlan.netd
ip link set vxlan.netd up
sysctl -q -w net.ipv4.conf.vxlan/netd.forwarding=1
ip neigh add %s lladdr %s dev vxlan.netd nud permanent
bridge fdb append %s dev vxlan.netd dst %s
ip route add %s via %s dev vxlan.netd onlink
`, mtu, object.VTEPMAC(4096, tunnel), hostAddr[i], tunnel, farTunnel, object.VTEPMAC(4096, farTunnel), object.VTEPMAC(4096, farTunnel), hostAddr[far], block[far], farTunnel)
		case "ipip":
			lines += fmt.Sprintf(`ip link set tunl0 mtu %d up
ip addr add %s/32 dev tunl0
sysctl -q -w net.ipv4.conf.tunl0.forwarding=1
ip route add %s via %s dev tunl0 onlink
`, mtu, tunnel, block[far], hostAddr[far])
		default:
			lines += fmt.Sprintf("ip route add %s via %s dev ens33\n", block[far], hostAddr[far])
		}
		if guards {
			rules := h.file("rules")
			if err := os.WriteFile(rules, []byte(like.hosts[i].Run(b, "nft list table inet netd")), 0o644); err != nil {
				b.Fatal(err)
			}
			lines += "nft -f " + rules + "\n"
		}
		if err := h.Do(func() error { return shell(lines) }); err != nil {
			b.Fatal(err)
		}
		err := p.containers[i].Do(func() error {
			return shell(fmt.Sprintf(`ip addr add %s/32 dev eth0
ip link set eth0 up
ip route add 169.254.1.1 dev eth0 scope link
ip route add default via 169.254.1.1 dev eth0`, containerAddr[i]))
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	p.answer(b)
}

// ends are two addresses that speak with each other, and where they are.
type ends struct {
	at   [2]*netns.NS
	addr [2]netip.Addr
}

func (p *pair) inside() ends  { return ends{p.containers, containerAddr} }
func (p *pair) outside() ends { return ends{[2]*netns.NS{p.hosts[0].NS, p.hosts[1].NS}, hostAddr} }

// throughput is how many bytes a second one TCP stream brings from one end to the other.
func (p ends) throughput(b testing.TB, length time.Duration) float64 {
	b.Helper()
	var l *net.TCPListener
	var out net.Conn
	if err := p.at[1].Do(func() (err error) {
		l, err = net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.AddrPortFrom(p.addr[1], 0)))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	if err := p.at[0].Do(func() (err error) { out, err = net.DialTimeout("tcp4", l.Addr().String(), 10*time.Second); return err }); err != nil {
		b.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	defer in.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer out.Close()
		chunk := make([]byte, 256<<10)
		for began := time.Now(); time.Since(began) < length; {
			if _, err := out.Write(chunk); err != nil {
				return
			}
		}
	}()
	began := time.Now()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{in}, make([]byte, 256<<10))
	took := time.Since(began)
	<-done
	if err != nil || n == 0 {
		b.Fatalf("%d bytes: %v", n, err)
	}
	return float64(n) / took.Seconds()
}

// roundTrip is the time of a datagram of 64 bytes to the other end and back, the median of many.
func (p ends) roundTrip(b testing.TB, rounds int) float64 {
	b.Helper()
	var echo, ask *net.UDPConn
	listen := func(i int, c **net.UDPConn) {
		if err := p.at[i].Do(func() (err error) {
			*c, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(p.addr[i], 0)))
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	listen(0, &ask)
	listen(1, &echo)
	done := make(chan struct{})
	go func() {
		defer close(done)
		m := make([]byte, 64)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(m)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDPAddrPort(m[:n], from)
		}
	}()
	defer func() { _ = echo.Close(); <-done; _ = ask.Close() }()
	_ = ask.SetReadDeadline(time.Now().Add(30 * time.Second))
	to := echo.LocalAddr().(*net.UDPAddr).AddrPort()
	took := make([]float64, 0, rounds)
	m := make([]byte, 64)
	for range rounds {
		began := time.Now()
		if _, err := ask.WriteToUDPAddrPort(m, to); err != nil {
			b.Fatal(err)
		}
		if _, _, err := ask.ReadFromUDPAddrPort(m); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began).Seconds())
	}
	return median(took)
}

// BenchmarkPacket is a packet from container to container by what netd made and by the same objects made by hand, in turn:
// with the same guards, and, told for comparison, without any, and from host to host where there is no container network at all.
// Mode ipip needs a kernel that has it: make bench-ipip runs it in a guest.
func BenchmarkPacket(b *testing.B) {
	netns.Need(b)
	for _, mode := range []string{"vxlan", "ipip", "bgp"} {
		b.Run(mode, func(b *testing.B) {
			if mode == "ipip" && !strings.Contains(netns.Run(b, "ip -o link"), "tunl0") {
				b.Skip("this kernel has no ipip: make bench-ipip runs it in a guest")
			}
			ours, hand, bare := newPair(b, mode[:1]+"n", mode), newPair(b, mode[:1]+"h", mode), newPair(b, mode[:1]+"b", mode)
			ours.byNetd(b, mode)
			hand.byHand(b, mode, ours, true)
			bare.byHand(b, mode, ours, false)
			none := newPair(b, mode[:1]+"0", mode)
			none.hosts[0].Run(b, "ping -q -c 1 -w 10 "+hostAddr[1].String())
			all := []ends{ours.inside(), hand.inside(), bare.inside(), none.outside()}
			names := []string{"netd", "by hand", "by hand, no guards", "host to host"}
			const rounds = 30
			speed, rtt := make([][]float64, len(all)), make([][]float64, len(all))
			for round := range rounds {
				order := []int{0, 1, 2, 3}
				if round%2 == 1 { // who comes first changes, lest one always follows the other's rest
					slices.Reverse(order)
				}
				for _, i := range order {
					speed[i] = append(speed[i], all[i].throughput(b, 200*time.Millisecond))
					rtt[i] = append(rtt[i], all[i].roundTrip(b, 1000))
				}
			}
			ratios := func(of [][]float64, with int) float64 {
				var rs []float64
				for i := range of[0] {
					rs = append(rs, of[0][i]/of[with][i])
				}
				return median(rs)
			}
			gbit := func(v float64) string { return amount(v*8/1e9, "Gbit/s") }
			for with := 1; with < len(all); with++ {
				s, t := ratios(speed, with), ratios(rtt, with)
				bar := ""
				if with == 1 {
					bar = "0.98–1.02"
				}
				table.add(figure{what: "packet: TCP, " + mode + ", " + names[with], netd: gbit(median(speed[0])), peer: gbit(median(speed[with])),
					ratio: s, bar: bar, met: s >= 0.98, none: with > 1})
				table.add(figure{what: "packet: round trip, " + mode + ", " + names[with], netd: show(seconds(median(rtt[0]))), peer: show(seconds(median(rtt[with]))),
					ratio: t, bar: bar, met: t <= 1.02, none: with > 1})
			}
		})
	}
}
