package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
	"netd/reconcile/store"
)

// planner plans and applies on this host: through the daemon where one runs, by itself where none does.
type planner interface {
	plan(ctx context.Context, path string) (planView, error)
	apply(ctx context.Context, path, id string, show func(planView)) (applyView, error)
	planDestroy(ctx context.Context) (planView, error)
	destroy(ctx context.Context, id string, show func(planView)) (applyView, error)
	state(ctx context.Context) (stateView, error)
}

// planner finds out which.
func (a *app) planner(ctx context.Context) (planner, error) {
	c, err := a.dialDaemon(ctx)
	if err != nil {
		return nil, err
	}
	if c != nil {
		return remote{a, c}, nil
	}
	return local{a}, nil
}

// local works on the kernel itself.
type local struct{ a *app }

func (l local) open(path string, readOnly bool) (*host, *config.Source, *config.Config, error) {
	src, c, err := l.a.load(path)
	if err != nil {
		return nil, nil, nil, err
	}
	if err := refuse(c); err != nil {
		return nil, nil, nil, err
	}
	h, err := l.a.openHost(readOnly)
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
	node, warning, err := h.identify(ctx, c, l.a.node)
	if err != nil {
		return planView{}, c, err
	}
	_, _, v, err := h.plan(ctx, c, node)
	if warning != "" {
		v.Notes = append(v.Notes, warning)
	}
	return v, c, err
}

func (l local) apply(ctx context.Context, path, id string, show func(planView)) (applyView, error) {
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
	node, _, err := h.identify(ctx, c, l.a.node)
	if err != nil {
		return applyView{}, err
	}
	if err := refusePasswords(c, node); err != nil {
		return applyView{}, err
	}
	return h.apply(ctx, c, node, id, show, func() error { return keep(h.db, src) })
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
	_ = h.lastWant(ctx)
	_, v, err := h.planDestroy(ctx)
	return v, err
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

func (l local) destroy(ctx context.Context, id string, show func(planView)) (applyView, error) {
	lock, err := store.TakeLock(l.a.runDir, "lock", "destroy")
	if err != nil {
		return applyView{}, err
	}
	defer lock.Release()
	h, err := l.a.openHost(false)
	if err != nil {
		return applyView{}, err
	}
	defer h.close()
	_ = h.lastWant(ctx)
	note, err := speaker.Open(speaker.StartOptions{RunDir: l.a.runDir}.Dir(), speaker.Secrets{}).Stop(ctx)
	if err != nil {
		return applyView{}, err
	}
	out, err := h.destroy(ctx, id, show)
	out.Note = note
	return out, err
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
		if w, ok := want.State[k]; ok && w == r && want.Why[k].Text != "" {
			v.Because[k.String()] = want.Why[k].Text
		}
	}
	v.Resources, err = json.Marshal(have.Own)
	return v, err
}

func (a *app) planCmd() *cobra.Command {
	var detailed, asJSON, offline bool
	var against string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do on this host, and why",
		Long: `Show what apply would do on this host, in the order in which it would be done, each line with its cause. Nothing is
changed. With --offline, plan any node of the file from anywhere: against an empty host, or against a host's saved
"netd show state --json".

Exits 0; 1 where something foreign stands in the way; with --detailed-exitcode 2 where there are changes.`,
		Example: "  netd plan\n  netd plan -c draft.hcl --detailed-exitcode\n  netd plan --node web-017 --offline\n  netd plan --node web-017 --offline --against web-017.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var v planView
			var err error
			switch {
			case offline || against != "":
				v, err = a.planOffline(against)
			default:
				var p planner
				if p, err = a.planner(cmd.Context()); err == nil {
					v, err = p.plan(cmd.Context(), a.config)
				}
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(a.out, v); err != nil {
					return err
				}
			} else {
				v.write(a.out, a.colored(a.out))
			}
			switch {
			case len(v.Conflicts) > 0:
				return &exit{code: exitFailed}
			case detailed && len(v.Changes) > 0:
				return &exit{code: exitChanges}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&detailed, "detailed-exitcode", false, "exit 2 where there are changes")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&offline, "offline", false, "plan --node from anywhere, without a kernel")
	f.StringVar(&against, "against", "", "a saved `STATE.json` to plan against")
	return cmd
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

