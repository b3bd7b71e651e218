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

// Veths are the indexes of the host ends that workloads have now.
func (k *Kernel) Veths(ids []object.Place) (indexes []int, err error) {
	for _, id := range ids {
		l, there, err := getLink(k.c, 0, object.VethName(string(id)))
		if err != nil {
			return nil, err
		}
		if there && l.isNetdVeth() {
			indexes = append(indexes, l.index)
		}
	}
	return indexes, nil
}

// RemoveVeths takes away the links of these indexes, which were netd's, on sockets of its own: by index, since the next link of that
// name may be another's by then. What is on a link goes with it. Any goroutine may call it, one at a time. The watcher takes the
// events for netd's own doing, as it does those of a pass.
func (k *Kernel) RemoveVeths(indexes []int) error {
	work := make(chan int)
	errs := make([]error, len(k.away))
	var tasks sync.WaitGroup
	for i, c := range k.away {
		tasks.Add(1)
		go func() {
			defer tasks.Done()
			for index := range work {
				errs[i] = errors.Join(errs[i], c.deleteLink(index))
			}
		}()
	}
	for _, index := range indexes {
		work <- index
	}
	close(work)
	tasks.Wait()
	return errors.Join(errs...)
}

// deleteLink takes a link away. One that is not there is no error.
func (c *conn) deleteLink(index int) error {
	b := &batch{}
	b.begin(unix.RTM_DELLINK, 0)
	b.ifinfo(index, 0, 0)
	b.end()
	if err := c.run(b, nil)[0]; err != nil && !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func dialMany(n int) ([]*conn, error) {
	conns := make([]*conn, 0, n)
	for range n {
		c, err := dialOwn(unix.NETLINK_ROUTE)
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
