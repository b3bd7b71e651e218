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

func forwardingOf(link string) string { return object.LinkSysctl("ipv4", "conf", link, "forwarding") }

// forwards is a link's switch as it is, and as it is without netd.
func (h *host) forwards(link string) string {
	h.t.Helper()
	facts, err := h.k.Host(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	for _, l := range facts.Links {
		if l.Name == link {
			return strings.TrimSpace(netns.Run(h.t, "sysctl -n "+forwardingOf(link))) + map[bool]string{false: ", else 0", true: ", else 1"}[l.Forwarding]
		}
	}
	return "no such link"
}

func (h *host) settle(settings ...string) {
	h.t.Helper()
	var w reconcile.Want
	for _, name := range settings {
		w.Put(object.Sysctl{Name: name, Value: "1"}, reconcile.Cause{})
	}
	if _, out, err := h.engine.Converge(context.Background(), w, nil, nil); err != nil {
		h.t.Fatalf("%v (%d done)", err, out.Done)
	}
}

// TestRenamedLink: what a link's switch was before netd goes with the link when it is renamed, and is not that of the link that gets
// the old name.
func TestRenamedLink(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.settle(forwardingOf("ens33"))
	for _, line := range []string{"ip link set ens33 down", "ip link set ens33 name lan0", "ip link add ens33 type veth peer name wire2", "sysctl -q -w " + forwardingOf("ens33") + "=1"} {
		netns.Run(t, line)
	}
	t.Cleanup(func() { netns.Run(t, "ip link del lan0") })
	if lan0, ens33 := h.forwards("lan0"), h.forwards("ens33"); lan0 != "1, else 0" || ens33 != "1, else 1" {
		t.Errorf("netd switched lan0 (%s), and not the link that is called ens33 now (%s)", lan0, ens33)
	}
	h.settle(forwardingOf("lan0"))
	h.settle()
	if lan0, ens33 := h.forwards("lan0"), h.forwards("ens33"); lan0 != "0, else 0" || ens33 != "1, else 1" || len(h.store) > 0 {
		t.Errorf("put back: lan0 %s, ens33 %s; still kept: %v", lan0, ens33, h.store)
	}
}

// TestKeptByName: what a netd of before kept by the link's name counts.
func TestKeptByName(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.store[forwardingOf("ens33")] = "0"
	netns.Run(t, "sysctl -q -w "+forwardingOf("ens33")+"=1")
	h.settle(forwardingOf("ens33"))
	if got := h.forwards("ens33"); got != "1, else 0" {
		t.Error(got)
	}
	h.settle()
	if got := h.forwards("ens33"); got != "0, else 0" || len(h.store) > 0 {
		t.Errorf("%s; still kept: %v", got, h.store)
	}
}
