package workload

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// TestAddresses drives the core by a random runtime that dies at any step: what it hands out is what a plain model says, no
// address is ever two containers', and nothing leaks once the runtime has asked for what it was about again.
func TestAddresses(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { random(t, seed) })
	}
}

func random(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	s := site(t, file)
	dir := t.TempDir()
	host := newHostModel(t)
	model := newAddressModel()
	var db *store.DB
	var core *Core
	start := func() {
		var err error
		if db, err = store.Open(dir, false); err != nil {
			t.Fatal(err)
		}
		if core, err = New(db, host); err != nil {
			t.Fatal(err)
		}
		core.identify = func(path string) (string, error) { return "id of " + path, nil }
		core.linked = func(string) bool { return false }
	}
	start()
	defer func() { _ = db.Close() }()
	request := func(id object.Place) Request {
		name := strings.Split(string(id), "/")[1]
		return Request{ID: id, Owner: "cni", Container: name, Open: "/ns/" + name, Netns: "/ns/" + name, Interface: "eth0"}
	}
	// attempt does something that a crash may cut short; the next process finds what is on disk and in the kernel.
	attempt := func(f func()) {
		host.until = -1
		if r.IntN(3) == 0 {
			host.until = r.IntN(6)
		}
		defer func() {
			host.until = -1
			if x := recover(); x != nil {
				if _, ok := x.(crash); !ok {
					panic(x)
				}
				_ = db.Close()
				start()
			}
		}()
		f()
	}
	leaving := map[object.Place]bool{}
	for range 80 {
		ids := make([]object.Place, 1+r.IntN(4))
		for i, n := range r.Perm(30)[:len(ids)] {
			ids[i] = CNI(fmt.Sprintf("c%d", n), "eth0")
		}
		finished := func() { // as the core does it, in the order of ids
			for _, id := range slices.Sorted(maps.Keys(leaving)) {
				model.free(id)
			}
			clear(leaving)
		}
		holds := func(id object.Place) bool { return slices.Contains(slices.Collect(maps.Values(model.held)), id) }
		waits := func(id object.Place) bool { return leaving[id] || !holds(id) && !model.next(id).IsValid() }
		switch r.IntN(7) {
		case 5: // containers go, and what is left of them stays for a while
			release := func() {
				if _, err := core.Release(ids); err != nil {
					t.Fatal(err)
				}
			}
			attempt(release)
			release()
			for _, id := range ids {
				if holds(id) {
					leaving[id] = true
				}
			}
		case 6:
			attempt(func() { _ = core.Finish(t.Context()) })
			if err := core.Finish(t.Context()); err != nil {
				t.Fatal(err)
			}
			finished()
		case 0, 1: // containers go; a runtime that saw no answer asks again
			attempt(func() { core.Detach(t.Context(), ids) })
			if err := errors.Join(core.Detach(t.Context(), ids)...); err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				model.free(id)
				delete(leaving, id)
			}
		case 2: // the kernel refuses: nothing is handed out
			host.fail = true
			if waits(ids[0]) {
				finished()
			}
			for i, out := range core.Attach(t.Context(), s, []Request{request(ids[0])}) {
				was := host.wired[ids[i]].IPv4.IsValid()
				if out.Err == nil && !was {
					t.Fatal("attached although the kernel refused")
				}
				if !was {
					if a := model.next(ids[i]); a.IsValid() { // it was held for a moment
						model.take(ids[i], a)
						model.free(ids[i])
					}
				}
			}
			host.fail = false
		default:
			attempt(func() {
				for _, id := range ids {
					core.Attach(t.Context(), s, []Request{request(id)})
				}
			})
			for _, id := range ids {
				if waits(id) {
					finished()
				}
				out := core.Attach(t.Context(), s, []Request{request(id)})[0]
				want, had := netip.Addr{}, false
				for a, who := range model.held {
					if who == id {
						want, had = a, true
					}
				}
				if !had {
					want = model.next(id)
				}
				switch {
				case want.IsValid() && (out.Err != nil || out.Endpoint.IPv4 != want):
					t.Fatalf("%s: %s, %v; want %s", id, out.Endpoint.IPv4, out.Err, want)
				case !want.IsValid() && KindOf(out.Err) != Full:
					t.Fatalf("%s: %s, %v; want that nothing is free", id, out.Endpoint.IPv4, out.Err)
				}
				if want.IsValid() {
					model.take(id, want)
				}
			}
		}
		agree(t, core, host, model)
	}
}

// agree compares store, kernel and model.
func agree(t *testing.T, core *Core, host *hostModel, model *addressModel) {
	t.Helper()
	want := map[object.Place]netip.Addr{}
	for a, id := range model.held {
		if id != "" {
			want[id] = a
		}
	}
	known, wired := map[object.Place]netip.Addr{}, map[object.Place]netip.Addr{}
	for _, e := range core.All() {
		known[e.ID] = e.IPv4
	}
	for _, e := range core.leaves { // it has its address and its wire until it is gone
		known[e.ID] = e.IPv4
	}
	for id, e := range host.wired {
		wired[id] = e.IPv4
	}
	if !maps.Equal(known, want) || !maps.Equal(wired, want) {
		t.Fatalf("known %v\nwired %v\nwant  %v", known, wired, want)
	}
}

