package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
	"netd/reconcile/workload/cni"
)

// attachments are what runtimes ask of a daemon. Their requests come on goroutines of their own and are carried out on the
// loop's, all that wait at a time with one synchronous write.
type attachments struct {
	d *daemonState

	mu      sync.Mutex
	waiting []*attachment
}

// attachment is a request: to attach, or where ids are given to detach.
type attachment struct {
	attach workload.Request
	ids    []object.Place

	endpoint store.Endpoint
	err      error
	done     bool
}

// most is how many requests are carried out before the loop looks at anything else.
const most = 64

func (q *attachments) do(ctx context.Context, a *attachment) error {
	q.mu.Lock()
	q.waiting = append(q.waiting, a)
	q.mu.Unlock()
	for {
		done := false
		if err := q.d.call(ctx, func(ctx context.Context) {
			if !a.done { // by the call of another request that waited
				q.some(ctx)
			}
			done = a.done
		}); err != nil {
			return err
		}
		if done {
			return a.err
		}
	}
}

// some carries out what waits first. It runs on the loop's goroutine.
func (q *attachments) some(ctx context.Context) {
	q.mu.Lock()
	batch := q.waiting[:min(most, len(q.waiting))]
	q.waiting = q.waiting[len(batch):]
	q.mu.Unlock()
	for i := 0; i < len(batch); {
		j := i + 1
		for j < len(batch) && (batch[j].ids == nil) == (batch[i].ids == nil) {
			j++
		}
		if batch[i].ids == nil {
			q.attach(ctx, batch[i:j])
		} else {
			q.detach(ctx, batch[i:j])
		}
		i = j
	}
}

func (q *attachments) attach(ctx context.Context, batch []*attachment) {
	site, err := q.d.site()
	var reqs []workload.Request
	for _, a := range batch {
		a.done, a.err = true, err
		reqs = append(reqs, a.attach)
	}
	if err != nil {
		return
	}
	for i, r := range q.d.host.core.Attach(ctx, site, reqs) {
		batch[i].endpoint, batch[i].err = r.Endpoint, r.Err
		q.d.tell("attached", reqs[i].ID, r.Endpoint, r.Err)
	}
}

// detach answers for CNI as soon as it is on disk that the containers are attached no more; leaver does the rest. Docker asks for
// an address again right after it gave it back: for it all is done here.
func (q *attachments) detach(ctx context.Context, batch []*attachment) {
	core := q.d.host.core
	var soon, now []object.Place
	leaves := core.Leaves()
	for _, a := range batch {
		for _, id := range a.ids {
			if e, ok := core.Known(id); ok && e.Owner == "cni" || slices.Contains(leaves, id) {
				soon = append(soon, id)
			} else {
				now = append(now, id)
			}
		}
	}
	if len(leaves)+len(soon) > most { // more than the loop should find to do at once where something asks for all of it
		soon, now = nil, append(now, soon...)
	}
	errs := map[object.Place]error{}
	for i, err := range core.Detach(ctx, now) {
		errs[now[i]] = errors.Join(errs[now[i]], err)
	}
	going, err := core.Release(soon)
	for _, id := range soon {
		errs[id] = err
	}
	for _, a := range batch {
		a.done = true
		for _, id := range a.ids {
			a.err = errors.Join(a.err, errs[id])
			q.d.tell("detached", id, store.Endpoint{}, errs[id])
		}
	}
	if len(going) > 0 {
		q.d.unwired(going) // before the kernel tells that they go
		q.d.leaving.Set()
	}
}

// leaver takes away what was released, until ctx ends. The kernel sleeps over each link, for which no runtime has to wait then, and
// the loop only where it is asked for something that needs them gone.
func (d *daemonState) leaver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.leaving:
		}
		var links []int
		var err error
		_ = d.call(ctx, func(context.Context) { links, err = d.host.kernel.Veths(d.host.core.Leaves()) })
		if err = errors.Join(err, d.host.kernel.RemoveVeths(links)); err != nil {
			d.log.Warn("links of containers that left; the loop takes them away", zap.Error(err))
		}
		_ = d.call(ctx, d.finish)
	}
}

// finish has those who left be gone. It runs on the loop's goroutine, before whatever looks at the host as a whole.
func (d *daemonState) finish(ctx context.Context) {
	if len(d.host.core.Leaves()) == 0 {
		return
	}
	if err := d.host.core.Finish(ctx); err != nil {
		d.log.Error("containers that left", zap.Error(err))
		time.AfterFunc(time.Second, d.leaving.Set)
	}
}

func (d *daemonState) tell(what string, id object.Place, e store.Endpoint, err error) {
	if err != nil {
		d.log.Error("not "+what, zap.String("workload", string(id)), zap.Error(err))
		return
	}
	fields := []zap.Field{zap.String("workload", string(id))}
	for _, a := range e.Addrs() {
		fields = append(fields, zap.String("address", a.String()))
	}
	d.log.Info(what, fields...)
}

// site is the configuration in force, which a container is attached by.
func (d *daemonState) site() (workload.Site, error) {
	_, ready := d.loop.Wanted()
	switch {
	case d.host.db.Resting():
		return workload.Site{}, later("netd rests since netd destroy; netd apply ends that")
	case d.config == nil:
		return workload.Site{}, later("netd has no valid configuration yet (see netd status)")
	case !d.named:
		return workload.Site{}, later("this host's node is not known yet (see netd status)")
	case !ready:
		return workload.Site{}, later("netd has not read this host yet (see netd status)")
	}
	return workload.Site{Config: d.config, Node: d.node}, nil
}

func later(text string) error { return &workload.Problem{Kind: workload.Later, Err: errors.New(text)} }

