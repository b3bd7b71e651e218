package main

import (
	"strings"
	"testing"
)

// TestOuterSource has a route say another source than the file's address: the plan says what that costs, and what to do. It
// needs no ipip: the question is asked before anything is made.
func TestOuterSource(t *testing.T) {
	l := newLab(t, "ipip")
	h := l.hosts[0]
	const says = "ipip: to node baihl-node this host would send from 192.168.170.99"
	if out := h.must(0, "plan"); strings.Contains(out, "would send from") {
		t.Errorf("nothing is wrong yet:\n%s", out)
	}
	h.Run(t, "ip addr add 192.168.170.99/24 dev ens33")
	h.Run(t, "ip route add 192.168.170.138 dev ens33 src 192.168.170.99")
	if out := h.must(0, "plan"); !strings.Contains(out, says) || !strings.Contains(out, "say src 192.168.170.137") {
		t.Errorf("the plan does not say it:\n%s", out)
	}
	h.Run(t, "ip route change 192.168.170.138 dev ens33 src 192.168.170.137")
	if out := h.must(0, "plan"); strings.Contains(out, "would send from") {
		t.Errorf("it is as it should be:\n%s", out)
	}
}
