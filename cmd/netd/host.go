package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
	"netd/reconcile/store"
	"netd/reconcile/workload"
	"netd/reconcile/workload/docker"
)

// host is this host as an engine sees it: its kernel, its speaker where one can be asked, and its store.
type host struct {
	db     *store.DB
	alone  *store.NetnsLock
	kernel *kernel.Kernel
	engine *reconcile.Engine
	core   *workload.Core
	facts  object.Host // as read by the last compile

	// What a daemon's loop wants changes with each attachment; nil where no loop runs.
	wired   func(reconcile.Want)
	unwired func([]object.Endpoint)
	left    func(object.Endpoint)
	lock    func() (release func(), err error) // taken around writes
	moved   func()                             // a declared container of Docker started or ended

	docker *docker.Follower

	lately lately

	session desired.Session // of who asks for a plan
	short   bool            // a daemon's last pass over everything failed

	speaker  *speaker.Client // nil: none can be asked
	snapshot func(context.Context) object.Speaker
	secrets  map[string]string // fingerprint → password, of the files that were read

	far  atomic.Pointer[[]netip.Addr] // next hops of learned paths that are on no link
	self atomic.Pointer[config.Node]  // of the last compile

	defaults atomic.Pointer[[]string] // links of default routes, of the last compile; nil: they may be others now
}

