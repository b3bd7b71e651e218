package reconcile

import (
	"context"
	"errors"
)

// Kind reads and changes all resources of one kind. Implementations live beside what they speak to: the kernel's in
// reconcile/kernel, the BGP speaker's in reconcile/speaker, the tests' in testenv/fakehost.
type Kind interface {
	// Name is the Kind of the keys that it answers for.
	Name() string

	// List reads everything of this kind that netd owns, wanted or not, and what foreigners hold at the keys of want.
	// want is passed because some places are only looked at when wanted (a sysctl), and because some values can only be
	// recognised by encoding what is wanted and comparing bytes (an nftables chain). List never remembers: what it
	// returns was read during the call. An interrupted dump is retried within.
	List(ctx context.Context, want []Resource) (own []Resource, foreign []Holder, err error)

	// Create makes want, which was absent. Something foreign in its place is an error, never overwritten.
	Create(ctx context.Context, want Resource) error

	// Update leads have, which netd owns, to want in place and without a gap.
	Update(ctx context.Context, have, want Resource) error

	// Delete removes have. Absent is success.
	Delete(ctx context.Context, have Resource) error
}

// Batcher is implemented by kinds that send many changes to the kernel in one system call.
type Batcher interface {
	// Batch carries out changes of this kind in order (a later one may stand on an earlier one). It returns one error a
	// change, nil where it succeeded.
	Batch(ctx context.Context, changes []Change) []error
}

// Teller is implemented by kinds whose host answers a creation with what it made, so that nothing has to be read again to know it, and
// refuses one where anything is, which need not be read before.
type Teller interface {
	Batcher

	// Tell is Batch that also returns what each creation made, as the answer tells it: nil where that does not. The error of one
	// in whose place there is something is ErrTaken.
	Tell(ctx context.Context, changes []Change) (errs []error, made []Resource)
}

// ErrTaken is a Teller's error for a creation in whose place there is something.
var ErrTaken = errors.New("its place is taken")

// Guard is implemented by a kind whose resources guard what later kinds open. Where one of its changes fails in Build, what it
// guards is not built: a door without its guard is worse than none.
type Guard interface {
	Guards(Key) bool
}

// Indexer is implemented by kinds of which a host has very many objects. What is as it should be is told by its number
// then: no Resource, no key and no entry in a map is made of it, which is most of what a pass that finds nothing would cost.
type Indexer interface {
	// Index prepares a wanted state for being compared. It is made once and serves many passes, so that it holds nothing
	// that was read.
	Index(want []Resource) Index
}

// Index compares what is there with the wanted resources that it was made of.
type Index interface {
	// Compare is List, but that what equals a wanted resource is not among own: its place in same is true instead. same is
	// as long as the wanted resources are many.
	Compare(ctx context.Context) (same []bool, own []Resource, foreign []Holder, err error)
}

// Getter is implemented by kinds that can read single places without a whole dump; narrow passes use it.
type Getter interface {
	// Get reads the places named by keys, with the meaning of List. want holds the wanted resources among them.
	Get(ctx context.Context, keys []Key, want []Resource) (own []Resource, foreign []Holder, err error)
}
