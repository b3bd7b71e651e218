package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"netd/reconcile/store"
)

// daemonClient speaks to a daemon.
type daemonClient struct {
	a    *app
	http *http.Client
}

// dialDaemon returns a client of the daemon that runs, nil where none does. One that holds its lock and does not answer is
// an error.
func (a *app) dialDaemon(ctx context.Context) (*daemonClient, error) {
	path := filepath.Join(a.runDir, socketName)
	c := &daemonClient{a, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}}}
	defer a.waiting("the daemon's answer")()
	deadline := time.Now().Add(5 * time.Second)
	for {
		err := c.hello(ctx, deadline)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		lerr := store.LookAt(a.runDir, "daemon.lock")
		var held *store.Held
		if lerr == nil || errors.Is(lerr, fs.ErrNotExist) || errors.Is(lerr, fs.ErrPermission) { // not root: what follows will say so
			return nil, nil
		}
		if !errors.As(lerr, &held) {
			return nil, lerr
		}
		if time.Now().After(deadline) {
			return nil, &exit{exitLocked, fmt.Errorf("the daemon, %s, does not answer; systemctl restart netd, or kill it and start it anew: what it made stays", held.Holder)}
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// hello finds out whether the daemon answers at all: the kernel takes connections for one that stands still. A daemon of
// another version is told, since its answers may be others.
func (c *daemonClient) hello(ctx context.Context, deadline time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	hr, err := http.NewRequestWithContext(ctx, "GET", "http://netd/v1/version", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(hr)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var v versionView
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil || v.Version != version {
		fmt.Fprintf(c.a.talk, "netd: the daemon is of version %s, this netd of %s: restart the daemon\n", cmp.Or(v.Version, "unknown"), version)
	}
	return nil
}

func (c *daemonClient) do(ctx context.Context, method, path string, r, into any) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	hr, err := http.NewRequestWithContext(ctx, method, "http://netd"+path, bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer c.a.waiting("the daemon")()
	resp, err := c.http.Do(hr)
	if ctx.Err() != nil {
		return fail(exitFailed, "%w while the daemon was at it; what it has begun it carries through: netd status tells", context.Cause(ctx))
	}
	if err != nil {
		return fail(exitNoDaemon, "asking the daemon: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Code == 0 {
			return fail(exitFailed, "the daemon answers %s; is it of another version than this netd %s?", resp.Status, version)
		}
		return &exit{f.Code, errors.New(f.Error)}
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("reading the daemon's answer: %w", err)
	}
	return nil
}

// remote has the daemon do it.
type remote struct {
	a *app
	c *daemonClient
}

func (r remote) request(path string, agreed agreement) (request, error) {
	vars, err := r.a.variables()
	if err != nil {
		return request{}, err
	}
	var given []string
	for _, v := range r.a.vars {
		name, _, _ := strings.Cut(v, "=")
		given = append(given, name)
	}
	abs, err := filepath.Abs(path)
	return request{Config: abs, Vars: vars, Given: given, Node: r.a.node, Session: session(os.Getenv("SSH_CONNECTION")), agreement: agreed}, err
}

func (r remote) plan(ctx context.Context, path string) (v planView, err error) {
	q, err := r.request(path, agreement{})
	if err != nil {
		return v, err
	}
	src, err := r.a.read(q.Config)
	if err != nil {
		return v, err
	}
	if q.Draft, err = src.Marshal(); err != nil {
		return v, err
	}
	err = r.c.do(ctx, "POST", "/v1/plan", q, &v)
	return v, err
}

func (r remote) apply(ctx context.Context, path string, agreed agreement, show func(planView)) (v applyView, err error) {
	q, err := r.request(path, agreed)
	if err != nil {
		return v, err
	}
	err = r.change(ctx, "/v1/apply", q, &v, show)
	return v, err
}

func (r remote) change(ctx context.Context, path string, q request, v *applyView, show func(planView)) error {
	err := r.c.do(ctx, "POST", path, q, v)
	if err == nil && !v.Stale && show != nil {
		show(v.Plan)
	}
	return err
}

func (r remote) planDestroy(ctx context.Context) (v planView, err error) {
	err = r.c.do(ctx, "POST", "/v1/destroy/plan", request{}, &v)
	return v, err
}

func (r remote) destroy(ctx context.Context, id string, show func(planView)) (v applyView, err error) {
	err = r.change(ctx, "/v1/destroy", request{agreement: agreement{ID: id}}, &v, show)
	return v, err
}

func (r remote) state(ctx context.Context) (v stateView, err error) {
	err = r.c.do(ctx, "GET", "/v1/state", request{}, &v)
	return v, err
}