// Attach implements cni.Attacher, as do the methods that follow.
func (q *attachments) Attach(ctx context.Context, r workload.Request) (store.Endpoint, error) {
	a := &attachment{attach: r}
	err := q.do(ctx, a)
	return a.endpoint, err
}

// Detach implements cni.Attacher.
func (q *attachments) Detach(ctx context.Context, ids ...object.Place) error {
	if len(ids) == 0 {
		return nil
	}
	return q.do(ctx, &attachment{ids: ids})
}

// Check implements cni.Attacher.
func (q *attachments) Check(ctx context.Context, id object.Place, open string) (e store.Endpoint, err error) {
	cerr := q.d.call(ctx, func(ctx context.Context) {
		var site workload.Site
		if site, err = q.d.site(); err == nil {
			e, err = q.d.host.core.Check(ctx, site, id, open)
		}
	})
	return e, errors.Join(err, cerr)
}

// Known implements cni.Attacher.
func (q *attachments) Known(ctx context.Context) (es []store.Endpoint, err error) {
	err = q.d.call(ctx, func(context.Context) { es = q.d.host.core.All() })
	return es, err
}

// Ready implements cni.Attacher.
func (q *attachments) Ready(ctx context.Context, network string) (err error) {
	cerr := q.d.call(ctx, func(context.Context) {
		var site workload.Site
		if site, err = q.d.site(); err == nil {
			err = q.d.host.core.Room(site, network)
		}
	})
	return errors.Join(err, cerr)
}

// wired and unwired keep what the loop wants in step.
func (d *daemonState) wired(want reconcile.Want) { d.loop.Merge(want) }

func (d *daemonState) unwired(es []object.Endpoint) {
	if d.config == nil {
		return
	}
	for _, e := range es {
		if want, err := d.host.attached(workload.Site{Config: d.config, Node: d.node}, e); err == nil {
			d.loop.Drop(want.State.Keys())
		}
		if len(e.Ports) > 0 { // nobody took them back before: what there is for all who publish may be for nobody any more
			d.pokes.Add(reconcile.Poke{Wanted: true})
		}
	}
}

// flusher forgets the connections of addresses that left a container, until ctx ends. The kernel takes milliseconds for it,
// for which neither a runtime nor the loop has to wait.
func (d *daemonState) flusher(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.freed.wake:
		}
		addrs := d.freed.take()
		if err := d.host.Flush(addrs); err != nil {
			d.log.Warn("connections of freed addresses; they are flushed before these are used again", zap.Error(err))
			continue
		}
		_ = d.call(ctx, func(context.Context) { d.host.core.Flushed(addrs) })
	}
}

// freed are addresses that wait for the flusher.
type freed struct {
	mu    sync.Mutex
	addrs []netip.Addr
	wake  news
}

func (f *freed) add(addrs []netip.Addr) {
	f.mu.Lock()
	f.addrs = append(f.addrs, addrs...)
	f.mu.Unlock()
	f.wake.Set()
}

func (f *freed) take() []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	addrs := f.addrs
	f.addrs = nil
	return addrs
}

// sweep frees the addresses of containers that went without a word.
func (d *daemonState) sweep(ctx context.Context, gone []object.Place) {
	swept, err := d.host.core.Sweep(ctx, gone)
	for _, id := range swept {
		d.log.Info("swept: its namespace is gone", zap.String("workload", string(id)))
	}
	if err != nil {
		d.log.Error("sweeping", zap.Error(err))
	}
	if len(gone) > len(swept) {
		time.AfterFunc(workload.Sightings+time.Millisecond, d.pokes.Whole)
	}
}

// frontCall is what netd-cni sends: a call, and the descriptor on which it has the container's namespace open.
type frontCall struct {
	cni.Call
	FD  int    `json:"fd"` // -1: none
	Dev uint64 `json:"dev"`
	Ino uint64 `json:"ino"`
}

// handleFronts adds what runtimes' fronts call.
func (d *daemonState) handleFronts(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/cni", func(w http.ResponseWriter, r *http.Request) {
		var c frontCall
		if err := json.NewDecoder(io.LimitReader(r.Body, 2*cni.MaxInput)).Decode(&c); err != nil {
			answer(w, nil, fail(exitUsage, "reading the request: %w", err))
			return
		}
		if c.FD >= 0 {
			var err error
			if c.Open, err = opened(r.Context(), c); err != nil {
				answer(w, nil, fail(exitNoPerm, "%w", err))
				return
			}
		}
		answer(w, cni.Run(r.Context(), d.attachments, c.Call), nil)
	})
}

type peerKey struct{}

// withPeer keeps who is at the other end of a connection. It is for http.Server.ConnContext.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if err := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil || cred == nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, *cred)
}

// opened is the path of a descriptor of the caller: the kernel says who that is, and device and inode that it is the one
// that is meant.
func opened(ctx context.Context, c frontCall) (string, error) {
	cred, ok := ctx.Value(peerKey{}).(unix.Ucred)
	switch {
	case !ok || cred.Pid <= 0:
		return "", errors.New("the kernel does not say who calls: is the caller in another process namespace?")
	case int(cred.Uid) != 0 && int(cred.Uid) != os.Geteuid():
		return "", fmt.Errorf("user %d may not attach containers", cred.Uid)
	}
	path := fmt.Sprintf("/proc/%d/fd/%d", cred.Pid, c.FD)
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return "", fmt.Errorf("looking at the caller's descriptor: %w", err)
	}
	if uint64(st.Dev) != c.Dev || st.Ino != c.Ino {
		return "", fmt.Errorf("%s is another file than the caller has open", path)
	}
	return path, nil
}
