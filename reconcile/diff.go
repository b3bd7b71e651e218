package reconcile

import (
	"cmp"
	"iter"
	"maps"
	"slices"
)

// Diff compares what is wanted with what was observed and returns what leads from one to the other.
//
//	      wanted ──────────┐                      Teardown  replaced, in the way, and all that stands on those
//	┌──────────┬───────────┼───────────┐          Build     create, update
//	│ create   │ equal     │ leftover  │          Leftover  delete
//	│          │ update    │           │
//	│          │ replace   │           │
//	└──────────┴───────────┴───────────┘
//	           └── observed, own ──────┘
//
// What is leftover and holds a part of the span of something wanted (see Spanner) goes in Build, right before it. What
// is leftover and has what something wanted must have alone (see Sole) goes in Teardown.
//
// order is the kinds in their soft order: build goes through it forwards, the two deleting phases backwards, except where
// Requires says otherwise. before, which may be nil, is what was wanted when the host was last brought in line: what
// differs from want although both agree on it was changed by someone else.
//
// A wanted resource whose place a foreign object holds becomes a conflict; it and all that stands on it are left out. What is
// left out and is there, elsewhere than wanted, stays as it is, unless what it stands on is leftover: then it goes first.
func Diff(want Want, have Have, order []string, before State) Plan {
	d := differ{want: want, have: have, before: before}
	return d.plan(order)
}

func (d *differ) plan(order []string) Plan {
	d.rank = make(map[string]int, len(order))
	for i, kind := range order {
		d.rank[kind] = i
	}
	want, have := d.want, d.have
	plan := Plan{Conflicts: d.conflicts(), stands: want.Stands}

	var update, replace []placed
	create := make([]placed, 0, have.missing()+len(d.known))
	met := 0
	for k, w := range have.open(want.State) {
		h, there := have.Own[k]
		if there {
			met++
			if h == w {
				continue
			}
		}
		if d.left[k] {
			continue
		}
		if !there {
			create = append(create, placed{Key: k, r: w})
		} else if r, ok := w.(Replacer); ok && r.Replaces(h) {
			replace = append(replace, placed{Key: k, r: h})
		} else {
			update = append(update, placed{Key: k, r: w})
		}
	}
	var leftover []placed
	if met < len(have.Own) {
		for k, h := range have.Own {
			if _, wanted := want.State[k]; !wanted {
				leftover = append(leftover, placed{Key: k, r: h})
			}
		}
	}
	for _, p := range d.known {
		switch {
		case p.Want == nil:
			leftover = append(leftover, placed{p.Key, p.Was, p})
		case !d.left[p.Key]:
			create = append(create, placed{p.Key, p.Want, p})
		}
	}

	along := d.alongside(leftover)
	for _, p := range along {
		leftover = append(leftover, p.placed)
	}

	plan.first = d.inTheWay(create, replace, leftover)
	torn := d.closure(replace, plan.first)
	plan.Changes = make([]Change, 0, 2*len(torn.resources)+len(create)+len(update)+len(leftover))
	for _, p := range d.reversed(torn.resources) {
		k := p.Key
		plan.Changes = append(plan.Changes, Change{Op: Delete, Phase: Teardown, Key: k, Have: p.r, Because: torn.why[k], Drift: d.drifted(p) && !torn.meant[k]})
		if w, wanted := want.State[k]; wanted && !d.left[k] {
			create = append(create, placed{Key: k, r: w})
		}
	}
	build := create
	for _, p := range update {
		if _, gone := torn.why[p.Key]; !gone { // an update of what is torn down became a create above
			build = append(build, p)
		}
	}
	room := makeRoom(create, leftover)
	for _, p := range d.ordered(build, func(p placed) []Key {
		if p.known != nil {
			return p.known.footing()
		}
		return want.footing(p.Key, p.r)
	}) {
		k := p.Key
		for _, h := range room[k] {
			if _, gone := torn.why[h.Key]; !gone {
				torn.why[h.Key] = Cause{Text: "makes room for " + k.Name}
				plan.Changes = append(plan.Changes, Change{Op: Delete, Phase: Build, Key: h.Key, Have: h.r, Because: torn.why[h.Key], Drift: d.drifted(h)})
			}
		}
		if p.known != nil {
			plan.Changes = append(plan.Changes, Change{Op: Create, Phase: Build, Key: k, Want: p.r, Because: p.known.Why})
			continue
		}
		c := Change{Op: Create, Phase: Build, Key: k, Want: p.r, Because: want.Because(k), Drift: d.drifted(p) && !torn.meant[k]}
		if _, gone := torn.why[k]; !gone {
			if h, there := have.Own[k]; there {
				c.Op, c.Have = Update, h
			}
		}
		if c.Drift {
			c.Because.Text = "repair"
		}
		plan.Changes = append(plan.Changes, c)
	}
	for _, p := range d.reversed(leftover) {
		k := p.Key
		if _, gone := torn.why[k]; gone {
			continue
		}
		why := cmp.Or(along[k].why, want.Gone[k.Kind], "not in the configuration")
		plan.Changes = append(plan.Changes, Change{Op: Delete, Phase: Leftover, Key: k, Have: p.r, Because: Cause{Text: why}, Drift: d.drifted(p) && along[k].why == ""})
	}
	return plan
}

