package reconcile

import (
	"cmp"
	"net/netip"
	"slices"
)

// Key names a resource among all resources of one host. Name holds everything that the kernel (or the speaker) itself
// keys on, so that two resources can never claim one place: "10.9.2.0/24" in the main table, "10.9.2.0/24 table 100"
// in another. An object inside a container has the name "@<workload id>/…".
type Key struct {
	Kind string
	Name string
}

func (k Key) String() string { return k.Kind + " " + k.Name }

// Compare orders keys by kind, then by name.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Kind, o.Kind), cmp.Compare(k.Name, o.Name))
}

// Field is one managed attribute of a resource as people read it.
type Field struct {
	Name  string
	Value string
}

// Resource is a plain comparable value: two resources are equal when == says so. It holds no slice, map or pointer that
// is not canonical, since == on an interface that holds a slice panics and 100,000 comparisons must cost milliseconds.
type Resource interface {
	// Key is where the resource lives.
	Key() Key
	// Requires names what the resource stands on: it is built after these and torn down before them. A key that is in
	// no state is no obstacle (it is the host's own, such as the underlay link).
	Requires() []Key
	// Fields are all the attributes that netd manages, in the order in which people expect them. Two resources of one key
	// that differ show different fields.
	Fields() []Field
}

// Replacer is implemented by resources with attributes that cannot be changed in place (a VXLAN device's VNI).
type Replacer interface {
	// Replaces reports whether have must be deleted and the receiver created to get from have to the receiver.
	Replaces(have Resource) bool
}

// Spanner is implemented by resources that hold a span of addresses of which no other resource of their group may hold a
// part: elements of an nftables interval set. What is to go makes room right before what is to come, in one batch with it.
type Spanner interface {
	Span() (group Key, first, last netip.Addr, ok bool)
}

// Sole is implemented by resources that claim something besides their key that one resource alone can have: a VXLAN device
// its VNI at a UDP port, an element of an nftables map its key.
type Sole interface {
	Claims() (what Key, ok bool)
}

// Leaner is implemented by resources that the kernel takes away with the last of several others, or changes (falls is false), of
// which their own values do not say which they are: a route with the address that it prefers as source, on whatever link that is.
type Leaner interface {
	LeansOn() (what Key, falls, ok bool)
}

// Offerer is implemented by what a Leaner leans on.
type Offerer interface {
	Offers() (what Key)
}

// State is a set of resources: wanted, or read from a host.
type State map[Key]Resource

// Add puts r in its place.
func (s State) Add(r Resource) { s[r.Key()] = r }

// Keys returns the keys in order.
func (s State) Keys() []Key {
	keys := make([]Key, 0, len(s))
	for k := range s {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, Key.Compare)
	return keys
}

// Cause says why a resource is wanted, or why a change is made.
type Cause struct {
	Text string `json:"text"`           // "network lab", "node baihl-node", "repair"
	File string `json:"file,omitempty"` // the configuration file that asks for it
	Line int    `json:"line,omitempty"` // 1-based; 0 where no line asks for it
}

// Want is a desired state with the reason of each resource.
type Want struct {
	State State

	// Stands adds to what a resource says itself of what it stands on: a route with a preferred source goes when that
	// address goes, but does not tell on which link the address is.
	Stands map[Key][]Key

	// Gone says, by kind, why what is there and not wanted is removed: "no node has it".
	Gone map[string]string

	// Foreign is what the facts, not the place itself, show to be in the way of something wanted.
	Foreign []Holder

	why      map[Key]*Cause      // many share one; see Because
	last     *Cause              // that of the last Put
	on       map[Key][]Key       // what stands directly on each footing; see index
	bearing  map[string]bool     // the kinds of those footings
	stale    int                 // entries of on that may be over; see amend
	listings map[string]*listing // what is wanted by kind; see list
}

// Put adds a resource with its reason and what it stands on besides what it says itself.
func (w *Want) Put(r Resource, why Cause, stands ...Key) {
	k := r.Key()
	w.put(k, r, why)
	if len(stands) > 0 {
		w.Stand(k, stands)
	}
}

func (w *Want) put(k Key, r Resource, why Cause) {
	if w.State == nil || w.why == nil {
		w.Grow(0)
	}
	if w.last == nil || *w.last != why { // most have that of the one before
		one := why
		w.last = &one
	}
	w.State[k], w.why[k] = r, w.last
}

// Grow makes room for n resources in a Want that has none yet.
func (w *Want) Grow(n int) {
	if w.State == nil {
		w.State = make(State, n)
	}
	w.why = make(map[Key]*Cause, n)
}

// Because is why the resource of a key is wanted.
func (w *Want) Because(k Key) Cause {
	if why := w.why[k]; why != nil {
		return *why
	}
	return Cause{}
}

// Stand adds to what the resource of a key stands on. on may be shared by many: the routes of a link.
func (w *Want) Stand(k Key, on []Key) {
	if w.Stands == nil {
		w.Stands = map[Key][]Key{}
	}
	if was := w.Stands[k]; was != nil {
		on = append(was[:len(was):len(was)], on...)
	}
	w.Stands[k] = on
}

// requires is all that r, a wanted or observed resource, stands on; k is its key. What was read back does not say everything, so the
// wanted twin's word is added to its own.
func (w *Want) requires(k Key, r Resource) []Key {
	on := r.Requires()
	if twin, ok := w.State[k]; ok && twin != r {
		on = append(on[:len(on):len(on)], twin.Requires()...)
	}
	return w.also(k, on)
}

// footing is requires of a wanted resource.
func (w *Want) footing(k Key, r Resource) []Key { return w.also(k, r.Requires()) }

func (w *Want) also(k Key, on []Key) []Key {
	if more := w.Stands[k]; len(more) > 0 {
		on = append(on[:len(on):len(on)], more...)
	}
	return on
}

// Have is what was observed.
type Have struct {
	Own     State    // what netd owns, wanted or not
	Foreign []Holder // what others hold where netd wants something

	same []same // of an engine's own passes, all that is wanted: what was read to be just so is here and not in Own
}

// Holder is a foreign object that stands in the place of a wanted one.
type Holder struct {
	Key  Key    `json:"key"`  // the wanted key
	What string `json:"what"` // the object in words: "route 10.10.0.0/26 via 192.0.2.1 dev eth0"
	Who  string `json:"who"`  // its owner in words: "protocol bird (12)"
}
