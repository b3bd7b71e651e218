package kernel

import (
	"context"

	"netd/reconcile"
)

// whole is a resource that says with all its fields together which one it is.
type whole interface {
	comparable
	reconcile.Resource
}

// valueIndex is the wanted objects of a kind of which the kernel has one in each place, so that one that equals a wanted one
// is that one, and nobody has to spell its key.
type valueIndex[T whole] struct {
	at   map[T]int // in what is wanted
	want []reconcile.Resource
	read func(want []reconcile.Resource, each func(T)) (foreign []reconcile.Holder, err error)
}

func newValueIndex[T whole](want []reconcile.Resource, read func([]reconcile.Resource, func(T)) ([]reconcile.Holder, error)) reconcile.Index {
	x := &valueIndex[T]{at: make(map[T]int, len(want)), want: want, read: read}
	for i, r := range want {
		if v, ok := r.(T); ok {
			x.at[v] = i
		}
	}
	return x
}

// Compare implements reconcile.Index.
func (x *valueIndex[T]) Compare(context.Context) (same []bool, own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	same = make([]bool, len(x.want))
	foreign, err = x.read(x.want, func(v T) {
		if at, wanted := x.at[v]; wanted {
			same[at] = true
		} else {
			own = append(own, v)
		}
	})
	return same, own, foreign, err
}

// listed is what List gives of what read finds.
func listed[T whole](want []reconcile.Resource, read func([]reconcile.Resource, func(T)) ([]reconcile.Holder, error)) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	foreign, err = read(want, func(v T) { own = append(own, v) })
	return own, foreign, err
}
