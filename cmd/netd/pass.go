package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/workload"
)

// compile is the loop's question what is wanted. It runs on the loop's goroutine.
func (d *daemonState) compile(ctx context.Context) (reconcile.Want, bool, error) {
	d.learning, d.facts = nil, nil
	if d.host.db.Resting() {
		d.set(func(s *statusView) { s.Resting = true })
		return reconcile.Want{}, false, nil
	}
	if d.homeless != nil {
		d.accept(ctx, *d.homeless)
	}
	if d.config == nil {
		return reconcile.Want{}, false, nil
	}
	if !d.named {
		n, warning, err := d.host.identify(ctx, d.config, d.a.node)
		if err != nil {
			return reconcile.Want{}, false, err
		}
		d.node, d.named = n, true
		if warning != "" {
			d.log.Warn(warning)
		}
		d.set(func(s *statusView) { s.Node = n.Name })
	}
	d.bgp(ctx)
	d.finish(ctx)
	d.settleHanded(ctx)
	now, err := d.host.compile(ctx, d.config, d.node)
	if err != nil {
		return reconcile.Want{}, false, err
	}
	d.sweep(ctx, now.gone)
	made := applied(d.config, d.node, now.facts.Endpoints)
	made.Short = d.host.short
	if was := d.host.db.Applied(); !slices.Equal(made.Workloads, d.ids) || was.Digest != made.Digest || was.Short != made.Short {
		if err := d.host.db.SetApplied(made); err != nil {
			return reconcile.Want{}, false, err
		}
		d.ids = made.Workloads
	}
	netns := watchedFor(d.config, d.node)
	d.mu.Lock()
	if !slices.Equal(d.netns, netns) { // what happened there before they are watched, the watch tells
		d.netns = netns
		d.otherNetns.Set()
	}
	d.mu.Unlock()
	d.set(func(s *statusView) {
		s.Resting, s.Pending, s.Notes, s.LinksDown, s.Unread, s.Config = false, now.pending, now.notes, now.down, now.unread, d.config.Digest
		s.Networks = nil
		for _, n := range d.config.Networks {
			s.Networks = append(s.Networks, networkView{n.Name, n.Mode})
		}
	})
	if slices.ContainsFunc(now.pending, func(p workload.Pending) bool { return p.Soon }) {
		time.AfterFunc(20*time.Millisecond, d.pokes.Whole) // the bind mount comes some milliseconds after the file
	}
	d.learning = now.learning
	if len(now.pending) == 0 { // else a link that goes may make room
		d.facts = &now.facts.Host
	}
	return now.want, true, nil
}

// holds is the loop's question whether what is wanted is so still, for all that the host's facts tell. It runs on the loop's
// goroutine.
func (d *daemonState) holds(ctx context.Context) bool {
	if d.facts == nil || d.homeless != nil { // a configuration that waits for the host
		return false
	}
	now, err := d.host.kernel.HostBesidesRoutes(ctx)
	now.Lately = d.host.lately.names(time.Now())
	return err == nil && desired.Same(d.node, *d.facts, now)
}

// report is what the loop tells of each pass.
func (d *daemonState) report(r reconcile.Report) {
	trouble, none := d.failures.tell(d.log, r)
	if d.failures.unsettled(r) {
		d.log.Debug("not as it was set; looked at again", zap.Error(r.Err))
		none = true
	}
	if r.Whole {
		d.host.short = r.Err != nil
	}
	d.slack.Changed(len(r.Events))
	var made reconcile.Counts
	each := d.log.Core().Enabled(zapcore.DebugLevel)
	for _, e := range r.Events {
		var fields []zap.Field
		if e.Err == nil && (each || e.Change.Drift) { // of a large table that costs as much as the pass
			fields = []zap.Field{zap.String("op", e.Change.Op.String()), zap.String("kind", e.Change.Key.Kind), zap.String("name", e.Change.Key.Name),
				zap.String("text", e.Change.Text()), zap.String("cause", e.Change.Because.Text), zap.Duration("took", e.Took)}
		}
		switch {
		case e.Err != nil: // failures.tell
		case e.Change.Drift:
			fields = append(fields, zap.String("differed", reconcile.Difference(e.Change.Have, e.Change.Want)))
			if e.By != "" {
				fields = append(fields, zap.String("by", e.By))
			}
			d.log.Info("repaired", fields...)
		default:
			if each {
				d.log.Debug("done", fields...)
			}
			made.Count(e.Change.Op)
		}
	}
	if made != (reconcile.Counts{}) {
		d.log.Info("converged", zap.String("cause", r.Why), zap.Int("added", made.Add), zap.Int("changed", made.Change), zap.Int("destroyed", made.Destroy), zap.Duration("took", r.Took))
	}
	text := ""
	switch {
	case r.Err != nil && none:
	case r.Err != nil && trouble != "":
		text = trouble
	case r.Err != nil:
		text = r.Err.Error()
	case r.Whole:
		d.able.Set()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := &d.status
	if text != "" && text != s.Error && trouble == "" {
		d.log.Error("pass", zap.String("cause", text))
	}
	if r.Whole || text != "" { // that a few places are well says nothing of what failed elsewhere
		s.Error = text
	}
	s.Conflicts, s.Contested, s.LastPass, s.Took = r.Conflicts, r.Contested, time.Now(), r.Took.Seconds()
	s.Repairs = append(s.Repairs, repairs(r.Events, time.Now())...)
	if n := len(s.Repairs); n > 10 {
		s.Repairs = slices.Clone(s.Repairs[n-10:])
	}
}

// waits reports whether this host has no place in the configuration for want of its address. It runs on the loop's goroutine.
func (d *daemonState) waits(err error) bool {
	return d.homeless != nil && !d.named || errors.Is(err, desired.ErrNoAddress)
}

func (d *daemonState) set(change func(*statusView)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.status)
}
