package object

import (
	"fmt"
	"slices"
	"testing"

	"netd/reconcile"
)

// An element of an interval set that takes the place of others, or of a part of one, comes right behind them, in one batch: a node whose
// address lies beside another's makes one element of two, and a pool that grows or shrinks overlaps itself.
func TestElementsMakeRoom(t *testing.T) {
	set := NftSet{Table: NftTable{Family: "inet", Name: "netd"}, Name: "inside", Type: "ipv4_addr", Interval: true}
	state := func(elems ...string) reconcile.State {
		s := reconcile.State{}
		s.Add(set)
		for _, e := range elems {
			s.Add(NftElem{Set: set, Elem: e})
		}
		return s
	}
	for _, x := range []struct {
		name             string
		have, want, plan []string
	}{
		{"two become one", []string{"192.168.170.138"}, []string{"192.168.170.138/31"}, []string{"- 192.168.170.138", "+ 192.168.170.138/31"}},
		{"one becomes two", []string{"10.0.0.0/15", "10.9.0.0/16"}, []string{"10.0.0.0/16", "10.1.0.0/17"}, []string{"- 10.0.0.0/15", "+ 10.0.0.0/16", "+ 10.1.0.0/17", "- 10.9.0.0/16"}},
		{"a larger one around several", []string{"10.0.0.0/24", "10.0.7.0/24", "10.1.0.0/24"}, []string{"10.0.0.0/16", "10.1.0.0/24"}, []string{"- 10.0.0.0/24", "- 10.0.7.0/24", "+ 10.0.0.0/16"}},
		{"a stranger's range", []string{"10.0.0.5-10.0.0.9"}, []string{"10.0.0.8/30"}, []string{"- 10.0.0.5-10.0.0.9", "+ 10.0.0.8/30"}},
		{"IPv6", []string{"fd00::/65"}, []string{"fd00::/64"}, []string{"- fd00::/65", "+ fd00::/64"}},
		{"beside each other", []string{"10.0.0.0/24"}, []string{"10.0.1.0/24"}, []string{"+ 10.0.1.0/24", "- 10.0.0.0/24"}},
	} {
		t.Run(x.name, func(t *testing.T) {
			plan := reconcile.Diff(reconcile.Want{State: state(x.want...)}, reconcile.Have{Own: state(x.have...)}, []string{KindNft}, nil)
			var got []string
			for _, c := range plan.Changes {
				r := c.Want
				if r == nil {
					r = c.Have
				}
				got = append(got, c.Op.Symbol()+" "+r.(NftElem).Elem)
			}
			if !slices.Equal(got, x.plan) {
				t.Errorf("got %q, want %q", got, x.plan)
			}
			for i, c := range plan.Changes[:len(plan.Changes)-1] {
				if next := plan.Changes[i+1]; c.Op == reconcile.Delete && next.Op == reconcile.Create && c.Phase != next.Phase {
					t.Errorf("%s and %s are not in one phase, and so not in one transaction", c.Key, next.Key)
				}
			}
		})
	}
}

// TestLeads: what an element of a map of published ports says, and that no other element says anything.
func TestLeads(t *testing.T) {
	for _, x := range []struct{ elem, want string }{
		{"udp . 5353 : 10.10.40.130 . 53", "udp invalid AddrPort 10.10.40.130:53"},
		{"192.168.170.137 . tcp . 8080 : 10.10.40.130 . 80", "tcp 192.168.170.137:8080 10.10.40.130:80"},
		{"2001:db8::1 . tcp . 8080 : fd00::2 . 80", "tcp [2001:db8::1]:8080 [fd00::2]:80"},
		{"10.10.40.130", ""}, {"10.10.0.0/16", ""}, {`"netd1f0c" . 10.10.40.129`, ""}, {"tcp . 8080", ""}, {"0x06 : 10.10.40.130 . 80", ""},
	} {
		proto, at, to, ok := NftElem{Elem: x.elem}.Leads()
		if got := fmt.Sprint(proto, " ", at, " ", to); ok != (x.want != "") || ok && got != x.want {
			t.Errorf("%s: %s, %v", x.elem, got, ok)
		}
		if ok && x.elem[0] == 'u' && at.Port() != 5353 {
			t.Errorf("%s: port %d", x.elem, at.Port())
		}
	}
}
