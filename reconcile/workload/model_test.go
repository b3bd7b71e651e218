package workload

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"testing"

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

// newStore is an empty store.
func newStore(t testing.TB) *store.DB {
	t.Helper()
	db, err := store.Open(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

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
