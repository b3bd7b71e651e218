package kernel_test

import (
	"context"
	"net/netip"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestHanded does by hand what Docker does with a container's end, step by step: netd is done waiting after the last step and
// not before, when it would be in Docker's way; what Docker put there is as netd wants it; what somebody takes away comes back.
func TestHanded(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	ctx := context.Background()
	e := object.Endpoint{ID: "docker/e1", Interface: "eth0", IPv4: netip.MustParseAddr("10.10.40.140"), MAC: object.WorkloadMAC("docker/e1"),
		Network: "lab", Handed: true}
	path, peer := h.box.Path(), object.PeerName("docker/e1")
	want := func() reconcile.Want {
		t.Helper()
		facts, err := h.k.Host(ctx)
		if err != nil {
			t.Fatal(err)
		}
		h.k.SetEndpoints([]object.Endpoint{e})
		self, _ := h.cfg.Node("baihl-master")
		r, err := desired.Compile(h.cfg, self, desired.Facts{Host: facts, Endpoints: []object.Endpoint{e}})
		if err != nil {
			t.Fatal(err)
		}
		return r.Want
	}
	converge := func() {
		t.Helper()
		if _, out, err := h.engine.Converge(ctx, want(), nil, nil); err != nil {
			t.Fatalf("%v (%d done)", err, out.Done)
		}
	}
	is := func(step, name string, elsewhere, done bool) {
		t.Helper()
		if n, other, d, err := h.k.Handed(e.ID, path); err != nil || d != done || d && (n != name || other != elsewhere) {
			t.Errorf("%s: %q, elsewhere %t, done %t, %v; want %q, %t, %t", step, n, other, d, err, name, elsewhere, done)
		}
	}
	is("nothing is there", "", false, false)
	converge()
	is("in the host's namespace", "", false, false)
	for _, step := range []string{
		"ip link set " + peer + " netns nginx-master",
		"@ip link set " + peer + " name eth7",
		"@ip link set eth7 address " + e.MAC.String(),
		"@ip addr add 10.10.40.140/32 dev eth7",
		"@ip link set eth7 up",
		"@ip route add 169.254.1.1 dev eth7 scope link",
	} {
		if step[0] == '@' {
			h.box.Run(t, step[1:])
		} else {
			netns.Run(t, step)
		}
		is(step, "", false, false)
	}
	h.box.Run(t, "ip route add default via 169.254.1.1 dev eth7")
	is("the default route", "eth7", false, true)

	e.Netns, e.Interface = path, "eth7"
	p, err := h.engine.Plan(ctx, ptr(want()), nil)
	if err != nil || !p.Empty() {
		t.Errorf("what was put there is not as it should be: %v\n%v", err, p)
	}
	h.box.Run(t, "ip route del default")
	h.box.Run(t, "ip addr flush dev eth7")
	converge()
	is("repaired", "eth7", false, true)
	h.box.Run(t, "ip link add other type veth peer name other-peer")
	h.box.Run(t, "ip link set other up")
	h.box.Run(t, "ip route add default dev other metric 5")
	is("another default route", "eth7", true, true)
	e.Beside = true
	converge()
	is("beside it", "eth7", true, true)
	h.box.Run(t, "ip link set eth7 down")
	is("down again, as one that is on its way beside another", "", false, false)
}

func ptr[T any](v T) *T { return &v }
