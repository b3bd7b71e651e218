package kernel

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// Get reads single elements by asking for each, and for the head of its set. Whatever else is asked for is listed, as are many, and
// the ranges of an interval set: the kernel answers for an address with the range that it lies in.
func (n *nft) Get(ctx context.Context, keys []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	elems := make([]object.NftElem, 0, len(keys))
	for _, k := range keys {
		if e, ok := elemOf(k); ok {
			elems = append(elems, e)
		}
	}
	if len(elems) == len(keys) && len(keys) <= singly {
		own, single, err := n.steady(func() ([]reconcile.Resource, bool, error) { return n.elems(elems) })
		if single || err != nil {
			return own, nil, err
		}
	}
	own, foreign, err = n.List(ctx, want)
	return only(own, keys), foreign, err
}

// elemOf is the element of a key, with what of its set is in the key.
func elemOf(k reconcile.Key) (e object.NftElem, ok bool) {
	word := strings.SplitN(k.Name, " ", 6) // family table "set" NAME "element" ELEM
	if len(word) < 6 || word[2] != "set" || word[4] != "element" {
		return e, false
	}
	return object.NftElem{Set: object.NftSet{Table: object.NftTable{Family: word[0], Name: word[1]}, Name: word[3]}, Elem: word[5]}, true
}

// elems asks for elements. single is false where that cannot tell.
func (n *nft) elems(asked []object.NftElem) (own []reconcile.Resource, single bool, err error) {
	sets := map[reconcile.Key]object.NftSet{}
	var names []object.NftSet
	b := batch{asks: true}
	for _, e := range asked {
		if _, known := sets[e.Set.Key()]; known {
			continue
		}
		sets[e.Set.Key()] = object.NftSet{}
		names = append(names, e.Set)
		b.begin(nftMsg(unix.NFT_MSG_GETSET), 0)
		b.raw(nfgenmsg(families[e.Set.Table.Family])...)
		b.attr(unix.NFTA_SET_TABLE, cString(e.Set.Table.Name))
		b.attr(unix.NFTA_SET_NAME, cString(e.Set.Name))
		b.end()
	}
	errs := n.c.run(&b, func(i int, body []byte) { sets[names[i].Key()], _ = decodeSet(names[i].Table, body) })
	for i, err := range errs {
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, false, fmt.Errorf("reading set %s: %w", names[i].Name, err)
		}
	}
	b = batch{asks: true}
	var sent []object.NftElem
	for _, e := range asked {
		s := sets[e.Set.Key()]
		if s.Name == "" { // no set, no element
			continue
		}
		key, _, _, err := mappedKey(s.Type, e.Elem)
		if s.Interval || err != nil {
			return nil, false, nil
		}
		e.Set = s
		sent = append(sent, e)
		b.begin(nftMsg(unix.NFT_MSG_GETSETELEM), 0)
		b.raw(nfgenmsg(families[s.Table.Family])...)
		var list encoder
		list.elem(key, nil, 0)
		b.elems(s, list)
		b.end()
	}
	there := make([]bool, len(sent))
	errs = n.c.run(&b, func(i int, body []byte) {
		eachElem(body, func(key, to []byte, _ bool) {
			there[i] = there[i] || mappedText(sent[i].Set.Type, key, to) == sent[i].Elem
		})
	})
	for i, err := range errs {
		switch {
		case err != nil && !errors.Is(err, unix.ENOENT):
			return nil, false, fmt.Errorf("reading element %s of set %s: %w", sent[i].Elem, sent[i].Set.Name, err)
		case there[i]:
			own = append(own, sent[i])
		}
	}
	return own, true, nil
}
