package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
	"netd/reconcile/workload/docker"
)

// Handed implements workload.Host.
func (h *host) Handed(id object.Place, path string) (name string, elsewhere, done bool, err error) {
	return h.kernel.Handed(id, path)
}

// Left implements workload.Host.
func (h *host) Left(was, is object.Endpoint) {
	if h.left != nil {
		h.left(was)
	}
	h.kernel.SetEndpoint(is)
}

// left takes what was wanted in an endpoint's namespace out of what the loop wants.
func (d *daemonState) left(was object.Endpoint) {
	if d.config == nil {
		return
	}
	all, err := d.host.attached(workload.Site{Config: d.config, Node: d.node}, was)
	if err != nil {
		return
	}
	was.Netns = ""
	outside, err := desired.Attached(d.config, d.node, desired.Facts{Host: d.host.facts}, was)
	if err != nil {
		return
	}
	for k := range outside.State {
		delete(all.State, k)
	}
	d.loop.Drop(all.State.Keys())
}

// settleHanded takes note of what Docker has done with containers' ends. It runs on the loop's goroutine.
func (d *daemonState) settleHanded(ctx context.Context) {
	settled, err := d.host.core.Settle(ctx, workload.Site{Config: d.config, Node: d.node})
	if err != nil {
		d.log.Error("containers of Docker", zap.Error(err))
	}
	if len(settled) > 0 {
		d.inherited.Set()
	}
	for _, e := range settled {
		d.unnamed.Set()
		d.log.Debug("in its namespace", zap.String("workload", string(e.ID)), zap.String("interface", e.Interface), zap.Bool("beside", e.Beside))
	}
}

// quiet is for how long what happens in a container of Docker is left to Docker: it changes a default route in two steps.
const quiet = 100 * time.Millisecond

// settler hears of what Docker does with containers' ends: one that is put into its namespace is looked at at once, and what
// else may have changed there a moment later. Nothing is polled.
func (d *daemonState) settler(ctx context.Context) {
	var later <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.moved:
			_ = d.call(ctx, func(ctx context.Context) {
				if d.config != nil && d.named {
					d.settleHanded(ctx)
				}
			})
		case <-d.inherited:
			d.inherit(ctx)
		case <-d.rerouted:
			if later == nil {
				later = time.After(quiet)
			}
		case <-later:
			later = nil
			d.pokes.Whole()
		}
	}
}

// mayHaveMoved is told of every event in a namespace that is no known workload's. Any goroutine may call it.
func (d *daemonState) mayHaveMoved() {
	if d.host.core.Unsettled() {
		d.moved.Set()
	}
}

// namer asks Docker whose the endpoints are, which it does not say when it makes them. It must not be asked within a call of
// its own, which it holds locks for.
func (d *daemonState) namer(ctx context.Context) {
	client := docker.Open(docker.Socket)
	defer client.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.unnamed:
			d.names(ctx, client, func(e store.Endpoint) bool { return e.Name == "" })
		case <-d.renamed:
			d.names(ctx, client, func(store.Endpoint) bool { return true })
		}
	}
}

// names asks for the names of those containers of Docker's that which chooses.
func (d *daemonState) names(ctx context.Context, client *docker.Client, which func(store.Endpoint) bool) {
	networks := map[string][]string{} // endpoints, by Docker's network
	_ = d.call(ctx, func(context.Context) {
		for _, e := range d.host.core.All() {
			if id, ok := strings.CutPrefix(string(e.ID), "docker/"); ok && which(e) {
				networks[e.Group] = append(networks[e.Group], id)
			}
		}
	})
	for network, ids := range networks {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		found, err := client.Endpoints(ask, network)
		cancel()
		if err != nil {
			d.log.Debug("names of containers", zap.Error(err))
			continue
		}
		_ = d.call(ctx, func(context.Context) {
			for _, id := range ids {
				if c, ok := found[id]; ok {
					if e, _ := d.host.core.Known(object.Place("docker/" + id)); e.Name != "" && e.Name != c.Name {
						d.pokes.Whole() // what is wanted says for whom
					}
					if err := d.host.core.Name(object.Place("docker/"+id), c.ID, c.Name); err != nil {
						d.log.Warn("names of containers", zap.Error(err))
					}
				}
			}
		})
	}
}

// renamer hears of containers that get another name. What was renamed while nobody listened is asked for when Docker listens.
func (d *daemonState) renamer(ctx context.Context) {
	client := docker.Open(docker.Socket)
	defer client.Close()
	for {
		err := client.Events(ctx, []string{"rename"}, d.renamed.Set, func(docker.Event) { d.renamed.Set() })
		d.log.Debug("events of Docker", zap.Error(err))
		select {
		case <-ctx.Done():
			return
		case <-time.After(10 * time.Second):
		}
	}
}