// goes is what goes along with something else.
type goes struct {
	placed
	why string
}

// alongside is what is left out and stands on what is leftover, directly or not: a link takes its routes along, and the last
// of an address the routes that prefer it, which a plan does not keep to itself.
func (d *differ) alongside(leftover []placed) map[Key]goes {
	if len(d.left) == 0 || len(leftover) == 0 {
		return nil
	}
	on, leaning, offers := map[Key][]placed{}, map[Key][]placed{}, map[Key]int{}
	for _, part := range d.observed() {
		for k, h := range part {
			if o, ok := h.(Offerer); ok {
				offers[o.Offers()]++
			}
			if !d.left[k] {
				continue
			}
			for _, footing := range h.Requires() {
				on[footing] = append(on[footing], placed{Key: k, r: h})
			}
			if l, ok := h.(Leaner); ok {
				if to, falls, ok := l.LeansOn(); ok && falls {
					leaning[to] = append(leaning[to], placed{Key: k, r: h})
				}
			}
		}
	}
	along := map[Key]goes{}
	queue := slices.Clone(leftover)
	for i := 0; i < len(queue); i++ {
		above := on[queue[i].Key]
		if o, ok := queue[i].r.(Offerer); ok {
			if offers[o.Offers()]--; offers[o.Offers()] == 0 {
				above = slices.Concat(above, leaning[o.Offers()])
			}
		}
		for _, p := range above {
			if _, seen := along[p.Key]; !seen {
				along[p.Key] = goes{p, "stands on " + queue[i].Key.String()}
				queue = append(queue, p)
			}
		}
	}
	return along
}

// placed is a resource with its key, which costs a string each time that it is asked for.
type placed struct {
	Key
	r     Resource
	known *Amended // nil: it was looked at
}

type differ struct {
	want   Want // but for what is known
	have   Have // likewise
	before State
	rank   map[string]int
	left   map[Key]bool // left out: in conflict, or standing on what is

	// What was amended is in one of two: known without a look at the host, or looked at, of which was is what was wanted before.
	// All the rest is wanted as it was before.
	known []*Amended // either Was is nil: Want is created; or Want is nil: Was is deleted
	was   State
}

// drifted reports whether what is wanted in a place was wanted before too, so that the difference was made by someone else.
func (d *differ) drifted(p placed) bool {
	if d.before == nil || p.known != nil {
		return false
	}
	if was, amended := d.was[p.Key]; amended {
		return was == d.want.State[p.Key]
	}
	return d.before[p.Key] == d.want.State[p.Key]
}

// wanted yields what is wanted.
func (d *differ) wanted(yield func(Key, Resource) bool) {
	for k, r := range d.want.State {
		if !yield(k, r) {
			return
		}
	}
	for _, p := range d.known {
		if p.Want != nil && !yield(p.Key, p.Want) {
			return
		}
	}
}

// footings yields what each of the wanted stands on.
func (d *differ) footings(yield func([]Key) bool) {
	for k, r := range d.want.State {
		if !yield(d.want.footing(k, r)) {
			return
		}
	}
	for _, p := range d.known {
		if p.Want != nil && !yield(p.footing()) {
			return
		}
	}
}

