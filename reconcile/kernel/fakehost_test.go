package kernel_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"netd/reconcile"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/fakehost"
	"netd/testenv/netns"
)

// TestFakeIsRight runs the same random operations on the fake and on the kernel, and has strangers set links up and down and
// delete what they find on both: each operation succeeds on both or fails on both, and after each both hold the same.
func TestFakeIsRight(t *testing.T) {
	netns.Need(t)
	netns.Run(t, "ip link add ens33 type veth peer name wire")
	t.Cleanup(func() { netns.Run(t, "ip link del ens33") })
	netns.Run(t, "ip link set wire up")
	netns.Run(t, "ip link set ens33 up")
	netns.Run(t, "ip addr add 192.168.170.137/24 dev ens33")
	k, err := kernel.New(memory{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	var ends []object.Endpoint
	boxes := map[object.Place]*netns.NS{}
	for i, in := range fakehost.Workloads {
		boxes[in] = netns.New(t, fmt.Sprintf("w%d", i))
		ends = append(ends, object.Endpoint{ID: in, Netns: boxes[in].Path(), Interface: fakehost.Inside, MAC: object.WorkloadMAC(string(in))})
	}
	k.SetEndpoints(ends)
	ctx := context.Background()
	engine := &reconcile.Engine{Kinds: k.Kinds(), Reading: k.Reading}
	did := map[string]int{}
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 5))
		fake := fakehost.New(fakehost.Underlay)
		// What operations are about: the objects of two states, which share many keys and differ in many attributes.
		var all []reconcile.Resource
		for range 2 {
			w := fakehost.Random(r)
			for _, key := range w.State.Keys() {
				all = append(all, w.State[key])
				switch l := w.State[key].(type) { // netd wants no link down; what it meets is another thing
				case object.VXLAN:
					l.Up = false
					all = append(all, l)
				case object.Veth:
					l.Up, l.PeerUp = r.IntN(2) == 0, r.IntN(2) == 0
					all = append(all, l)
				}
			}
		}
		if len(all) == 0 {
			continue
		}
		w := fakehost.Random(r)
		if _, _, err := engine.Converge(ctx, w, nil, nil); err != nil {
			t.Fatalf("seed %d: the kernel, from nothing: %v", seed, err)
		}
		if _, _, err := (&reconcile.Engine{Kinds: fake.Kinds()}).Converge(ctx, w, nil, nil); err != nil {
			t.Fatalf("seed %d: the fake, from nothing: %v", seed, err)
		}
		for step := range 60 {
			if r.IntN(4) == 0 {
				if what := disturb(t, r, fake, boxes); what != "" {
					did["disturbed"]++
					same(t, fmt.Sprintf("seed %d, step %d: %s", seed, step, what), list(t, k.Kinds(), all), list(t, fake.Kinds(), all))
				}
			}
			x := all[r.IntN(len(all))]
			op := reconcile.Op(1 + r.IntN(3))
			have, there := fake.Own[x.Key()]
			if op == reconcile.Update && (!there || x == have || cannot(x, have)) || op == reconcile.Delete && !there && x.Key().Kind == object.KindNft {
				continue // the engine asks for neither
			}
			if op == reconcile.Create && there && x.Key().Kind == object.KindNft {
				continue // nor for this, and a batch takes it as an update
			}
			if op == reconcile.Delete && there {
				x = have
			}
			real, model := do(ctx, k.Kinds(), op, have, x), do(ctx, fake.Kinds(), op, have, x)
			what := fmt.Sprintf("seed %d, step %d: %s %+v", seed, step, op, x)
			if (real == nil) != (model == nil) {
				t.Fatalf("%s: the kernel says %v, the fake %v", what, real, model)
			}
			did[fmt.Sprintf("%s %s %v", op, x.Key().Kind, real == nil)]++
			same(t, what, list(t, k.Kinds(), all), list(t, fake.Kinds(), all))
		}
		if !fake.Links[fakehost.Underlay] {
			netns.Run(t, "ip link set ens33 up")
		}
		if _, _, err := engine.Converge(ctx, reconcile.Want{}, nil, nil); err != nil {
			t.Fatalf("seed %d: the kernel, to nothing: %v", seed, err)
		}
	}
	for _, kind := range fakehost.New().Kinds() { // each was made and deleted, and something of it refused; rules in the tables of others have no fake
		for _, op := range []reconcile.Op{reconcile.Create, reconcile.Delete} {
			if did[fmt.Sprintf("%s %s true", op, kind.Name())] == 0 {
				t.Errorf("%s of %s never succeeded", op, kind.Name())
			}
		}
		if did[fmt.Sprintf("create %s false", kind.Name())] == 0 {
			t.Errorf("create of %s was never refused", kind.Name())
		}
	}
	if did["disturbed"] < 100 {
		t.Errorf("only %d disturbances", did["disturbed"])
	}
	t.Log(did)
}

