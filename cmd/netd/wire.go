package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/workload"
)

// Wire implements workload.Host by a narrow pass over the endpoints' resources.
func (h *host) Wire(ctx context.Context, s workload.Site, es []object.Endpoint) []error {
	errs := make([]error, len(es))
	var want reconcile.Want
	of := map[reconcile.Key]int{}
	for i, e := range es {
		one, err := h.attached(s, e)
		if err != nil {
			errs[i] = err
			continue
		}
		h.kernel.SetEndpoint(e)
		for k, r := range one.State {
			want.Put(r, one.Because(k), one.Stands[k]...)
			of[k] = i
		}
	}
	if h.wired != nil { // before the kernel tells of it: news of what is not wanted ask for a look at everything
		h.wired(want)
	}
	if err := h.narrow(ctx, want, of, errs); err != nil {
		for i := range errs {
			errs[i] = errors.Join(errs[i], err)
		}
	}
	return errs
}

// attached is what an endpoint adds to the desired state.
func (h *host) attached(s workload.Site, e object.Endpoint) (reconcile.Want, error) {
	return desired.Attached(s.Config, s.Node, desired.Facts{Host: h.facts}, e)
}

// narrow leads the places of a few endpoints to what is wanted there. of says whose each place is.
func (h *host) narrow(ctx context.Context, want reconcile.Want, of map[reconcile.Key]int, errs []error) error {
	keys := make([]reconcile.Key, 0, len(of))
	for k := range of {
		keys = append(keys, k)
	}
	defer h.kernel.Together()()
	p, err := h.engine.PlanAt(ctx, &want, keys, nil, nil)
	if err != nil {
		return err
	}
	for _, c := range p.Conflicts {
		i := of[c.Key]
		errs[i] = errors.Join(errs[i], fmt.Errorf("%s stands in the place of %s, of %s; netd leaves it alone", c.What, c.Key, c.Who))
	}
	if h.lock != nil && len(p.Changes) > 0 {
		release, err := h.lock()
		if err != nil {
			return err
		}
		defer release()
	}
	h.engine.Apply(ctx, p.Plan, func(e reconcile.Event) {
		if e.Err != nil && !e.Skipped {
			i := of[e.Change.Key]
			errs[i] = errors.Join(errs[i], fmt.Errorf("%s %s: %w", e.Change.Op, e.Change.Key, e.Err))
		}
	})
	return nil
}

// Unwire implements workload.Host. The link takes all along that stands on it.
func (h *host) Unwire(ctx context.Context, es []object.Endpoint) []error {
	errs := make([]error, len(es))
	of := map[reconcile.Key]int{}
	for i, e := range es {
		for _, k := range desired.Traces(e) {
			of[k] = i
		}
	}
	err := h.narrow(ctx, reconcile.Want{}, of, errs)
	if h.unwired != nil { // when the kernel has told of it
		h.unwired(es)
	}
	if err != nil {
		for i := range errs {
			errs[i] = errors.Join(errs[i], err)
		}
		return errs
	}
	for _, e := range es {
		h.kernel.DropEndpoint(e.ID)
	}
	return errs
}

// Flush implements workload.Host.
func (h *host) Flush(addrs []netip.Addr) error { return kernel.FlushConntrack(addrs) }

// Check implements workload.Host.
func (h *host) Check(ctx context.Context, s workload.Site, e object.Endpoint) error {
	want, err := h.attached(s, e)
	if err != nil {
		return err
	}
	h.kernel.SetEndpoint(e)
	p, err := h.engine.PlanAt(ctx, &want, want.State.Keys(), nil, nil)
	if err != nil {
		return err
	}
	if p.Empty() {
		return nil
	}
	return fmt.Errorf("the host differs: %s", firstOf(p.Plan))
}

// firstOf is one line of a plan, and how many more it has.
func firstOf(p reconcile.Plan) string {
	if len(p.Changes) == 0 {
		c := p.Conflicts[0]
		return fmt.Sprintf("%s stands in the place of %s, of %s", c.What, c.Key, c.Who)
	}
	c := p.Changes[0]
	text := fmt.Sprintf("%s is missing", c.Key)
	if c.Have != nil && c.Want != nil {
		text = fmt.Sprintf("%s: %s", c.Key, reconcile.Difference(c.Have, c.Want))
	}
	if n := len(p.Changes) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}
