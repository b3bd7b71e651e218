package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Handed tells what became of the container's end of a veth that its runtime moves itself: the name that it has in the
// namespace at path, and whether another link there has a default route. done is false while it is not there, or its
// runtime is not done with it: the default route is what a runtime puts last.
func (k *Kernel) Handed(id object.Place, path string) (name string, elsewhere, done bool, err error) {
	l, there, err := getLink(k.c, 0, object.VethName(string(id)))
	if err != nil || !there || l.nsid < 0 {
		return "", false, false, err
	}
	if nsid, err := k.nsid(path); err != nil || nsid != l.nsid {
		return "", false, false, nil // not there yet, or no namespace yet
	}
	c, err := dialAt(path)
	if err != nil {
		return "", false, false, err
	}
	defer c.close()
	t, err := readLinks(c)
	if err != nil {
		return "", false, false, err
	}
	peer, there := t.byIndex[l.peer]
	if !there || !peer.up() || peer.name == object.PeerName(string(id)) {
		return "", false, false, nil
	}
	err = dumpRoutes(c, unix.AF_INET, func() { elsewhere, done = false, false }, func(body []byte) error {
		if h, ok := decodeRoute(body); ok && h.dst.Bits() == 0 && h.table == unix.RT_TABLE_MAIN && h.typ == unix.RTN_UNICAST {
			done = true
			elsewhere = elsewhere || h.oif != l.peer
		}
		return nil
	})
	if err != nil {
		return "", false, false, fmt.Errorf("reading the routes of %s: %w", id, err)
	}
	return peer.name, elsewhere, done, nil
}