// reviver starts, once the daemon can serve Docker, the containers that Docker gave up on while it could not: those whose
// policy is to run always, that are on a network of netd's, and whose last start failed. One that was stopped by hand has no
// failure.
func (d *daemonState) reviver(ctx context.Context) {
	for able := false; !able; {
		select {
		case <-ctx.Done():
			return
		case <-d.able:
			_ = d.call(ctx, func(context.Context) { _, err := d.site(); able = err == nil })
		}
	}
	client := docker.Open(docker.Socket)
	defer client.Close()
	ids, err := client.Stopped(ctx)
	if err != nil {
		d.log.Debug("containers that Docker gave up on", zap.Error(err)) // it is not there: it will find the plugin when it is
		return
	}
	ours := map[string]bool{} // Docker's networks
	for _, id := range ids {
		c, err := client.Inspect(ctx, id)
		if policy := c.HostConfig.RestartPolicy.Name; err != nil || c.State.Running || c.State.Error == "" || policy != "always" && policy != "unless-stopped" {
			continue
		}
		on := false
		for name := range c.NetworkSettings.Networks {
			if _, known := ours[name]; !known {
				n, err := client.InspectNetwork(ctx, name)
				ours[name] = err == nil && n.Driver == "netd"
			}
			on = on || ours[name]
		}
		if !on {
			continue
		}
		fields := []zap.Field{zap.String("container", strings.TrimPrefix(c.Name, "/")), zap.String("cause", c.State.Error)}
		if err := client.Start(ctx, id); err != nil {
			d.log.Error("a container that Docker gave up on is not started", append(fields, zap.Error(err))...)
			continue
		}
		d.log.Info("started a container that Docker gave up on", fields...)
	}
}

// servePlugin serves Docker on the socket that systemd hands over, else on the one at path. It serves nobody where there is
// neither.
func (d *daemonState) servePlugin(path string) (*http.Server, error) {
	l, err := pluginListener(path)
	if err != nil {
		return nil, fmt.Errorf("serving Docker: %w", err)
	}
	if l == nil {
		return nil, nil
	}
	d.log.Info("serving Docker", zap.String("socket", l.Addr().String()))
	plugin := docker.Plugin{Attacher: pluginAttacher{d}}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		plugin.ServeHTTP(w, r)
		if afterCall != nil {
			afterCall(strings.TrimPrefix(r.URL.Path, "/"))
		}
	})
	s := &http.Server{Handler: rootOnly(h), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, ConnContext: withPeer}
	go func() { _ = s.Serve(l) }()
	return s, nil
}

// Tests that kill netd between what a call of Docker's does and its answer set this.
var afterCall func(method string)

func pluginListener(path string) (net.Listener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	for _, l := range given {
		if l != nil {
			return l, nil
		}
	}
	if path == "" {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // Docker waits for a socket that does not answer, and forgets one that is not there
	return l, nil
}

// pluginAttacher is what the plugin does its work by: the daemon's loop.
type pluginAttacher struct{ d *daemonState }

// young is how long after its start a daemon has Docker wait for it, rather than refuse. Docker itself gives up after 30 s.
const young = 15 * time.Second

// ready waits until the host was read for the first time.
func (p pluginAttacher) ready(ctx context.Context) (workload.Site, error) {
	for {
		var site workload.Site
		var err error
		if cerr := p.d.call(ctx, func(context.Context) { site, err = p.d.site() }); cerr != nil {
			return site, cerr
		}
		if err == nil || time.Since(p.d.since) > young || p.d.host.db.Resting() {
			return site, err
		}
		select {
		case <-ctx.Done():
			return site, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// on runs f on the loop's goroutine, with the configuration in force.
func (p pluginAttacher) on(ctx context.Context, f func(context.Context, workload.Site) error) error {
	if _, err := p.ready(ctx); err != nil {
		return err
	}
	var err error
	cerr := p.d.call(ctx, func(ctx context.Context) {
		var site workload.Site
		if site, err = p.d.site(); err == nil {
			err = f(ctx, site)
		}
	})
	return errors.Join(err, cerr)
}

// Begin takes away what a dockerd that died has begun. That it cannot keeps no other from beginning.
func (p pluginAttacher) Begin(ctx context.Context) error {
	return p.d.call(ctx, func(ctx context.Context) {
		if err := p.d.host.core.Unjoined(ctx); err != nil {
			p.d.log.Error("endpoints that Docker never used", zap.Error(err))
		}
	})
}

// Pool implements docker.Attacher, as do the methods that follow.
func (p pluginAttacher) Pool(ctx context.Context, network string, pool netip.Prefix, v6 bool) (name string, err error) {
	err = p.on(ctx, func(_ context.Context, s workload.Site) (err error) {
		name, err = s.Pool(network, pool, v6)
		return err
	})
	return name, err
}

func (p pluginAttacher) Promise(ctx context.Context, network string, in netip.Prefix, wanted netip.Addr) (a netip.Addr, err error) {
	err = p.on(ctx, func(ctx context.Context, s workload.Site) (err error) {
		a, err = p.d.host.core.Promise(ctx, s, network, in, wanted)
		return err
	})
	return a, err
}

func (p pluginAttacher) Unpromise(ctx context.Context, a netip.Addr) error {
	return p.d.call(ctx, func(context.Context) { p.d.host.core.Unpromise(a) })
}

func (p pluginAttacher) Attach(ctx context.Context, r workload.Request) (store.Endpoint, error) {
	if _, err := p.ready(ctx); err != nil {
		return store.Endpoint{}, err
	}
	return p.d.attachments.Attach(ctx, r)
}

func (p pluginAttacher) Detach(ctx context.Context, ids ...object.Place) error {
	return p.d.attachments.Detach(ctx, ids...)
}

func (p pluginAttacher) Known(ctx context.Context) ([]store.Endpoint, error) {
	return p.d.attachments.Known(ctx)
}