// planOffline plans a node without its host.
func (a *app) planOffline(against string) (planView, error) {
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
		notes = append(notes, "offline: the underlay's MTU is taken to be 1500, all workloads to run")
		facts.Host = object.Host{Name: node.Name, IPv6: true, DefaultLinks: []string{link},
			Links: []object.HostLink{{Name: link, Index: 2, MTU: 1500, Up: true, Addrs: []netip.Prefix{node.Address, node.Address6}}}}
	} else {
		b, err := os.ReadFile(against)
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

// kindOrder is the order of kernel.Kinds.
var kindOrder = []string{object.KindNft, object.KindAccept, object.KindLink, object.KindSysctl, object.KindAddr, object.KindNexthop, object.KindNeigh, object.KindFDB, object.KindRoute}

func (a *app) applyCmd() *cobra.Command {
	var yes, asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the host match the configuration",
		Long: `Show the plan, ask, carry it out once, and read everything back. Where a daemon runs it does the work; where none runs,
apply does it by itself under the host's lock.

Exits 0; 1 where something failed or a foreign object stood in the way; 64 where nobody can be asked and -y is not given;
75 where someone else holds the lock.`,
		Example: "  netd apply\n  netd apply -y\n  netd apply -y --json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s (--timeout) are over", timeout))
				defer cancel()
			}
			p, err := a.planner(ctx)
			if err != nil {
				return err
			}
			return a.carryOut(yes, asJSON, "Apply complete",
				func() (planView, error) { return p.plan(ctx, a.config) },
				func(id string, show func(planView)) (applyView, error) { return p.apply(ctx, a.config, id, show) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.DurationVar(&timeout, "timeout", 0, "give up after this time")
	return cmd
}

func (a *app) destroyCmd() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Remove everything netd made, and nothing else",
		Long: `Remove everything netd made on this host, and nothing else: links, routes, addresses and rules of its own go, settings go
back to what they were before. Needs no valid file. A daemon does it, and rests afterwards until the next apply.`,
		Example: "  netd destroy\n  netd destroy -y",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.planner(cmd.Context())
			if err != nil {
				return err
			}
			return a.carryOut(yes, asJSON, "Destroyed",
				func() (planView, error) { return p.planDestroy(cmd.Context()) },
				func(id string, show func(planView)) (applyView, error) { return p.destroy(cmd.Context(), id, show) })
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// carryOut shows a plan, asks, and has it done. With -y the plan that is shown is the one that is being done.
func (a *app) carryOut(yes, asJSON bool, verb string, plan func() (planView, error), do func(id string, show func(planView)) (applyView, error)) error {
	show := func(v planView) {
		if !asJSON {
			v.write(a.out, a.colored(a.out))
		}
	}
	var agreed planView
	if !yes {
		v, err := plan()
		if err != nil {
			return err
		}
		show(v)
		show, agreed = nil, v
		if len(v.Changes) > 0 {
			if !isTerminal(a.in) {
				return fail(exitUsage, "there is no terminal to ask at: give -y to carry the plan out")
			}
			fmt.Fprint(a.talk, "\nCarry this out? [y/N] ")
			answer, _ := bufio.NewReader(a.in).ReadString('\n')
			if s := strings.ToLower(strings.TrimSpace(answer)); s != "y" && s != "yes" {
				fmt.Fprintln(a.talk, "Nothing was changed.")
				return &exit{code: exitFailed}
			}
		}
	}
	out, err := do(agreed.ID, show)
	if err != nil {
		return err
	}
	if out.Stale {
		return fail(exitFailed, "the plan is stale and nothing was done; look at it again. Since it was shown this changed:\n  %s",
			strings.Join(out.Plan.since(agreed), "\n  "))
	}
	if asJSON {
		if err := printJSON(a.out, out); err != nil {
			return err
		}
	} else {
		out.write(a.out, verb)
	}
	for _, e := range out.Errors {
		fmt.Fprintf(a.talk, "netd: %s\n", e)
	}
	if len(out.Errors) > 0 || len(out.Plan.Conflicts) > 0 {
		return &exit{code: exitFailed}
	}
	return nil
}
