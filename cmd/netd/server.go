package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/speaker"
	"netd/reconcile/store"
)

const socketName = "netd.sock"

// request is what a call to the daemon carries.
type request struct {
	Config  string            `json:"config,omitempty"` // absolute path
	Draft   json.RawMessage   `json:"draft,omitempty"`  // what stands there, a config.Source: a daemon in a unit of its own may not see it
	Vars    map[string]string `json:"vars,omitempty"`
	Given   []string          `json:"given,omitempty"` // the names of those variables that --var sets
	Node    string            `json:"node,omitempty"`
	Session desired.Session   `json:"session,omitzero"` // that the user is logged in over
	agreement
	Peer  string `json:"peer,omitempty"`
	Which string `json:"which,omitempty"` // routes of a peer
}

// failure is the answer where something went wrong.
type failure struct {
	Error string `json:"error"`
	Code  int    `json:"code"`
}

// serve opens the daemon's socket. daemon.lock is held: a socket that is there is a dead daemon's.
func (d *daemonState) serve() (*http.Server, error) {
	path := filepath.Join(d.a.runDir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o177)
	l, err := net.Listen("unix", path)
	unix.Umask(old)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	handle := func(pattern string, f func(ctx context.Context, r request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, hr *http.Request) {
			var r request
			if err := json.NewDecoder(io.LimitReader(hr.Body, 64<<20)).Decode(&r); err != nil && !errors.Is(err, io.EOF) {
				answer(w, nil, fail(exitUsage, "reading the request: %w", err))
				return
			}
			v, err := f(hr.Context(), r)
			answer(w, v, err)
		})
	}
	status := onLoop(d, func(context.Context, request) (statusView, error) { return d.statusNow(), nil })
	handle("GET /v1/status", func(ctx context.Context, r request) (any, error) {
		d.lookAtRejected(ctx)
		return status(ctx, r)
	})
	handle("POST /v1/plan", parsed(d, func(ctx context.Context, r request, _ *config.Source, c *config.Config) (planView, error) {
		node, warning, err := d.identify(ctx, r, c)
		if err != nil {
			return planView{}, err
		}
		if usesBGP(c) == usesBGP(orEmpty(d.config)) {
			d.bgpIfConfigured(ctx)
		}
		d.host.session = r.Session
		defer func() { d.host.session = desired.Session{} }()
		_, _, v, err := d.host.plan(ctx, c, node)
		err = otherHost(err, r.Node)
		if warning != "" {
			v.Notes = append(v.Notes, warning)
		}
		return v, err
	}))
	apply := parsed(d, d.applyNow)
	handle("POST /v1/apply", func(ctx context.Context, r request) (any, error) {
		if own, _ := filepath.Abs(d.a.config); own != r.Config {
			return nil, fail(exitUsage, "the daemon follows %s, not %s; plan may look at any file, apply takes that one", own, r.Config)
		}
		d.reading.Lock()
		defer d.reading.Unlock()
		return apply(ctx, r)
	})
	handle("POST /v1/destroy/plan", onLoop(d, func(ctx context.Context, _ request) (planView, error) {
		_, v, err := d.host.planDestroy(ctx)
		return v, err
	}))
	handle("POST /v1/destroy", onLoop(d, d.destroyNow))
	handle("POST /v1/reload", func(ctx context.Context, _ request) (any, error) {
		var v statusView
		var err error
		cerr := d.reread(ctx, func(ctx context.Context) {
			err = d.loop.Whole(ctx, "reload")
			if v = d.statusNow(); d.refusal != nil {
				err = d.refusal
			}
		})
		return v, errors.Join(err, cerr)
	})
	handle("GET /v1/state", onLoop(d, func(ctx context.Context, _ request) (stateView, error) {
		want, _ := d.loop.Wanted()
		return d.host.stateView(ctx, want)
	}))
	handle("GET /v1/attached", onLoop(d, d.attachedNow))
	handle("POST /v1/drift", onLoop(d, d.driftNow))
	handle("POST /v1/peers", looks(d.peersNow))
	handle("POST /v1/peers/routes", looks(d.routesNow))
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, _ *http.Request) { answer(w, newVersionView(), nil) })
	d.handleFronts(mux)
	s := &http.Server{Handler: rootOnly(mux), ReadHeaderTimeout: 5 * time.Second, ConnContext: withPeer}
	go func() { _ = s.Serve(l) }()
	return s, nil
}