// openHost opens the host's kernel and store. A reader changes neither; one who writes is alone in the network namespace, and
// on its state directory, until close.
func (a *app) openHost(readOnly bool) (*host, error) {
	done := a.waiting("whoever has the state in " + a.stateDir + " open")
	db, err := store.Open(a.stateDir, readOnly)
	done()
	if errors.Is(err, store.ErrBusy) {
		return nil, a.holder(err)
	}
	if err != nil {
		return nil, err
	}
	alone := &store.NetnsLock{}
	if !readOnly {
		done = a.waiting("the network namespace, which another netd writes to")
		alone, err = store.TakeNetns(netnsPatience)
		if done(); err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	k, err := kernel.New(db)
	if err != nil {
		alone.Release()
		return nil, errors.Join(err, db.Close())
	}
	h := &host{db: db, alone: alone, kernel: k, engine: &reconcile.Engine{Kinds: k.Kinds(), MaxBatch: maxBatch, Reading: k.Reading, After: afterChange}, secrets: map[string]string{}}
	h.docker = docker.NewFollower(docker.Socket, workload.Identify, h.dockerChanged)
	if h.core, err = workload.New(db, h); err != nil {
		h.close()
		return nil, err
	}
	return h, nil
}

// holder names the process that has the store open: the daemon, or an apply, and where these have another run directory
// whoever the kernel names.
func (a *app) holder(busy error) error {
	for _, name := range []string{"daemon.lock", "lock"} {
		var held *store.Held
		if errors.As(store.LookAt(a.runDir, name), &held) && !strings.HasPrefix(held.Holder, fmt.Sprintf("pid %d ", os.Getpid())) {
			return held
		}
	}
	if held := store.HeldDB(a.stateDir); held != nil {
		return fmt.Errorf("%w, which is not in %s: ask it with its own --run-dir, or start it anew where that folder was taken away", held, a.runDir)
	}
	return &exit{exitLocked, busy}
}

// Tests that kill netd between any two steps set these, and kernel.AfterWrite: the changes that go to the kernel at once, 0 for
// no limit, and what is called after each.
var (
	maxBatch    int
	afterChange func()
)

func (h *host) close() {
	h.kernel.Close()
	h.alone.Release()
	_ = h.db.Close()
}

// netnsPatience is for how long the network namespace may be another's, whose folders are others: an apply that ends.
const netnsPatience = 5 * time.Second

// squatted says who has the name of the network namespace's lock without being allowed to write to it; empty where nobody.
func (h *host) squatted() string {
	if who := h.alone.Squatter; who != nil {
		return fmt.Sprintf("%s is held by %s, which is not root's: two netd with different folders would not see each other", who.Path, who.Holder)
	}
	return ""
}

// leads reports whether a route to a prefix is one to a next hop that is on no link. Any goroutine may ask.
func (h *host) leads(p netip.Prefix) bool {
	far := h.far.Load()
	return far != nil && slices.ContainsFunc(*far, p.Contains)
}

// sends reports whether the node's packets have an address. Any goroutine may ask.
func (h *host) sends(a netip.Addr) bool {
	n := h.self.Load()
	return n != nil && (a == n.Address.Addr() || a == n.Address6.Addr())
}

// leavesBy reports whether a default route leaves by a link, or may do so. Any goroutine may ask.
func (h *host) leavesBy(link string) bool {
	links := h.defaults.Load()
	return links == nil || slices.Contains(*links, link)
}

// attachSpeaker makes the speaker's objects part of what the engine sees.
func (h *host) attachSpeaker(c *speaker.Client, snapshot func(context.Context) object.Speaker) {
	h.speaker, h.snapshot = c, snapshot
	h.engine.Kinds = append(slices.Clone(h.kernel.Kinds()), c.Kinds()...)
}

// compiled is what a configuration means on this host now.
type compiled struct {
	want     reconcile.Want
	facts    desired.Facts
	pending  []workload.Pending
	gone     []object.Place // attached, and without a namespace
	notes    []string
	down     []string // links without which no other node is reached
	unread   []string // password files
	learning *desired.Learning
}

// compile computes the desired state of a node on this host.
func (h *host) compile(ctx context.Context, c *config.Config, node config.Node) (compiled, error) {
	h.self.Store(&node)
	declared := h.declared(ctx, c, node)
	out := compiled{}
	var attached []object.Endpoint
	attached, out.gone = h.core.Live()
	out.facts.Endpoints, out.pending = workload.Look(declared, attached)
	out.facts.Endpoints = append(out.facts.Endpoints, attached...)
	h.kernel.SetEndpoints(out.facts.Endpoints)
	var err error
	h.defaults.Store(nil)
	if out.facts.Host, err = h.kernel.Host(ctx); err != nil {
		return out, err
	}
	defaults := slices.Concat(out.facts.Host.DefaultLinks, out.facts.Host.DefaultLinks6)
	h.defaults.Store(&defaults)
	out.facts.Host.Lately = h.lately.names(time.Now())
	h.facts = out.facts.Host
	if h.speaker != nil {
		out.facts.Sessions = true
		out.facts.Speaker = h.snapshot(ctx)
		far := out.facts.FarHops()
		h.far.Store(&far) // before they are looked up: a route that changes after that is seen
		if out.facts.Host.Ways, err = h.kernel.Ways(ctx, far); err != nil {
			return out, err
		}
		if out.facts.Passwords, out.unread = h.readPasswords(c, node); len(out.unread) > 0 {
			if out.facts.Kept, err = h.speaker.Passwords(ctx); err != nil {
				return out, err
			}
		}
	}
	r, err := desired.Compile(c, node, out.facts)
	if errors.Is(err, desired.ErrInterface) {
		return out, &exit{exitConfig, err}
	}
	if err != nil {
		return out, &exit{exitFailed, err}
	}
	h.lately.keep(r.Leaves, h.moved)
	out.want, out.learning, out.down = r.Want, r.Learning, r.Down
	out.notes = append(out.notes, r.Notes...)
	if h.speaker == nil {
		for _, err := range checkPasswords(c, node.Name) {
			out.notes = append(out.notes, err.Error())
		}
	}
	switch {
	case h.speaker != nil || !usesBGP(c):
	case h.wired != nil: // a daemon's
		out.notes = append(out.notes, "mode bgp: the speaker has not answered yet; until it does, routes of other nodes are held as they are and none is learned")
	default:
		out.notes = append(out.notes, "mode bgp: sessions need the daemon (netd run); without it routes of other nodes are held as they are and none is learned")
	}
	return out, nil
}

func usesBGP(c *config.Config) bool { return desired.UsesBGP(c) }

// local is what this host knows of itself when it looks for its node.
func (h *host) local(ctx context.Context) (config.Local, error) {
	facts, err := h.kernel.Host(ctx)
	if err != nil {
		return config.Local{}, err
	}
	out := config.Local{Hostname: facts.Name}
	for _, l := range facts.Links {
		if !object.IsVXLANName(l.Name) { // netd's own address is none that a file would have
			out.Addrs = append(out.Addrs, l.Addrs...)
		}
	}
	return out, nil
}

// identify finds this host's node.
func (h *host) identify(ctx context.Context, c *config.Config, named string) (config.Node, string, error) {
	local, err := h.local(ctx)
	if err != nil {
		return config.Node{}, "", err
	}
	n, warning, err := c.Identify(named, local)
	if err != nil {
		return n, warning, &exit{exitConfig, err}
	}
	return n, warning, nil
}

// before is what the last apply made, if it was of this configuration and made all of it: what differs from it now was changed
// by others.
func (h *host) before(c *config.Config, node config.Node, now compiled) reconcile.State {
	applied := h.db.Applied()
	if applied.Digest != c.Digest || applied.Node != node.Name || applied.Short || h.short {
		return nil
	}
	fresh := map[string]bool{} // causes of workloads that were not attached then
	for _, w := range c.Workloads {
		if !slices.Contains(applied.Workloads, string(desired.WorkloadID(w))) {
			fresh["workload "+w.Name] = true
		}
	}
	for _, e := range now.facts.Endpoints {
		if !slices.Contains(applied.Workloads, string(e.ID)) {
			fresh["workload "+string(e.ID)] = true
		}
	}
	before := make(reconcile.State, len(now.want.State))
	for k, r := range now.want.State {
		if k.Kind != object.KindPath && k.Kind != object.KindPeer && k.Kind != object.KindBGP && !fresh[now.want.Because(k).Text] {
			before[k] = r
		}
	}
	for _, p := range now.pending { // it ended: what was made for it is nobody else's doing
		for _, w := range c.Workloads {
			if desired.WorkloadID(w) != p.ID || !slices.Contains(applied.Workloads, string(p.ID)) {
				continue
			}
			if was, err := desired.Attached(c, node, desired.Facts{Host: now.facts.Host}, desired.EndpointOf(w)); err == nil {
				maps.Copy(before, was.State)
			}
		}
	}
	return before
}

// plan is what an apply of c would do.
func (h *host) plan(ctx context.Context, c *config.Config, node config.Node) (compiled, reconcile.Plan, planView, error) {
	now, err := h.compile(ctx, c, node)
	if err != nil {
		return now, reconcile.Plan{}, planView{}, err
	}
	p, err := h.engine.Plan(ctx, &now.want, h.before(c, node, now))
	if err != nil {
		return now, p, planView{}, err
	}
	v := newPlanView(c, node.Name, p)
	v.ThisHost = true
	v.Notes = slices.Concat(v.Notes, now.down, now.unread, now.notes, resets(p, now.want))
	outer, err := h.outerSources(ctx, c, node)
	if err != nil {
		return now, p, v, err
	}
	v.Notes = append(v.Notes, outer...)
	was := h.db.Applied()
	v.Notes = append(v.Notes, desired.Cuts(p, h.session, was.Addresses, addressesOf(node))...)
	v.Harms = append(v.Harms, desired.Harms(p, now.want, was.Blocks, node.Blocks)...)
	v.Pending = append(v.Pending, now.pending...)
	return now, p, v, nil
}

// applied is what is remembered of an apply of c with these containers.
func applied(c *config.Config, node config.Node, es []object.Endpoint) store.Applied {
	out := store.Applied{Digest: c.Digest, Node: node.Name, Addresses: addressesOf(node), Blocks: node.Blocks}
	for _, e := range es {
		out.Workloads = append(out.Workloads, string(e.ID))
	}
	return out
}

func addressesOf(n config.Node) (out []netip.Addr) {
	for _, p := range []netip.Prefix{n.Address, n.Address6} {
		if p.IsValid() {
			out = append(out, p.Addr())
		}
	}
	return out
}

// apply carries a plan out if it is still the one that was agreed to. show, if any, is given the plan before; begin, if any,
// is called when nothing but the changes themselves can fail any more.
func (h *host) apply(ctx context.Context, c *config.Config, node config.Node, agreed agreement, show func(planView), begin func() error) (applyView, error) {
	now, p, v, err := h.plan(ctx, c, node)
	if err != nil {
		return applyView{}, err
	}
	out := applyView{SchemaVersion: 1, Plan: v, Errors: []string{}}
	if out.Stale, out.Refused = agreed.stale(v), agreed.refuses(v); out.Stale {
		return out, nil
	}
	if show != nil {
		show(v)
	}
	if out.Refused {
		return out, nil
	}
	if begin != nil {
		if err := begin(); err != nil {
			return out, err
		}
	}
	if err := h.execute(ctx, now.want, p, &out); err != nil {
		return out, err
	}
	made := applied(c, node, now.facts.Endpoints)
	made.Short = len(out.Errors) > 0
	if err := h.db.SetApplied(made); err != nil {
		out.Errors = append(out.Errors, err.Error())
	}
	return out, nil
}

// destroy removes everything of netd.
func (h *host) destroy(ctx context.Context, id string, show func(planView)) (applyView, error) {
	p, v, err := h.planDestroy(ctx)
	if err != nil {
		return applyView{}, err
	}
	out := applyView{SchemaVersion: 1, Plan: v, Errors: []string{}}
	if id != "" && v.ID != id {
		out.Stale = true
		return out, nil
	}
	if show != nil {
		show(v)
	}
	if err := h.execute(ctx, reconcile.Want{}, p, &out); err != nil {
		return out, err
	}
	if err := h.db.SetApplied(store.Applied{}); err != nil {
		out.Errors = append(out.Errors, err.Error())
	}
	return out, nil
}

func (h *host) planDestroy(ctx context.Context) (reconcile.Plan, planView, error) {
	p, err := h.engine.Plan(ctx, &reconcile.Want{}, nil)
	if err != nil {
		return p, planView{}, err
	}
	for i := range p.Changes {
		p.Changes[i].Because = reconcile.Cause{Text: "destroy"}
	}
	return p, newPlanView(nil, "", p), nil
}

func (h *host) execute(ctx context.Context, want reconcile.Want, p reconcile.Plan, out *applyView) error {
	var done reconcile.Plan
	if len(p.Changes) > 0 && h.lock != nil {
		release, err := h.lock()
		if err != nil {
			return err
		}
		defer release()
	}
	_, err := h.engine.Execute(ctx, want, p, func(e reconcile.Event) {
		if e.Err == nil {
			done.Changes = append(done.Changes, *e.Change)
		}
	})
	out.Done, out.Applied = len(done.Changes), done.Counts()
	if err != nil {
		for _, one := range unjoin(err) {
			out.Errors = append(out.Errors, one.Error())
		}
	}
	return nil
}

// unjoin is the errors that were joined.
func unjoin(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// refuse is the error of what a file asks for and this version cannot do.
func refuse(c *config.Config) error {
	var errs []error
	for _, u := range desired.CannotYet(c) {
		errs = append(errs, u)
	}
	if len(errs) == 0 {
		return nil
	}
	return &exit{exitConfig, errors.Join(errs...)}
}
