package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// Publish also has a look at who else may have the ports: what is translated would never get to them.
func (p pluginAttacher) Publish(ctx context.Context, id object.Place, ports []object.Port) error {
	return p.on(ctx, func(ctx context.Context, s workload.Site) error {
		began := time.Now()
		was, _ := p.d.host.core.Known(id)
		if slices.Equal(was.Ports, ports) {
			return nil
		}
		var listens func(object.Port) string
		if len(ports) > 0 {
			listens = desired.Listening(s.Config, s.Node, desired.Facts{Host: p.d.host.facts})
		}
		for _, port := range ports {
			if slices.Contains(was.Ports, port) {
				continue
			}
			if what := listens(port); what != "" {
				return fmt.Errorf("-p %s: netd itself listens at that port of this host, for %s; publish another one", port, what)
			}
			if err := vacant(port); err != nil {
				return err
			}
		}
		if err := p.d.host.core.Publish(ctx, id, ports); err != nil {
			return err
		}
		is, _ := p.d.host.core.Known(id)
		c, err := p.d.host.published(s, was.Object(), is.Object(), slices.ContainsFunc(p.d.host.core.All(), func(o store.Endpoint) bool { return o.ID != id && len(o.Ports) > 0 }))
		if err != nil {
			return err
		}
		left, err := p.d.publish(ctx, c)
		if err == nil && len(left) == 0 {
			p.d.log.Info("published", zap.String("workload", string(id)), zap.Strings("ports", texts(ports)), zap.Duration("took", time.Since(began)))
			return nil
		}
		// Whatever it is that a look at these places alone does not put right.
		passed := p.d.loop.Whole(ctx, "published ports")
		if left, err := p.d.host.engine.PlanAt(ctx, &c.want, c.keys, nil, nil); err != nil || len(left.Changes) > 0 {
			return errors.Join(fmt.Errorf("the ports of %s are not published yet; netd goes on trying", id), err, passed)
		}
		return nil
	})
}

func texts(ports []object.Port) (out []string) {
	for _, p := range ports {
		out = append(out, p.String())
	}
	return out
}

// publication is what a change of a container's published ports changes on the host.
type publication struct {
	want reconcile.Want  // what is wanted otherwise than before
	gone []reconcile.Key // what is wanted no more
	keys []reconcile.Key // where anything changes
}

// published is what changes where an endpoint publishes other ports than it did. others says that it is not alone in publishing.
func (h *host) published(s workload.Site, was, is object.Endpoint, others bool) (c publication, err error) {
	base, err := desired.Published(s.Config, s.Node, desired.Facts{Host: h.facts})
	if err != nil {
		return c, err
	}
	of := func(e object.Endpoint) (reconcile.Want, error) {
		want, err := h.attached(s, e)
		for k, r := range base.State {
			if len(e.Ports) > 0 {
				want.Put(r, base.Because(k), base.Stands[k]...)
			}
		}
		return want, err
	}
	before, err := of(was)
	if err != nil {
		return c, err
	}
	after, err := of(is)
	if err != nil {
		return c, err
	}
	stays := func(k reconcile.Key) bool { _, common := base.State[k]; return common && others }
	for k, r := range after.State {
		if before.State[k] != r {
			c.want.Put(r, after.Because(k), after.Stands[k]...)
			if !stays(k) {
				c.keys = append(c.keys, k)
			}
		}
	}
	for k := range before.State {
		if _, there := after.State[k]; !there && !stays(k) {
			c.gone = append(c.gone, k)
		}
	}
	c.keys = append(c.keys, c.gone...)
	return c, nil
}

// publish carries a publication out by a narrow pass, and returns what of it is still to be done.
func (d *daemonState) publish(ctx context.Context, c publication) (left []reconcile.Change, err error) {
	d.loop.Merge(c.want)
	d.loop.Drop(c.gone)
	of, errs := map[reconcile.Key]int{}, make([]error, 1)
	for _, k := range c.keys {
		of[k] = 0
	}
	if err := d.host.narrow(ctx, c.want, of, errs); err != nil || errs[0] != nil {
		return nil, errors.Join(err, errs[0])
	}
	n, err := d.host.engine.PlanAt(ctx, &c.want, c.keys, nil, nil)
	return n.Changes, err
}

// vacant is an error where a socket of this host has a port.
func vacant(p object.Port) error {
	at, family := netip.AddrPortFrom(p.At, p.On).String(), "4" // without it 0.0.0.0 is of both to the library
	switch {
	case !p.At.IsValid():
		at, family = fmt.Sprintf(":%d", p.On), ""
	case p.At.Is6():
		family = "6"
	}
	var held io.Closer
	var err error
	if p.Proto == "udp" {
		held, err = net.ListenPacket("udp"+family, at)
	} else {
		held, err = net.Listen("tcp"+family, at)
	}
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("-p %s: this host has no address %s", p, p.At)
	case err != nil:
		return fmt.Errorf("-p %s: %w", p, err)
	}
	return held.Close()
}

// inherit has a container's ports published by the endpoint that has its default route, where Docker does not say so: it knows of no
// gateway by one that came second, and has the ports of the first taken back when that leaves.
func (d *daemonState) inherit(ctx context.Context) {
	var es []store.Endpoint
	_ = d.call(ctx, func(context.Context) { es = d.host.core.All() })
	for _, e := range es {
		if !e.Second {
			continue
		}
		ports := e.Asked
		if e.Beside {
			ports = nil
		}
		if err := (pluginAttacher{d}).Publish(ctx, e.ID, ports); err != nil {
			d.log.Error("ports of a container whose default route is another network's now", zap.String("workload", string(e.ID)), zap.Error(err))
		}
	}
}

// Leave takes back first what is published still: Docker says so before, but not twice where it got no answer.
func (p pluginAttacher) Leave(ctx context.Context, id object.Place) (err error) {
	published := false
	if err := p.d.call(ctx, func(context.Context) {
		e, _ := p.d.host.core.Known(id)
		published = len(e.Ports) > 0
	}); err != nil {
		return err
	}
	if published {
		if err := p.Publish(ctx, id, nil); err != nil {
			p.d.log.Warn("ports of a container that leaves; the next pass takes them away", zap.String("workload", string(id)), zap.Error(err))
		}
	}
	cerr := p.d.call(ctx, func(context.Context) {
		was, _ := p.d.host.core.Known(id)
		err = p.d.host.core.Leave(id)
		if slices.ContainsFunc(p.d.host.core.All(), func(o store.Endpoint) bool { return was.Netns != "" && o.Netns == was.Netns }) {
			time.AfterFunc(quiet, p.d.rerouted.Set) // when Docker has taken the end out, of which nothing is told
		}
	})
	return errors.Join(err, cerr)
}
