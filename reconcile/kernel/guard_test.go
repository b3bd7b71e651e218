package kernel_test

import (
	"context"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestUnguarded has the kernel refuse a chain, and with it the transaction of all guards: no link comes up and nothing is
// forwarded. On a host that has its guards, what does not open anything is repaired all the same.
func TestUnguarded(t *testing.T) {
	refused := object.NftChain{Table: object.NftTable{Family: "inet", Name: "netd"}, Name: "refused", Type: "nat", Hook: "forward"}
	converge := func(h *host) {
		t.Helper()
		w := h.want()
		w.Put(refused, reconcile.Cause{})
		_, out, err := h.engine.Converge(context.Background(), w, nil, nil)
		if err == nil || !strings.Contains(err.Error(), refused.Key().String()) {
			t.Errorf("%v, %d in trouble", err, len(out.Trouble))
		}
	}
	h := newHost(t, config.ModeVXLAN)
	converge(h)
	if got := netns.Run(t, "ip -o link show group 142"); got != "" {
		t.Errorf("without guards there are\n%s", got)
	}
	if got := netns.Run(t, "sysctl -n net.ipv4.conf.ens33.forwarding"); strings.TrimSpace(got) != "0" {
		t.Errorf("without guards forwarding is %s", got)
	}

	h.converge()
	netns.Run(t, "ip route del 10.10.194.128/26")
	netns.Run(t, "ip link del "+object.VethName("file/nginx-master"))
	converge(h)
	if got := netns.Run(t, "ip route show 10.10.194.128/26"); got == "" {
		t.Error("the route did not come back")
	}
	if got := netns.Run(t, "ip -o link show group 142 type veth"); got != "" {
		t.Errorf("there is, although its guards were not built,\n%s", got)
	}
	h.converge()
}
