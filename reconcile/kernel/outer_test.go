package kernel_test

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"netd/config"
	"netd/testenv/netns"
)

// TestOuterSources asks for the source of packets to nodes whose routes say another, none at all, and nothing.
func TestOuterSources(t *testing.T) {
	h := newHost(t, config.ModeBGP)
	netns.Run(t, "ip addr add 192.168.170.99/24 dev ens33")
	netns.Run(t, "ip route add 192.168.170.138 dev ens33 src 192.168.170.99")
	var remotes []netip.Addr
	for _, a := range []string{"192.168.170.138", "192.168.170.139", "203.0.113.1"} {
		remotes = append(remotes, netip.MustParseAddr(a))
	}
	got, err := h.k.OuterSources(context.Background(), remotes)
	want := []netip.Addr{netip.MustParseAddr("192.168.170.99"), netip.MustParseAddr("192.168.170.137"), {}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
}
