package kernel

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestSmallBuffer has 2,000 routes, a third of them with eight next hops, made, looked up and taken away where the receive buffer is
// as small as net.core.rmem_max allows by default, which is all that one has in a user namespace, and smaller: no answer is lost.
// Where some are lost after all that is an error at once, and what is asked next is answered.
func TestSmallBuffer(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "ip link add ens33 type veth peer name wire")
	t.Cleanup(func() { netns.Run(t, "ip link del ens33") })
	netns.Run(t, "ip link set wire up")
	netns.Run(t, "ip link set ens33 up")
	netns.Run(t, "ip addr add 192.168.170.137/24 dev ens33")
	k, err := New(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	s, ctx := routes{k}, context.Background()
	var ways []object.Hop
	for i := range 8 {
		ways = append(ways, object.Hop{Via: netip.AddrFrom4([4]byte{192, 168, 170, byte(i + 1)}), Dev: "ens33"})
	}
	var come, leave []reconcile.Change
	var want []reconcile.Resource
	var keys []reconcile.Key
	for i := range 2000 {
		r := object.Route{Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(i >> 8), byte(i)}), 32), Table: object.MainTable, Type: object.Unicast}
		if i%3 == 0 {
			r.Hops = object.HopList(ways)
		} else {
			r.Via, r.Dev = ways[0].Via, "ens33"
		}
		come = append(come, reconcile.Change{Op: reconcile.Create, Phase: reconcile.Build, Key: r.Key(), Want: r})
		leave = append(leave, reconcile.Change{Op: reconcile.Delete, Phase: reconcile.Leftover, Key: r.Key(), Have: r})
		want, keys = append(want, r), append(keys, r.Key())
	}
	for _, bytes := range []int{208 << 10, 16 << 10, 4 << 10} {
		t.Run(fmt.Sprint(bytes), func(t *testing.T) {
			k.c.hold(bytes)
			k.c.seq = math.MaxUint32 - 100 // and after four billion requests they are counted from 0 again
			if k.c.room > 2*bytes {
				t.Fatalf("a receive buffer of %d bytes", k.c.room)
			}
			errs, made := s.Tell(ctx, come)
			for i := range errs {
				if errs[i] != nil || made[i] != want[i] {
					t.Fatalf("%s: %v, made %v", keys[i], errs[i], made[i])
				}
			}
			if own, _, err := s.Get(ctx, keys, want); len(own) != len(want) || err != nil {
				t.Errorf("%d of %d found: %v", len(own), len(want), err)
			}
			if err := errors.Join(s.Batch(ctx, leave)...); err != nil {
				t.Error(err)
			}
		})
	}

	k.c.room = rcvBuffer // which it has not
	began := time.Now()
	if errs, _ := s.Tell(ctx, come); !errors.Is(errors.Join(errs...), unix.ENOBUFS) {
		t.Error("nothing was lost: the test proves nothing")
	}
	k.c.hold(rcvBuffer)
	if own, _, err := s.Get(ctx, keys, want); len(own) != len(want) || err != nil {
		t.Errorf("after answers were lost %d of %d found: %v", len(own), len(want), err)
	}
	if err := errors.Join(s.Batch(ctx, leave)...); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 15*time.Second { // a lost answer is waited for for 30
		t.Errorf("after answers were lost: %v", took)
	}
}