// observed is what is there of netd's.
func (d *differ) observed() []iter.Seq2[Key, Resource] {
	return []iter.Seq2[Key, Resource]{maps.All(d.have.Own), d.have.equal(), func(yield func(Key, Resource) bool) {
		for _, p := range d.known {
			if p.Want == nil && !yield(p.Key, p.Was) {
				return
			}
		}
	}}
}

func (d *differ) conflicts() []Conflict {
	if len(d.have.Foreign)+len(d.want.Foreign) == 0 {
		return nil
	}
	d.left = map[Key]bool{}
	var found []Conflict
	wanted := maps.Collect(d.wanted)
	for _, holder := range slices.Concat(d.have.Foreign, d.want.Foreign) {
		if _, wanted := wanted[holder.Key]; wanted && !d.left[holder.Key] {
			d.left[holder.Key] = true
			found = append(found, Conflict{Holder: holder})
		}
	}
	slices.SortFunc(found, func(a, b Conflict) int { return a.Key.Compare(b.Key) })
	// Whatever stands on a conflict, on what stands on one, and so on, is left out with it.
	on := map[Key][]Key{}
	for k, w := range wanted {
		for _, footing := range d.want.footing(k, w) {
			on[footing] = append(on[footing], k)
		}
	}
	for i := range found {
		queue := []Key{found[i].Key}
		for len(queue) > 0 {
			k := queue[0]
			queue = queue[1:]
			for _, above := range on[k] {
				if !d.left[above] {
					d.left[above] = true
					found[i].Without = append(found[i].Without, above)
					queue = append(queue, above)
				}
			}
		}
		slices.SortFunc(found[i].Without, Key.Compare)
	}
	return found
}

type closure struct {
	resources []placed
	why       map[Key]Cause
	meant     map[Key]bool // goes along with what is wanted otherwise than before: nobody's doing but netd's own
}

// closure is the observed resources that have to go so that those to be replaced can be deleted and made anew, and those in
// the way make room.
func (d *differ) closure(replace []placed, inTheWay map[Key]placed) closure {
	c := closure{why: map[Key]Cause{}}
	roots := slices.Clone(replace)
	for _, p := range replace {
		c.why[p.Key] = Cause{Text: "cannot be changed in place"}
	}
	for k, p := range inTheWay {
		if _, replaced := c.why[p.Key]; !replaced {
			c.why[p.Key] = Cause{Text: "makes room for " + k.Name}
			roots = append(roots, p)
		}
	}
	if len(roots) == 0 {
		return c
	}
	on, leaning := map[Key][]placed{}, map[Key][]placed{}
	observed := d.observed()
	for _, part := range observed {
		for k, h := range part {
			for _, footing := range d.want.requires(k, h) {
				on[footing] = append(on[footing], placed{Key: k, r: h})
			}
			if l, ok := h.(Leaner); ok {
				if to, _, ok := l.LeansOn(); ok {
					leaning[to] = append(leaning[to], placed{Key: k, r: h})
				}
			}
		}
	}
	if len(leaning) > 0 {
		for _, part := range observed {
			for k, h := range part {
				if o, ok := h.(Offerer); ok {
					on[k] = append(on[k], leaning[o.Offers()]...)
				}
			}
		}
	}
	slices.SortFunc(roots, func(a, b placed) int {
		return cmp.Or(cmp.Compare(d.rank[a.Kind], d.rank[b.Kind]), cmp.Compare(a.Name, b.Name))
	})
	var meant []Key
	for _, p := range roots {
		if !d.drifted(p) {
			meant = append(meant, p.Key)
		}
	}
	_, c.meant = reach(meant, func(k Key) (above []Key) {
		for _, p := range on[k] {
			above = append(above, p.Key)
		}
		return above
	})
	c.resources = roots
	for i := 0; i < len(c.resources); i++ {
		k := c.resources[i].Key
		for _, above := range on[k] {
			if _, seen := c.why[above.Key]; !seen {
				c.why[above.Key] = Cause{Text: "stands on " + k.String()}
				c.resources = append(c.resources, above)
			}
		}
	}
	return c
}