// disturb does to the fake and to the kernel what a stranger might, and says what; empty where there was nothing to do it to.
func disturb(t *testing.T, r *rand.Rand, fake *fakehost.Host, boxes map[object.Place]*netns.NS) string {
	t.Helper()
	run := func(in object.Place, line string) string {
		if in == "" {
			netns.Run(t, line)
		} else {
			boxes[in].Run(t, line)
		}
		return in.In(line)
	}
	keys := fake.Own.Keys()
	if r.IntN(8) == 0 || len(keys) == 0 {
		up := !fake.Links[fakehost.Underlay]
		fake.Set("", fakehost.Underlay, up)
		return run("", "ip link set ens33 "+state(up))
	}
	in, link := object.Place(""), ""
	key := keys[r.IntN(len(keys))]
	switch x := fake.Own[key].(type) {
	case object.VXLAN:
		link = x.Name
	case object.Veth:
		if link = x.Name; r.IntN(2) == 0 {
			in, link = x.Workload, x.Peer
		}
	case object.Addr:
		fake.Take(key)
		return run(x.In, fmt.Sprintf("ip addr del %s dev %s", x.Prefix, x.Link))
	case object.Nexthop:
		fake.Take(key)
		return run("", fmt.Sprintf("ip nexthop del id %d", x.ID))
	default:
		return ""
	}
	switch r.IntN(4) {
	case 0:
		fake.Take(key)
		return run(in, "ip link del "+link)
	case 1:
		fake.Set(in, link, true)
		return run(in, "ip link set "+link+" up")
	}
	fake.Set(in, link, false)
	return run(in, "ip link set "+link+" down")
}

func state(up bool) string {
	if up {
		return "up"
	}
	return "down"
}

func cannot(want, have reconcile.Resource) bool {
	r, ok := want.(reconcile.Replacer)
	return ok && r.Replaces(have)
}

func do(ctx context.Context, kinds []reconcile.Kind, op reconcile.Op, have, want reconcile.Resource) error {
	for _, k := range kinds {
		if k.Name() != want.Key().Kind {
			continue
		}
		switch op {
		case reconcile.Create:
			return k.Create(ctx, want)
		case reconcile.Update:
			return k.Update(ctx, have, want)
		case reconcile.Delete:
			return k.Delete(ctx, want)
		}
	}
	return fmt.Errorf("no such kind: %s", want.Key())
}

// list is what kinds list, less settings, which have a value from the start.
func list(t *testing.T, kinds []reconcile.Kind, want []reconcile.Resource) reconcile.State {
	t.Helper()
	s := reconcile.State{}
	for _, k := range kinds {
		if k.Name() == object.KindSysctl {
			continue
		}
		own, _, err := k.List(context.Background(), want)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range own {
			s.Add(r)
		}
	}
	return s
}

func same(t *testing.T, what string, real, model reconcile.State) {
	t.Helper()
	for k, r := range real {
		m, there := model[k]
		if c, ok := r.(object.NftChain); ok && there { // the kernel's rules are bytes, recognised only where they are as wanted
			c.Rules = ""
			r = c
			mc := m.(object.NftChain)
			mc.Rules = ""
			m = mc
		}
		if !reflect.DeepEqual(m, r) {
			t.Fatalf("%s\nthe kernel has %s: %+v\nthe fake %+v", what, k, r, m)
		}
	}
	for k, m := range model {
		if _, there := real[k]; !there {
			t.Fatalf("%s\nthe fake has %s: %+v\nthe kernel none", what, k, m)
		}
	}
}