// rootOnly refuses callers that are neither root nor the daemon's own user, whatever became of the socket's mode.
func rootOnly(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, ok := r.Context().Value(peerKey{}).(unix.Ucred)
		if !ok || cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
			answer(w, nil, fail(exitNoPerm, "the daemon answers root alone"))
			return
		}
		h.ServeHTTP(w, r)
	})
}

func orEmpty(c *config.Config) *config.Config {
	if c == nil {
		return &config.Config{}
	}
	return c
}

// onLoop has the loop's goroutine, which owns the state, answer.
func onLoop[T any](d *daemonState, f func(context.Context, request) (T, error)) func(context.Context, request) (any, error) {
	return func(ctx context.Context, r request) (v any, err error) {
		cerr := d.call(ctx, func(ctx context.Context) {
			d.finish(ctx)
			v, err = f(ctx, r)
		})
		return v, errors.Join(err, cerr)
	}
}

// parsed is onLoop for what asks for a file: it is parsed before, so that a slow one delays no repair.
func parsed[T any](d *daemonState, f func(context.Context, request, *config.Source, *config.Config) (T, error)) func(context.Context, request) (any, error) {
	return func(ctx context.Context, r request) (v any, err error) {
		src, c, err := d.asked(ctx, r)
		if err != nil {
			return nil, err
		}
		cerr := d.call(ctx, func(ctx context.Context) {
			d.finish(ctx)
			v, err = f(ctx, r, src, c)
		})
		return v, errors.Join(err, cerr)
	}
}

func answer(w http.ResponseWriter, v any, err error) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		code := exitFailed
		var e *exit
		var held *store.Held
		switch {
		case errors.As(err, &e):
			code = e.code
		case errors.As(err, &held):
			code = exitLocked
		}
		w.WriteHeader(http.StatusInternalServerError)
		v = failure{err.Error(), code}
	}
	_ = json.NewEncoder(w).Encode(v)
}

// identify finds this host's node in a file: the one that is asked for, else the one that the daemon has been.
func (d *daemonState) identify(ctx context.Context, r request, c *config.Config) (config.Node, string, error) {
	named := cmp.Or(r.Node, d.a.node)
	if d.named && r.Node == "" {
		if _, ok := c.Node(d.node.Name); !ok {
			return config.Node{}, "", &exit{exitConfig, d.gone(r.Config)}
		}
		named = d.node.Name
	}
	return d.host.identify(ctx, c, named)
}

// gone is the error of a file without the node that this host is.
func (d *daemonState) gone(file string) error {
	return fmt.Errorf("%s no longer has this host, node %q; what was accepted last stays in force (to leave, netd destroy)", file, d.node.Name)
}

// draft is the file that a request names: the daemon's own as it stands on disk, any other as the request brings it.
func (d *daemonState) draft(r request) (*config.Source, error) {
	own, _ := filepath.Abs(d.a.config)
	switch {
	case own == r.Config:
		return d.a.read(d.a.config)
	case len(r.Draft) == 0:
		return d.a.read(r.Config)
	}
	vars, err := d.a.variables()
	if err != nil {
		return nil, err
	}
	src, err := config.Handed(r.Draft)
	if err != nil {
		return nil, fail(exitUsage, "reading the request: %w", err)
	}
	src.Vars = vars
	return src, nil
}

