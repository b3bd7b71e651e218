package kernel

import (
	"slices"
	"sync"

	"netd/reconcile/object"
)

// places are the workloads by the id that the host's namespace has for theirs (RTM_GETNSID): events of other namespaces
// carry it. One namespace may be that of several workloads. Any goroutine may ask.
type places struct {
	mu sync.Mutex
	of map[int][]object.Place
}

func (p *places) add(nsid int, in object.Place) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if nsid < 0 || slices.Contains(p.of[nsid], in) {
		return
	}
	if p.of == nil {
		p.of = map[int][]object.Place{}
	}
	p.of[nsid] = append(slices.Clip(p.of[nsid]), in) // who asked before keeps what it was given
}

// keep drops the workloads that are not known any more.
func (p *places) keep(known func(object.Place) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for nsid, of := range p.of {
		var kept []object.Place
		for _, in := range of {
			if known(in) {
				kept = append(kept, in)
			}
		}
		if p.of[nsid] = kept; kept == nil {
			delete(p.of, nsid)
		}
	}
}

// PlacesOf is the workloads whose namespace the host's one knows by an id. Any goroutine may ask.
func (k *Kernel) PlacesOf(nsid int) []object.Place {
	k.places.mu.Lock()
	defer k.places.mu.Unlock()
	return k.places.of[nsid]
}
