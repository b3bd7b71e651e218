package reconcile

import (
	"maps"
	"slices"
	"sync"
)

// Poke is why a pass is made: hints of what may have changed. They may come for nothing, late, or not at all.
type Poke struct {
	Whole  bool     // observe everything, and ask for the wanted state anew
	All    bool     // else: observe everything, against the wanted state that is known; after a pass that failed as Whole
	Wanted bool     // else: ask for the wanted state anew, and look at what is wanted otherwise than before
	Facts  bool     // else: as Wanted, unless Loop.Holds says that what is wanted holds
	Amend  bool     // else: ask how the wanted state differs at single places, and look at those
	Keys   []Key    // these places and what stands on them, against the wanted state that is known
	Kinds  []string // and these kinds as a whole

	// By is who made the change, where that is known, in words. A key without a name stands for its whole kind.
	By map[Key]string
}

// wide reports whether the pass costs as much as the host has objects, however little may have changed.
func (p Poke) wide() bool { return p.Whole || p.All || p.Wanted || p.Facts }

// Empty reports whether the poke asks for nothing.
func (p Poke) Empty() bool { return !p.wide() && !p.Amend && len(p.Keys)+len(p.Kinds) == 0 }

// pokeMost is how many places a narrow pass looks at. Beyond it a pass over everything is cheaper, and memory stays bounded
// however long the loop is busy.
const pokeMost = 4096

// Pokes gathers hints until the loop takes them. Any goroutine may add.
type Pokes struct {
	wake chan struct{}

	mu     sync.Mutex
	whole  bool
	all    bool
	wanted bool
	facts  bool
	amend  bool
	keys   map[Key]struct{}
	kinds  map[string]struct{}
	by     map[Key]string
}

// NewPokes returns a Pokes without any.
func NewPokes() *Pokes {
	p := &Pokes{wake: make(chan struct{}, 1)}
	p.forget()
	return p
}

func (p *Pokes) forget() {
	p.whole, p.all, p.wanted, p.facts, p.amend = false, false, false, false, false
	p.keys, p.kinds, p.by = map[Key]struct{}{}, map[string]struct{}{}, map[Key]string{}
}

// Add notes a hint and wakes the loop. It does not wait.
func (p *Pokes) Add(k Poke) {
	p.mu.Lock()
	p.whole, p.all, p.wanted, p.facts, p.amend = p.whole || k.Whole, p.all || k.All, p.wanted || k.Wanted, p.facts || k.Facts, p.amend || k.Amend
	for _, key := range k.Keys {
		p.keys[key] = struct{}{}
	}
	for _, kind := range k.Kinds {
		p.kinds[kind] = struct{}{}
	}
	if len(p.keys) > pokeMost {
		p.all = true
		clear(p.keys)
	}
	if len(p.by)+len(k.By) <= pokeMost {
		maps.Copy(p.by, k.By)
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Whole asks for a whole pass.
func (p *Pokes) Whole() { p.Add(Poke{Whole: true}) }

// take returns all hints as one, and forgets them.
func (p *Pokes) take() Poke {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := Poke{Whole: p.whole, All: p.all, Wanted: p.wanted, Facts: p.facts, Amend: p.amend, Keys: slices.Collect(maps.Keys(p.keys)), Kinds: slices.Collect(maps.Keys(p.kinds)), By: p.by}
	p.forget()
	return k
}
