package main

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
)

// A file is read and parsed on the goroutine of who asks for it (the watch, reload, apply), which may take seconds, and only
// then given to the loop, which owns the configuration. reading is held from before the read until the loop has taken it, so
// that what was read later is never replaced by what was read before.

// again is how long a file that is refused is left alone: what is wrong may be what it refers to, or a disk that is full, and
// nothing tells of those.
const again = 10 * time.Second

// follow reads the file whenever it changes.
func (d *daemonState) follow(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.fileChanged:
		}
		_ = d.reread(ctx, func(context.Context) { d.pokes.Add(reconcile.Poke{Wanted: true}) })
	}
}

// reread reads the file and has the loop accept or refuse it; then is called on the loop's goroutine.
func (d *daemonState) reread(ctx context.Context, then func(context.Context)) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	r := d.read(ctx)
	if ctx.Err() != nil { // that it was not parsed to its end says nothing of the file
		return context.Cause(ctx)
	}
	return d.call(ctx, func(ctx context.Context) {
		d.accept(ctx, r)
		then(ctx)
	})
}

// reading is a configuration as read, or why it is none.
type reading struct {
	src *config.Source
	c   *config.Config
	err error
}

// read reads the file. One that holds what it held is not parsed again, unless it was refused.
func (d *daemonState) read(ctx context.Context) reading {
	src, err := d.a.read(d.a.config)
	if err == nil && d.last.err == nil && d.last.src != nil && src.Same(d.last.src) {
		return d.last
	}
	d.last = reading{err: err}
	if err == nil {
		d.last.src = src
		if d.last.c, d.last.err = d.a.parseApart(ctx, src); d.last.err == nil {
			d.last.err = refuse(d.last.c)
		}
	}
	return d.last
}

// accept takes a configuration if it is good and this host is in it; else what was good last stays. One that has no place for
// this host yet is tried again with every whole pass: the node's address may come. It runs on the loop's goroutine.
func (d *daemonState) accept(ctx context.Context, r reading) {
	d.homeless = nil
	if d.host.db.Resting() { // apply reads it anew
		return
	}
	err := r.err
	if err == nil {
		err = d.settle(ctx, r)
	}
	d.refusal = err
	if d.retry != nil {
		d.retry.Stop()
	}
	if err == nil {
		d.set(func(s *statusView) { s.ConfigError = "" })
		return
	}
	if e := new(exit); !errors.As(err, &e) {
		d.refusal = &exit{exitConfig, err}
	}
	d.retry = time.AfterFunc(again, d.fileChanged.Set)
	if d.config == nil {
		d.fallBack(ctx)
	}
	known := false
	d.set(func(s *statusView) { known, s.ConfigError = s.ConfigError == err.Error(), err.Error() })
	if !known {
		if text := err.Error(); d.a.logFormat == "console" && strings.Contains(text, "\n") { // a field's lines would be one, escaped
			d.log.Error("configuration\n" + strings.TrimRight(text, "\n"))
		} else {
			d.log.Error("configuration", zap.String("cause", text))
		}
	}
}

func (d *daemonState) settle(ctx context.Context, r reading) error {
	node, ok := r.c.Node(d.node.Name)
	if d.named && !ok {
		return d.gone(d.a.config)
	}
	if !d.named {
		var err error
		if node, _, err = d.host.identify(ctx, r.c, d.a.node); err != nil {
			d.homeless = &r
			return err
		}
	}
	if d.config != nil && d.config.Digest == r.c.Digest && d.source.Path == r.src.Path {
		return nil
	}
	if err := d.harmless(ctx, r, node); err != nil {
		return err
	}
	if d.named {
		d.node = node
	}
	b, err := r.src.Marshal()
	if err != nil {
		return err
	}
	if err := d.host.db.SetGood(b); err != nil {
		return &exit{exitFailed, err} // the file is good
	}
	d.take(r.src, r.c)
	d.log.Info("configuration taken", zap.String("config", r.c.Digest[:7]))
	return nil
}

// harmless refuses a configuration that cuts others off on this host. One that cannot be planned yet is tried again later, since
// it would be carried out then; not the first on a host, which has nothing to lose.
func (d *daemonState) harmless(ctx context.Context, r reading, node config.Node) error {
	applied := d.host.db.Applied()
	if applied.Digest == r.c.Digest {
		return nil
	}
	if was, ready := d.loop.Wanted(); ready && slices.Equal(applied.Blocks, node.Blocks) {
		now, err := d.host.compile(ctx, r.c, node)
		if err == nil && !desired.MayHarm(was.State, now.want.State) {
			return nil
		}
	}
	_, _, v, err := d.host.plan(ctx, r.c, node)
	switch {
	case err == nil && (agreement{}).refuses(v):
		return refused(v)
	case err != nil && applied.Digest != "":
		d.homeless = &r
		return err
	}
	return nil
}

func (d *daemonState) take(src *config.Source, c *config.Config) {
	d.source, d.config = src, c
	d.mu.Lock()
	defer d.mu.Unlock()
	paths := src.Watch()
	if !slices.Contains(paths, d.a.config) {
		paths = append(paths, d.a.config)
	}
	paths = append(paths, desired.PasswordFiles(c, "")...) // one that changes restarts its sessions alone
	if !slices.Equal(d.paths, paths) {
		d.paths = paths
		d.otherPaths.Set()
	}
}

// fallBack takes the last good configuration.
func (d *daemonState) fallBack(ctx context.Context) {
	b, err := d.host.db.Good()
	if err != nil {
		return
	}
	src, err := config.Unmarshal(b)
	if err != nil {
		d.log.Error("the last good configuration", zap.Error(err))
		return
	}
	c, err := d.a.parseApart(ctx, src)
	if err != nil {
		d.log.Error("the last good configuration", zap.Error(err))
		return
	}
	d.take(src, c)
	d.log.Warn("the last good configuration is in force", zap.String("config", c.Digest[:7]))
}

// parseApart has a process of its own parse what was read for a daemon, which takes over the configuration that comes of it:
// what the parser cannot survive kills that process alone, and no text of a file reaches a parser in the one that writes to the
// kernel.
func (a *app) parseApart(ctx context.Context, src *config.Source) (*config.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, parseWait+time.Second) // its own watchdog says why, before
	defer cancel()
	marshalled, err := src.Marshal()
	if err != nil {
		return nil, err
	}
	var said bytes.Buffer
	child := exec.CommandContext(ctx, "/proc/self/exe", "validate", "--handed")
	child.Stdin, child.Stderr = bytes.NewReader(marshalled), &said
	parsed, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	c, broken := src.Take(parsed)
	if broken != nil {
		_ = parsed.Close() // it may have more to say than is read
	}
	if err := child.Wait(); err != nil {
		text := strings.TrimSpace(said.String())
		if len(text) > 4096 {
			text = text[:4096] + "…"
		}
		if text == "" {
			text = err.Error()
		}
		return nil, &exit{exitConfig, errors.New(text)}
	}
	return c, broken
}
