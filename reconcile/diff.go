package reconcile

import (
	"cmp"
	"slices"
)

// Diff compares what is wanted with what was observed and returns what leads from one to the other.
//
//	      wanted ──────────┐                      Teardown  replaced resources and all that stands on them
//	┌──────────┬───────────┼───────────┐          Build     create, update
//	│ create   │ equal     │ leftover  │          Leftover  delete
//	│          │ update    │           │
//	│          │ replace   │           │
//	└──────────┴───────────┴───────────┘
//	           └── observed, own ──────┘
//
// order is the kinds in their soft order: build goes through it forwards, the two deleting phases backwards, except where
// Requires says otherwise. before, which may be nil, is what was wanted when the host was last brought in line: what
// differs from want although both agree on it was changed by someone else.
//
// A wanted resource whose place a foreign object holds becomes a conflict; it and all that stands on it are left out.
func Diff(want Want, have Have, order []string, before State) Plan {
	d := differ{want: want, have: have, before: before, rank: make(map[string]int, len(order))}
	for i, kind := range order {
		d.rank[kind] = i
	}
	plan := Plan{Conflicts: d.conflicts(), stands: want.Stands}

	var create, update, replace []Resource
	met := 0
	for k, w := range want.State {
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
			create = append(create, w)
		} else if r, ok := w.(Replacer); ok && r.Replaces(h) {
			replace = append(replace, h)
		} else {
			update = append(update, w)
		}
	}
	var leftover []Resource
	if met < len(have.Own) {
		for k, h := range have.Own {
			if _, wanted := want.State[k]; !wanted {
				leftover = append(leftover, h)
			}
		}
	}

	torn := d.closure(replace)
	for _, h := range d.reversed(torn.resources) {
		k := h.Key()
		plan.Changes = append(plan.Changes, Change{Op: Delete, Phase: Teardown, Key: k, Have: h, Because: torn.why[k], Drift: d.drifted(k)})
		if w, wanted := want.State[k]; wanted && !d.left[k] {
			create = append(create, w)
		}
	}
	build := make([]Resource, 0, len(create)+len(update))
	build = append(build, create...)
	for _, w := range update {
		if _, gone := torn.why[w.Key()]; !gone { // an update of what is torn down became a create above
			build = append(build, w)
		}
	}
	for _, w := range d.ordered(build) {
		k := w.Key()
		c := Change{Op: Create, Phase: Build, Key: k, Want: w, Because: want.Why[k], Drift: d.drifted(k)}
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
	for _, h := range d.reversed(leftover) {
		k := h.Key()
		if _, gone := torn.why[k]; gone {
			continue
		}
		why := cmp.Or(want.Gone[k.Kind], "not in the configuration")
		plan.Changes = append(plan.Changes, Change{Op: Delete, Phase: Leftover, Key: k, Have: h, Because: Cause{Text: why}, Drift: d.drifted(k)})
	}
	return plan
}

type differ struct {
	want   Want
	have   Have
	before State
	rank   map[string]int
	left   map[Key]bool // left out: in conflict, or standing on what is
}

// drifted reports whether what is wanted at k was wanted before too, so that the difference was made by someone else.
func (d *differ) drifted(k Key) bool {
	return d.before != nil && d.before[k] == d.want.State[k]
}

func (d *differ) conflicts() []Conflict {
	if len(d.have.Foreign) == 0 {
		return nil
	}
	d.left = map[Key]bool{}
	var found []Conflict
	for _, holder := range d.have.Foreign {
		if _, wanted := d.want.State[holder.Key]; wanted && !d.left[holder.Key] {
			d.left[holder.Key] = true
			found = append(found, Conflict{Holder: holder})
		}
	}
	slices.SortFunc(found, func(a, b Conflict) int { return a.Key.Compare(b.Key) })
	// Whatever stands on a conflict, on what stands on one, and so on, is left out with it.
	on := map[Key][]Key{}
	for k, w := range d.want.State {
		for _, footing := range d.want.requires(w) {
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
	resources []Resource
	why       map[Key]Cause
}

// closure is the observed resources that have to go so that those of roots can be deleted and made anew.
func (d *differ) closure(roots []Resource) closure {
	c := closure{why: map[Key]Cause{}}
	if len(roots) == 0 {
		return c
	}
	on := map[Key][]Resource{}
	for _, h := range d.have.Own {
		for _, footing := range d.want.requires(h) {
			on[footing] = append(on[footing], h)
		}
	}
	slices.SortFunc(roots, d.compare)
	for _, r := range roots {
		c.why[r.Key()] = Cause{Text: "cannot be changed in place"}
	}
	queue := slices.Clone(roots)
	for len(queue) > 0 {
		r := queue[0]
		queue = queue[1:]
		c.resources = append(c.resources, r)
		k := r.Key()
		for _, above := range on[k] {
			if _, seen := c.why[above.Key()]; !seen {
				c.why[above.Key()] = Cause{Text: "stands on " + k.String()}
				queue = append(queue, above)
			}
		}
	}
	return c
}

func (d *differ) compare(a, b Resource) int {
	ka, kb := a.Key(), b.Key()
	return cmp.Or(cmp.Compare(d.rank[ka.Kind], d.rank[kb.Kind]), cmp.Compare(ka.Name, kb.Name))
}

// ordered sorts by the soft order, and puts everything behind what it stands on.
func (d *differ) ordered(rs []Resource) []Resource {
	type item struct {
		r Resource
		k Key
	}
	items := make([]item, len(rs))
	at := make(map[Key]int, len(rs))
	for i, r := range rs {
		items[i] = item{r, r.Key()}
	}
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(cmp.Compare(d.rank[a.k.Kind], d.rank[b.k.Kind]), cmp.Compare(a.k.Name, b.k.Name))
	})
	for i, it := range items {
		at[it.k] = i
	}
	out := make([]Resource, 0, len(rs))
	done := make([]bool, len(items))
	var visit func(i int)
	visit = func(i int) {
		if done[i] {
			return
		}
		done[i] = true // before the footing: a cycle must not hang, and no order would satisfy it
		for _, footing := range d.want.requires(items[i].r) {
			if j, ok := at[footing]; ok {
				visit(j)
			}
		}
		out = append(out, items[i].r)
	}
	for i := range items {
		visit(i)
	}
	return out
}

// reversed is ordered backwards: what stands on something comes before it.
func (d *differ) reversed(rs []Resource) []Resource {
	out := d.ordered(rs)
	slices.Reverse(out)
	return out
}
