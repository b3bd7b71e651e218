package kernel_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
	"netd/testenv/stream"
)

// TestFlips changes a route of each family in place, again and again, under a stream: every packet finds the old one or the
// new one.
func TestFlips(t *testing.T) {
	netns.Need(t)
	box := netns.New(t, "far")
	netns.Run(t, "ip link add near type veth peer name far netns far")
	t.Cleanup(func() { netns.Run(t, "ip link del near") })
	netns.Run(t, "ip link set near up")
	box.Run(t, "ip link set far up")
	for _, line := range []string{"ip addr add 192.0.2.1/24 dev near", "ip addr add 2001:db8::1/64 dev near nodad"} {
		netns.Run(t, line)
	}
	for _, line := range []string{"ip addr add 192.0.2.2/24 dev far", "ip addr add 192.0.2.3/24 dev far", "ip addr add 2001:db8::2/64 dev far nodad",
		"ip addr add 2001:db8::3/64 dev far nodad", "ip addr add 10.99.1.1/32 dev lo", "ip addr add 2001:db8:99::1/128 dev lo nodad"} {
		box.Run(t, line)
	}
	k, err := kernel.New(memory{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	e := &reconcile.Engine{Kinds: k.Kinds(), Reading: k.Reading}
	converge := func(w reconcile.Want) {
		t.Helper()
		if _, _, err := e.Converge(context.Background(), w, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { converge(reconcile.Want{}) })
	by := func(host string) (w reconcile.Want) {
		for _, r := range []object.Route{
			{Dst: netip.MustParsePrefix("10.99.1.0/24"), Via: netip.MustParseAddr("192.0.2." + host)},
			{Dst: netip.MustParsePrefix("2001:db8:99::/64"), Via: netip.MustParseAddr("2001:db8::" + host)},
		} {
			r.Table, r.Type, r.Dev = object.MainTable, object.Unicast, "near"
			w.Put(r, reconcile.Cause{})
		}
		return w
	}
	converge(by("2"))
	here := netns.Open("/proc/thread-self/ns/net") // a thread of the test is where the test is
	var streams []*stream.Stream
	for _, ends := range [][2]string{{"192.0.2.1", "10.99.1.1"}, {"2001:db8::1", "2001:db8:99::1"}} {
		s := stream.Start(t, here, netip.MustParseAddr(ends[0]), box, netip.MustParseAddr(ends[1]), 100*time.Microsecond)
		s.Flowing(t)
		streams = append(streams, s)
	}
	for i := range 600 {
		converge(by([]string{"3", "2"}[i%2]))
	}
	for _, s := range streams {
		r := s.Stop()
		t.Log(r)
		if r.Lost > 0 || r.Refused > 0 {
			t.Errorf("600 changes of a route lost packets: %s", r)
		}
	}
	for _, line := range []string{"ip route show 10.99.1.0/24", "ip -6 route show 2001:db8:99::/64"} {
		if out := netns.Run(t, line); strings.Count(out, "\n") != 1 {
			t.Errorf("%s:\n%s", line, out)
		}
	}
}