// TestNotGoneYet: who comes back while the kernel cannot let go of what was there before is refused, and nothing is lost by it; others
// are not concerned.
func TestNotGoneYet(t *testing.T) {
	s := site(t, file)
	db := newStore(t)
	host := newHostModel(t)
	core, err := New(db, host)
	if err != nil {
		t.Fatal(err)
	}
	core.identify = func(path string) (string, error) { return path, nil }
	request := func(c, ns string, addrs ...netip.Addr) Request {
		return Request{ID: CNI(c, "eth0"), Owner: "cni", Container: c, Open: ns, Netns: ns, Interface: "eth0", Addrs: addrs}
	}
	attach := func(reqs ...Request) []Result { return core.Attach(t.Context(), s, reqs) }
	first := attach(request("c1", "/1"))[0].Endpoint
	if _, err := core.Release([]object.Place{first.ID}); err != nil {
		t.Fatal(err)
	}
	host.stuck = true
	out := attach(request("c1", "/9"), request("c2", "/1"), request("c3", "/3", first.IPv4), request("c4", "/4"))
	for i, r := range out[:3] {
		if KindOf(r.Err) != Later {
			t.Errorf("%d: %+v, want that it is to come later", i, r)
		}
	}
	if r := out[3]; r.Err != nil || r.Endpoint.IPv4 == first.IPv4 {
		t.Errorf("another one: %+v", r)
	}
	host.stuck = false
	if r := attach(request("c1", "/1"))[0]; r.Err != nil || r.Endpoint.IPv4 != first.IPv4 {
		t.Errorf("%+v, want %s again", r, first.IPv4)
	}
	if err := core.Finish(t.Context()); err != nil || len(host.wired) != 2 {
		t.Errorf("%v; wired: %v", err, host.wired)
	}
}

// TestSweep: a container that is gone is given up at the second look, and not before the time is over; one that is back, or
// whose host end is there, is not.
func TestSweep(t *testing.T) {
	s := site(t, file)
	db := newStore(t)
	host := newHostModel(t)
	core, err := New(db, host)
	if err != nil {
		t.Fatal(err)
	}
	now, there, link := time.Now(), true, false
	core.now = func() time.Time { return now }
	core.identify = func(string) (string, error) {
		if !there {
			return "", errors.New("no such file")
		}
		return "one", nil
	}
	core.linked = func(string) bool { return link }
	id := CNI("c1", "eth0")
	if out := core.Attach(t.Context(), s, []Request{{ID: id, Owner: "cni", Container: "c1", Open: "/x", Netns: "/x", Interface: "eth0"}})[0]; out.Err != nil {
		t.Fatal(out.Err)
	}
	look := func(wantLive bool, wantSwept int) {
		t.Helper()
		live, gone := core.Live()
		swept, err := core.Sweep(t.Context(), gone)
		if err != nil || len(live) == 1 != wantLive || len(swept) != wantSwept {
			t.Errorf("live %v, swept %v, %v; want live %v, %d swept", live, swept, err, wantLive, wantSwept)
		}
	}
	look(true, 0)
	there = false
	look(false, 0)
	look(false, 0) // too soon
	now = now.Add(Sightings)
	link = true
	look(true, 0) // its path means nothing here, its wire is there
	link = false
	look(false, 0)
	now = now.Add(Sightings)
	look(false, 1)
	if _, known := core.Known(id); known || len(host.wired) != 0 {
		t.Error("it is still known, or wired")
	}
}

// TestFull: a block without room says so fast, with how many addresses are used, by whom, and where to add a block.
func TestFull(t *testing.T) {
	s := site(t, strings.ReplaceAll(file, `"10.10.40.128/28", "10.10.50.0/29"`, `"10.10.40.128/29"`))
	db := newStore(t)
	core, err := New(db, newHostModel(t))
	if err != nil {
		t.Fatal(err)
	}
	core.identify = func(path string) (string, error) { return path, nil }
	attach := func(i int) error {
		c := fmt.Sprintf("c%d", i)
		return core.Attach(t.Context(), s, []Request{{ID: CNI(c, "eth0"), Owner: "cni", Container: c, Open: "/" + c, Netns: "/" + c, Interface: "eth0"}})[0].Err
	}
	for i := range 5 {
		if err := attach(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := core.Room(s, ""); KindOf(err) != Full {
		t.Errorf("room: %v", err)
	}
	took := time.Hour // the fastest of some: the others may have waited for a processor
	for range 10 {
		began := time.Now()
		err = attach(5)
		took = min(took, time.Since(began))
	}
	want := `attaching cni/c5/eth0: node "one" has no free IPv4 address in network "lab": 10.10.40.128/29 has 8 of 8 addresses in use (5 by cni, 1 by file, 1 by tunnel, 1 reserved); add a block to its blocks, netd.hcl:9`
	if err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
	if took > 50*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}
