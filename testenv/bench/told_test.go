package bench

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
)

// toldBlock is the i-th block of the far host.
func toldBlock(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 20, byte(i >> 2), byte(i << 6)}), 26)
}

// toldFile is the file of one of two hosts that know each other as routers outside the file: the node's blocks are the first ones of its pool.
func toldFile(address, pool string, blocks int, asn uint32, far string, farASN uint32) []byte {
	var list []string
	for i := range blocks {
		list = append(list, fmt.Sprintf("%q", toldBlock(i)))
	}
	if blocks == 0 {
		list = []string{fmt.Sprintf("%q", strings.Replace(pool, "/16", "/26", 1))}
	}
	return fmt.Appendf(nil, `network "lab" {
  pools = [%q]
  mode  = "bgp"
}
bgp {
  asn = %d
}
node "node" {
  address = "%s/24"
  blocks  = [%s]
}
peer "far" {
  address = %q
  asn     = %d
  import  = ["10.20.0.0/16 le 32"]
}
`, pool, asn, address, strings.Join(list, ", "), far, farASN)
}

// appeared is when the route to a prefix appears; it is closed without a word where it does not, which has failed the run then.
func appeared(b *testing.B, w *wire, dst netip.Prefix) <-chan time.Time {
	at := make(chan time.Time, 1)
	go func() {
		defer close(at)
		w.appears(b, dst)
		at <- time.Now()
	}()
	return at
}

// BenchmarkTold has `netd apply` give a host a block more, and waits for the route to it in the kernel of another host that has a session
// with that one: both run netd.
func BenchmarkTold(b *testing.B) {
	netns.Need(b)
	const runs = 30
	near, far := &host{netns.New(b, "near"), b.TempDir()}, &host{netns.New(b, "far"), b.TempDir()}
	near.Run(b, "ip link add ens33 type veth peer name ens33 netns far")
	write := func(blocks int) {
		b.Helper()
		if err := os.WriteFile(far.file("netd.hcl"), toldFile("172.16.0.2", "10.20.0.0/16", blocks, 65002, "172.16.0.1", 65001), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	write(1)
	if err := os.WriteFile(near.file("netd.hcl"), toldFile("172.16.0.1", "10.10.0.0/16", 0, 65001, "172.16.0.2", 65002), 0o644); err != nil {
		b.Fatal(err)
	}
	for i, h := range []*host{near, far} {
		h.Run(b, fmt.Sprintf("ip addr add 172.16.0.%d/24 dev ens33", i+1))
		h.Run(b, "ip link set ens33 up")
		if err := os.Chmod(h.dir, 0o755); err != nil {
			b.Fatal(err)
		}
	}
	hearNear, hearFar := open(b, near.NS, routeChanges), open(b, far.NS, routeChanges)
	defer hearNear.close()
	defer hearFar.close()
	var daemons []*daemon
	for _, h := range []*host{near, far} {
		d, _ := h.start(b)
		defer d.endSpeaker()
		daemons = append(daemons, d)
	}
	hearNear.appears(b, toldBlock(0))
	for _, d := range daemons {
		d.rests(b)
	}
	var whole, told []time.Duration
	for i := 1; i <= runs; i++ {
		write(i + 1)
		block := toldBlock(i)
		own, there := appeared(b, hearFar, block), appeared(b, hearNear, block)
		began := time.Now()
		timed(b, far.NS, far.command(b, "apply", "-y"))
		left, ok := <-own
		arrived, came := <-there
		if !ok || !came {
			b.FailNow()
		}
		whole = append(whole, arrived.Sub(began))
		told = append(told, arrived.Sub(left))
	}
	within("bgp: a block more, from the far netd's own kernel to the near one's, p50", median(told), 5*time.Millisecond)
	b.Logf("from kernel to kernel at most %s", show(quantile(told, 1)))
	table.add(figure{what: "bgp: … from the far `netd apply -y`, its start and the plan that it prints included, p50", netd: show(median(whole)), bar: "told", none: true})
}