// asked parses the file that a request names.
func (d *daemonState) asked(ctx context.Context, r request) (*config.Source, *config.Config, error) {
	src, err := d.draft(r)
	if err != nil {
		return nil, nil, err
	}
	c, err := d.a.parseApart(ctx, src)
	if err != nil {
		for name := range r.Vars { // who reads that a variable lacks a value has perhaps just given it one
			if strings.Contains(err.Error(), fmt.Sprintf("Variable %q has no default", name)) {
				err = fmt.Errorf("%w\nWhere a daemon runs, its variables count: it has no %s", err, name)
			}
		}
		return nil, nil, err
	}
	if err := sameVariables(append(slices.Clone(c.Variables), r.Given...), src.Vars, r.Vars); err != nil {
		return nil, nil, err
	}
	return src, c, refuse(c)
}

// sameVariables refuses a caller who has one of some variables, those of the file and those of --var, set to something else than
// the daemon. What the caller does not set is the daemon's; what else an environment holds has no effect.
func sameVariables(names []string, daemon, caller map[string]string) error {
	var errs []error
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		here, set := caller[name]
		switch there, has := daemon[name]; {
		case !set || has && here == there:
		case has:
			errs = append(errs, fmt.Errorf("variable %q is %q for the daemon and %q here; where a daemon runs, its variables count", name, there, here))
		default:
			errs = append(errs, fmt.Errorf("variable %q is set here and not for the daemon; where a daemon runs, its variables count", name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return &exit{exitUsage, err}
	}
	return nil
}

func (d *daemonState) bgpIfConfigured(ctx context.Context) {
	if d.config != nil {
		d.bgp(ctx)
	}
}

func (d *daemonState) applyNow(ctx context.Context, r request, src *config.Source, c *config.Config) (applyView, error) {
	node, _, err := d.identify(ctx, r, c)
	if err != nil {
		return applyView{}, err
	}
	if err := refusePasswords(c, node); err != nil {
		return applyView{}, err
	}
	d.host.session = r.Session
	defer func() { d.host.session = desired.Session{} }()
	_, _, v, err := d.host.plan(ctx, c, node)
	if err != nil {
		return applyView{}, err
	}
	if stale, refused := r.stale(v), r.refuses(v); stale || refused {
		return applyView{SchemaVersion: 1, Plan: v, Errors: []string{}, Stale: stale, Refused: refused && !stale}, nil
	}
	if err := keep(d.host.db, src); err != nil {
		return applyView{}, err
	}
	d.take(src, c)
	d.node, d.named = node, true
	d.bgp(ctx)
	out, err := d.host.apply(ctx, c, node, agreement{AllowDestroy: true}, nil, nil)
	if err != nil {
		return out, err
	}
	d.refusal = nil
	d.set(func(s *statusView) { s.ConfigError, s.Resting = "", false; s.Node = node.Name })
	_ = d.loop.Whole(ctx, "apply")
	return out, nil
}

func (d *daemonState) destroyNow(ctx context.Context, r request) (applyView, error) {
	note := ""
	if d.client != nil {
		var err error
		if note, err = d.client.Stop(ctx); err != nil && !errors.Is(err, speaker.ErrNotRunning) {
			return applyView{}, err
		}
		d.stopBGP()
		d.client.Close()
		d.sup, d.client, d.host.speaker = nil, nil, nil
		d.host.engine.Kinds = d.host.kernel.Kinds()
	}
	out, err := d.host.destroy(ctx, r.ID, nil)
	out.Note = note
	if err != nil || out.Stale {
		return out, err
	}
	if err := d.host.db.Rest(true); err != nil {
		return out, err
	}
	_ = d.loop.Whole(ctx, "destroy")
	return out, nil
}

func (d *daemonState) driftNow(ctx context.Context, _ request) (driftView, error) {
	v := driftView{ChangedBy: map[string]string{}}
	if d.config == nil || !d.named {
		return v, fail(exitConfig, "the daemon has no configuration")
	}
	_, p, view, err := d.host.plan(ctx, d.config, d.node)
	v.planView = view
	for _, c := range p.Changes {
		if who := d.loop.ChangedBy(c.Key); c.Drift && who != "" {
			v.ChangedBy[c.Key.String()] = who
		}
	}
	d.set(func(s *statusView) { v.Repairs = append([]repairView{}, s.Repairs...) })
	return v, err
}
