package kernel

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// removers is how many links are taken away side by side: the kernel lets each go only after a grace period of RCU and a barrier
// (net/core/dev.c, netdev_run_todo), some 20 ms that it sleeps through, and serves other sockets meanwhile.
const removers = 4

// RemoveVeths takes away the pairs of workloads, on sockets of its own. What is on a link goes with it; what stands elsewhere, and a
// link that is not netd's, is left to a pass. Any goroutine may call it, one at a time.
func (k *Kernel) RemoveVeths(ids []object.Place) error {
	work := make(chan object.Place)
	errs := make([]error, len(k.away))
	var tasks sync.WaitGroup
	for i, c := range k.away {
		tasks.Add(1)
		go func() {
			defer tasks.Done()
			for id := range work {
				errs[i] = errors.Join(errs[i], c.removeVeth(object.VethName(string(id))))
			}
		}()
	}
	for _, id := range ids {
		work <- id
	}
	close(work)
	tasks.Wait()
	return errors.Join(errs...)
}

func (c *conn) removeVeth(name string) error {
	l, there, err := getLink(c, name)
	if err != nil || !there || !l.isNetdVeth() {
		return err
	}
	return c.deleteLink(l.index)
}

// deleteLink takes a link away. One that is not there is no error.
func (c *conn) deleteLink(index int) error {
	b := &batch{}
	b.begin(unix.RTM_DELLINK, 0)
	var head [unix.SizeofIfInfomsg]byte
	native.PutUint32(head[4:], uint32(index))
	b.raw(head[:]...)
	b.end()
	if err := c.run(b)[0]; err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func dialMany(n int) ([]*conn, error) {
	conns := make([]*conn, 0, n)
	for range n {
		c, err := dial()
		if err != nil {
			for _, c := range conns {
				c.close()
			}
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}
