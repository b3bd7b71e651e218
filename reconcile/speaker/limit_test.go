package speaker

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/router"
)

// limitEnv is limitFirst of a speaker that a test starts.
const limitEnv = "NETD_TEST_LIMIT"

// TestMaxPrefixes has a router tell more prefixes than it may: the session is closed and its prefixes go, that is said, it is
// tried again after a pause that doubles, nothing takes it for drift, and it is back when the router tells fewer, or at
// once when it may tell more.
func TestMaxPrefixes(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	tells := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "route 172.30.%d.0/24 blackhole; ", i)
		}
		return fmt.Sprintf(`router id %s;
protocol device {}
protocol static { ipv4; %s }
protocol bgp netd {
  local %s as 65101;
  neighbor %s as 64512;
  connect delay time 1; connect retry time 1; error wait time 1, 1; error forget time 1;
  ipv4 { import all; export all; next hop self; };
}
`, far.addr, b.String(), far.addr, h.addr)
	}
	h.env = []string{limitEnv + "=400ms"}
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	p := object.Peer{Addr: far.addr, ASN: 65101, Local: h.addr, Port: 179, Opens: object.Dials, HoldTime: 9 * time.Second, Keepalive: 3 * time.Second,
		GracefulRestart: 2 * time.Minute, Up: true, Outside: true, Self: h.addr, Import: "172.30.0.0/16 le 24", MaxPrefixes: 5}
	w.Put(p, reconcile.Cause{})
	r := router.New(t, router.BIRD, far.ns, tells(5))
	h.converge(w)
	h.wait("five prefixes", func() bool { return len(h.client.Snapshot().Paths) == 5 })

	said := func() string {
		ns, _ := h.client.Neighbours()
		if len(ns) != 1 {
			return ""
		}
		return ns[0].Error
	}
	for i := range 6 { // the same again and again is no more than once
		n := 4 + i%2
		r.Configure(tells(n))
		h.wait(fmt.Sprint(n), func() bool { return len(h.client.Snapshot().Paths) == n })
	}
	if said() != "" {
		t.Errorf("within the limit: %s", said())
	}
	r.Configure(tells(6))
	h.wait("the session closed, its prefixes gone", func() bool {
		ns, _ := h.client.Neighbours()
		return len(ns) == 1 && !ns[0].Established() && len(h.client.Snapshot().Paths) == 0
	})
	h.wait("the reason", func() bool { return strings.Contains(said(), "max_prefixes: it told more than 5 prefixes") })
	if plan := h.converge(w); !plan.Empty() {
		t.Errorf("what max_prefixes closed is taken for drift:\n%s", text(plan))
	}
	pause := func() time.Duration { // until the next try; on a busy machine not each of them is seen
		_, after, _ := strings.Cut(said(), "tried again after ")
		d, _ := time.ParseDuration(after)
		return d
	}
	for _, least := range []time.Duration{800 * time.Millisecond, 1600 * time.Millisecond} {
		h.wait(fmt.Sprintf("another try, and a pause of %s", least), func() bool { return pause() >= least })
	}
	if d := pause(); d%(400*time.Millisecond) != 0 || d/(400*time.Millisecond)&(d/(400*time.Millisecond)-1) != 0 {
		t.Errorf("400 ms, doubled again and again, are %s", d)
	}
	r.Configure(tells(4))
	h.wait("four prefixes", func() bool { return len(h.client.Snapshot().Paths) == 4 })

	r.Configure(tells(200))
	h.wait("the session closed again, with a long pause", func() bool { return pause() >= 6400*time.Millisecond })
	began, long := time.Now(), pause()
	p.MaxPrefixes = 200
	w.Put(p, reconcile.Cause{})
	if plan := h.converge(w); len(plan.Changes) != 1 || plan.Changes[0].Op != reconcile.Update {
		t.Errorf("a higher limit is:\n%s", text(plan))
	}
	h.wait("all of them", func() bool { return len(h.client.Snapshot().Paths) == 200 })
	if took := time.Since(began); took > long*3/4 {
		t.Errorf("with the higher limit it was back after %s: the pause was waited for", took)
	}
}

// TestMaxPrefixesAtOnce: each UPDATE counts, also where many of one prefix each come at once.
func TestMaxPrefixesAtOnce(t *testing.T) {
	hosts := newHosts(t, 2)
	h, far := hosts[0], hosts[1]
	h.start()
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Refuse: true}, reconcile.Cause{})
	p := h.outsider(far, 65101)
	p.MaxPrefixes = 50
	w.Put(p, reconcile.Cause{})
	h.converge(w)
	r := h.session(far, router.Open{ASN: 65101})
	tells := func(n int) {
		var updates []byte
		for i := range n {
			updates = append(updates, router.Announce(far.addr, []uint32{65101}, netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(i), 0}), 24))...)
		}
		_, _ = r.Write(updates)
	}
	tells(50)
	h.wait("as many as it may tell", func() bool { return len(h.client.Snapshot().Paths) == 50 })
	tells(51) // the same again is no more
	h.wait("the session closed", func() bool { return strings.Contains(h.says(far.addr), "max_prefixes: it told more than 50 prefixes") })
}
