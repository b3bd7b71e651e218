package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// planOffline plans a node without its host.
func (a *app) planOffline(ctx context.Context, against string) (planView, error) {
	if a.node == "" {
		return planView{}, fail(exitUsage, "--offline needs --node: which node of the file is to be planned")
	}
	_, c, err := a.load(a.config)
	if err != nil {
		return planView{}, err
	}
	if err := refuse(c); err != nil {
		return planView{}, err
	}
	node, ok := c.Node(a.node)
	if !ok {
		_, _, err := c.Identify(a.node, config.Local{})
		return planView{}, &exit{exitConfig, err}
	}
	var notes []string
	facts := desired.Facts{}
	have := reconcile.State{}
	var texts map[reconcile.Key]string
	if against == "" {
		link := node.Interface
		if link == "" {
			link = "(underlay)"
			held := node.Address
			if !held.IsValid() {
				held = node.Address6
			}
			notes = append(notes, "offline: the link that holds "+held.String()+" is shown as (underlay)")
		}
		notes = append(notes, "offline: the MTU of "+link+" is taken to be 1500")
		if slices.ContainsFunc(c.Workloads, func(w config.Workload) bool { return w.Node == node.Name }) {
			notes = append(notes, "offline: all declared workloads are taken to run")
		}
		facts.Host = object.Host{Name: node.Name, IPv6: true, DefaultLinks: []string{link},
			Links: []object.HostLink{{Name: link, Index: 2, MTU: 1500, Up: true, Addrs: []netip.Prefix{node.Address, node.Address6}}}}
	} else {
		b, err := a.readAgainst(ctx, against)
		if err != nil {
			return planView{}, fail(exitUsage, "--against: %w", err)
		}
		var saved stateView
		if err := json.Unmarshal(b, &saved); err != nil {
			return planView{}, fail(exitUsage, "--against %s: it is not what netd show state --json prints: %w", against, err)
		}
		if saved.SchemaVersion != 1 {
			return planView{}, fail(exitUsage, "--against %s: schema_version %d; this netd knows 1", against, saved.SchemaVersion)
		}
		if have, texts, err = readRecorded(saved.Resources); err != nil {
			return planView{}, fail(exitUsage, "--against %s: %w", against, err)
		}
		facts.Host = saved.Facts
	}
	for _, w := range c.Workloads {
		if w.Node == node.Name {
			e := desired.EndpointOf(w)
			e.Netns = w.Netns + w.Docker + w.Containerd // it runs, wherever that is
			facts.Endpoints = append(facts.Endpoints, e)
		}
	}
	r, err := desired.Compile(c, node, facts)
	if err != nil {
		return planView{}, err
	}
	p, err := diffRecorded(r.Want, have, texts)
	if err != nil {
		return planView{}, err
	}
	v := newPlanView(c, node.Name, p)
	v.Notes = append(append(v.Notes, notes...), r.Notes...)
	for _, err := range checkPasswords(c, node.Name) {
		v.Notes = append(v.Notes, "offline: "+err.Error())
	}
	if usesBGP(c) {
		v.Notes = append(v.Notes, "mode bgp: sessions and the routes that they bring are not part of an offline plan")
	}
	return v, nil
}

// readAgainst reads a saved state, from a pipe too.
func (a *app) readAgainst(ctx context.Context, name string) ([]byte, error) {
	defer a.waiting(name)()
	b, err := patiently(ctx, func() ([]byte, error) { return os.ReadFile(name) })
	if ctx.Err() != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	return b, err
}

// patiently reads what may never come: an interrupt ends the wait.
func patiently[T any](ctx context.Context, read func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result, 1)
	go func() {
		v, err := read()
		done <- result{v, err}
	}()
	select {
	case r := <-done:
		return r.v, r.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// recorded is a resource as a saved state has it: its key and its fields as text.
type recorded struct {
	key    reconcile.Key
	fields string // JSON
}

func (r recorded) Key() reconcile.Key        { return r.key }
func (r recorded) Requires() []reconcile.Key { return nil }

func (r recorded) Fields() []reconcile.Field {
	var out []reconcile.Field
	d := json.NewDecoder(strings.NewReader(r.fields))
	_, _ = d.Token()
	for d.More() {
		name, _ := d.Token()
		value, _ := d.Token()
		n, _ := name.(string)
		v, _ := value.(string)
		out = append(out, reconcile.Field{Name: n, Value: v})
	}
	return out
}

// diffRecorded diffs what is wanted against a saved state: both as recorded, the changes with the wanted resources
// themselves.
func diffRecorded(want reconcile.Want, have reconcile.State, texts map[reconcile.Key]string) (reconcile.Plan, error) {
	b, err := json.Marshal(want.State)
	if err != nil {
		return reconcile.Plan{}, err
	}
	as := want
	if as.State, _, err = readRecorded(b); err != nil {
		return reconcile.Plan{}, err
	}
	as.Stands = map[reconcile.Key][]reconcile.Key{}
	for k, r := range want.State {
		as.Stands[k] = append(slices.Clone(want.Stands[k]), r.Requires()...)
	}
	p := reconcile.Diff(as, reconcile.Have{Own: have}, kindOrder, nil)
	for i, c := range p.Changes {
		if c.Want != nil {
			p.Changes[i].Want = want.State[c.Key]
		}
		if h, ok := c.Have.(recorded); ok && texts[c.Key] != "" {
			p.Changes[i].Have = described{h, texts[c.Key]}
		}
	}
	return p, nil
}

// described is a recorded resource with the words that its host had for it.
type described struct {
	recorded
	text string
}

func (d described) Summary() string { return d.text }

// readRecorded reads a saved state: its resources, and each one's words.
func readRecorded(b []byte) (reconcile.State, map[reconcile.Key]string, error) {
	var list []struct {
		Kind   string          `json:"kind"`
		Name   string          `json:"name"`
		Fields json.RawMessage `json:"fields"`
		Text   string          `json:"text"`
	}
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, nil, err
	}
	out, texts := make(reconcile.State, len(list)), make(map[reconcile.Key]string, len(list))
	for _, x := range list {
		var fields bytes.Buffer // saved states are indented
		if err := json.Compact(&fields, x.Fields); err != nil {
			return nil, nil, err
		}
		k := reconcile.Key{Kind: x.Kind, Name: x.Name}
		out[k], texts[k] = recorded{k, fields.String()}, x.Text
	}
	return out, texts, nil
}

// kindOrder is the order of kernel.Kinds.
var kindOrder = []string{object.KindNft, object.KindAccept, object.KindLink, object.KindSysctl, object.KindAddr, object.KindNexthop, object.KindNeigh, object.KindFDB, object.KindRoute}
