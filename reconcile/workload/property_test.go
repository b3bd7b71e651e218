package workload

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/config"
	"netd/reconcile/object"
	"netd/reconcile/store"
)

const file = `network "lab" {
  pools    = ["10.10.0.0/16"]
  mode     = "vxlan"
  reserved = ["10.10.40.135", "10.10.50.0/31"]
}

node "one" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/28", "10.10.50.0/29"]
}

node "two" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

workload "declared" {
  node    = "one"
  address = "10.10.40.131"
  netns   = "/run/netns/declared"
}
`

func site(t testing.TB, text string) Site {
	t.Helper()
	s := &config.Source{Path: "netd.hcl", Files: []config.File{{Name: "netd.hcl", Bytes: []byte(text)}}}
	c, ds := s.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	n, _ := c.Node("one")
	return Site{c, n}
}

// crash is what a process that is killed leaves behind: nothing runs after it.
type crash struct{}

// hostModel is a kernel: what is wired, and who is killed at which step.
type hostModel struct {
	t     *testing.T
	wired map[object.Place]object.Endpoint
	// An address that a container had is to be flushed before another has it.
	used    map[netip.Addr]object.Place
	flushed map[netip.Addr]bool

	until int // steps to the crash; negative: none
	fail  bool
	stuck bool // what is wired stays so
}

func newHostModel(t *testing.T) *hostModel {
	return &hostModel{t: t, wired: map[object.Place]object.Endpoint{}, used: map[netip.Addr]object.Place{}, flushed: map[netip.Addr]bool{}, until: -1}
}

func (h *hostModel) step() {
	if h.until == 0 {
		panic(crash{})
	}
	h.until--
}

func (h *hostModel) Handed(object.Place, string) (string, bool, bool, error) {
	return "", false, false, nil
}
func (h *hostModel) Left(_, is object.Endpoint) { h.wired[is.ID] = is }

func (h *hostModel) Wire(_ context.Context, _ Site, es []object.Endpoint) []error {
	errs := make([]error, len(es))
	for i, e := range es {
		h.step()
		if h.fail {
			errs[i] = errors.New("no")
			continue
		}
		for id, o := range h.wired {
			if id != e.ID && o.IPv4 == e.IPv4 {
				h.t.Fatalf("%s is given to %s and is %s's", e.IPv4, e.ID, id)
			}
		}
		if last := h.used[e.IPv4]; last != "" && last != e.ID && !h.flushed[e.IPv4] {
			h.t.Fatalf("%s is given to %s with another's connections", e.IPv4, e.ID)
		}
		h.wired[e.ID], h.used[e.IPv4], h.flushed[e.IPv4] = e, e.ID, false
		h.step()
	}
	return errs
}

func (h *hostModel) Unwire(_ context.Context, es []object.Endpoint) []error {
	errs := make([]error, len(es))
	for i, e := range es {
		if h.stuck {
			errs[i] = errors.New("busy")
			continue
		}
		h.step()
		delete(h.wired, e.ID)
		h.step()
	}
	return errs
}

func (h *hostModel) Flush(addrs []netip.Addr) error {
	for _, a := range addrs {
		h.flushed[a] = true
	}
	return nil
}

func (h *hostModel) Check(context.Context, Site, object.Endpoint) error { return nil }

// addressModel says which address comes next, in the plainest way.
type addressModel struct {
	order []netip.Addr       // those that may be handed out, in the blocks' order
	block map[netip.Addr]int // which block each is of
	held  map[netip.Addr]object.Place
	last  map[netip.Addr]object.Place
	freed map[netip.Addr]int // 0: never handed out
	clock int
}

func newAddressModel() *addressModel {
	m := &addressModel{block: map[netip.Addr]int{}, held: map[netip.Addr]object.Place{}, last: map[netip.Addr]object.Place{}, freed: map[netip.Addr]int{}}
	never := []string{"10.10.40.128", "10.10.40.131", "10.10.40.135", "10.10.50.0", "10.10.50.1"}
	for i, b := range []string{"10.10.40.128/28", "10.10.50.0/29"} {
		p := netip.MustParsePrefix(b)
		for a := p.Addr(); p.Contains(a); a = a.Next() {
			if !slices.Contains(never, a.String()) {
				m.order = append(m.order, a)
				m.block[a] = i
			}
		}
	}
	return m
}

func (m *addressModel) next(id object.Place) netip.Addr {
	best := netip.Addr{}
	for _, a := range m.order {
		switch {
		case m.held[a] != "":
		case m.last[a] == id:
			return a
		case !best.IsValid() || m.block[a] == m.block[best] && m.freed[a] < m.freed[best]:
			best = a
		}
	}
	return best
}

func (m *addressModel) take(id object.Place, a netip.Addr) { m.held[a], m.last[a] = id, id }

func (m *addressModel) free(id object.Place) {
	for a, who := range m.held {
		if who == id {
			m.clock++
			m.held[a], m.freed[a] = "", m.clock
		}
	}
}

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
	db, err := store.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
	db, err := store.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
	db, err := store.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
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
