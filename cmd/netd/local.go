package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
	"netd/reconcile/store"
)

// local works on the kernel itself.
type local struct{ a *app }

func (l local) openHost(readOnly bool) (*host, error) {
	h, err := l.a.openHost(readOnly)
	if err == nil && h.squatted() != "" {
		fmt.Fprintln(l.a.talk, "netd:", h.squatted())
	}
	return h, err
}

func (l local) open(path string, readOnly bool) (*host, *config.Source, *config.Config, error) {
	src, c, err := l.a.load(path)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := refuse(c); err != nil {
		return nil, nil, nil, err
	}
	h, err := l.openHost(readOnly)
	if err == nil {
		h.session = session(os.Getenv("SSH_CONNECTION"))
	}
	return h, src, c, err
}

func (l local) plan(ctx context.Context, path string) (planView, error) {
	v, _, err := l.look(ctx, path)
	return v, err
}

// look is a plan and the configuration that it is of.
func (l local) look(ctx context.Context, path string) (planView, *config.Config, error) {
	h, _, c, err := l.open(path, true)
	if err != nil {
		return planView{}, c, err
	}
	defer h.close()
	defer l.a.waiting("the kernel's answers")()
	node, warning, err := h.identify(ctx, c, l.a.node)
	if err != nil {
		return planView{}, c, err
	}
	_, _, v, err := h.plan(ctx, c, node)
	err = otherHost(err, l.a.node)
	if warning != "" {
		v.Notes = append(v.Notes, warning)
	}
	if other := store.LookAtNetns(); other != nil {
		v.Notes = append(v.Notes, fmt.Sprintf("%s is written to by %s; ask it with its own --run-dir", other.Path, other.Holder))
	}
	return v, c, err
}

func (l local) apply(ctx context.Context, path string, agreed agreement, show func(planView)) (applyView, error) {
	lock, err := store.TakeLock(l.a.runDir, "lock", "apply")
	if err != nil {
		return applyView{}, err
	}
	defer lock.Release()
	h, src, c, err := l.open(path, false)
	if err != nil {
		return applyView{}, err
	}
	defer h.close()
	defer l.a.waiting("the kernel to take the changes")()
	node, _, err := h.identify(ctx, c, l.a.node)
	if err != nil {
		return applyView{}, err
	}
	if err := refusePasswords(c, node); err != nil {
		return applyView{}, err
	}
	_ = h.core.Finish(ctx) // of a daemon that ended over it; the plan takes away what is left
	return h.apply(ctx, c, node, agreed, show, func() error { return keep(h.db, src) })
}

// keep makes a configuration the last good one and ends a rest. Good is what has a plan on this host that is about to be
// carried out: whether each change of it succeeds is known later, and a host that was changed halfway is led on, not back.
func keep(db *store.DB, src *config.Source) error {
	b, err := src.Marshal()
	if err != nil {
		return err
	}
	return errors.Join(db.SetGood(b), db.Rest(false))
}

func (l local) planDestroy(ctx context.Context) (planView, error) {
	h, err := l.a.openHost(true)
	if err != nil {
		return planView{}, err
	}
	defer h.close()
	defer l.a.waiting("the kernel's answers")()
	_ = h.lastWant(ctx)
	_, v, err := h.planDestroy(ctx)
	return v, err
}

func (l local) destroy(ctx context.Context, id string, show func(planView)) (applyView, error) {
	lock, err := store.TakeLock(l.a.runDir, "lock", "destroy")
	if err != nil {
		return applyView{}, err
	}
	defer lock.Release()
	h, err := l.openHost(false)
	if err != nil {
		return applyView{}, err
	}
	defer h.close()
	_ = h.core.Finish(ctx)
	_ = h.lastWant(ctx)
	done := l.a.waiting("the speaker to close its sessions")
	note, err := speaker.Open(speaker.StartOptions{RunDir: l.a.runDir}.Dir(), speaker.Secrets{}).Stop(ctx)
	if done(); err != nil {
		return applyView{}, err
	}
	defer l.a.waiting("the kernel to take the changes")()
	out, err := h.destroy(ctx, id, show)
	out.Note = note
	if err != nil || out.Stale {
		return out, err
	}
	return out, h.db.Rest(true)
}

// lastWant is what the configuration that was applied last asks of this host, empty where that is not known. The kernel is
// told of its workloads, so that their namespaces are looked into.
func (h *host) lastWant(ctx context.Context) reconcile.Want {
	b, err := h.db.Good()
	if err != nil {
		return reconcile.Want{}
	}
	src, err := config.Unmarshal(b)
	if err != nil {
		return reconcile.Want{}
	}
	c, _ := src.Parse()
	if c == nil {
		return reconcile.Want{}
	}
	node, ok := c.Node(h.db.Applied().Node)
	if !ok {
		return reconcile.Want{}
	}
	now, err := h.compile(ctx, c, node)
	if err != nil {
		return reconcile.Want{}
	}
	return now.want
}

// stateView is what `show state --json` prints and `plan --against` takes.
type stateView struct {
	SchemaVersion int             `json:"schema_version"`
	Facts         object.Host     `json:"facts"`
	Resources     json.RawMessage `json:"resources"`

	// Because says why they are wanted, by key: the line's owner, or the neighbours that told a route.
	Because map[string]string `json:"because,omitempty"`
}

func (l local) state(ctx context.Context) (stateView, error) {
	h, err := l.a.openHost(true)
	if err != nil {
		return stateView{}, err
	}
	defer h.close()
	defer l.a.waiting("the kernel's answers")()
	return h.stateView(ctx, h.lastWant(ctx))
}

func (h *host) stateView(ctx context.Context, want reconcile.Want) (stateView, error) {
	v := stateView{SchemaVersion: 1}
	var err error
	if v.Facts, err = h.kernel.Host(ctx); err != nil {
		return v, err
	}
	have, err := h.engine.Observe(ctx, want.State)
	if err != nil {
		return v, err
	}
	v.Because = map[string]string{}
	for k, r := range have.Own {
		if w, ok := want.State[k]; ok && w == r && want.Because(k).Text != "" {
			v.Because[k.String()] = want.Because(k).Text
		}
	}
	v.Resources, err = json.Marshal(have.Own)
	return v, err
}
