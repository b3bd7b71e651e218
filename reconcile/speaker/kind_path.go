package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile"
	"netd/reconcile/object"
)

// pathKind is what this host announces.
type pathKind struct{ c *Client }

func (k pathKind) Name() string { return object.KindPath }

// List asks for the prefixes that are wanted and for those that the speaker says are its own. Reading the whole table to
// find a handful of own paths in it would cost more than a second at 100,000 prefixes.
func (k pathKind) List(ctx context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	k.c.reads.Lock()
	defer k.c.reads.Unlock()
	r, err := k.c.reading(ctx)
	if err != nil {
		return nil, nil, err
	}
	if g, err := r.global(ctx); err != nil || g == nil {
		return nil, nil, err // not started: there is no table
	}
	local, err := k.c.local(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the announced prefixes: %w", err)
	}
	peers, err := r.neighbours(ctx, k.c.secrets.Fingerprint)
	if err != nil {
		return nil, nil, err
	}
	known := map[string]string{markOf(object.ToNodes): object.ToNodes} // whom a mark may stand for
	for _, p := range peers {
		to := p.Addr.WithZone("").String()
		known[markOf(to)] = to
	}
	at := map[netip.Prefix]bool{}
	for _, w := range want {
		p := w.(object.Path)
		at[p.Prefix] = true
		for _, to := range strings.Fields(p.To) {
			known[markOf(to)] = to
		}
	}
	for _, p := range local {
		at[p] = true
	}
	paths, err := r.own(ctx, at)
	if err != nil {
		return nil, nil, err
	}
	own := make([]reconcile.Resource, 0, len(paths))
	for _, p := range paths {
		if p.marks != nil {
			p.To = toOf(p.marks, known)
		}
		own = append(own, p.Path)
	}
	return own, nil, nil
}

func (k pathKind) Create(ctx context.Context, want reconcile.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	gobgp, err := k.c.gobgp()
	if err != nil {
		return err
	}
	p, err := apiPath(want.(object.Path))
	if err != nil {
		return fmt.Errorf("announcing: %w", err)
	}
	if _, err := gobgp.AddPath(ctx, &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: p}); err != nil {
		return fmt.Errorf("announcing: %w", err)
	}
	return nil
}

// Update announces anew, which replaces what was announced of that prefix.
func (k pathKind) Update(ctx context.Context, _, want reconcile.Resource) error {
	return k.Create(ctx, want)
}

func (k pathKind) Delete(ctx context.Context, have reconcile.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	gobgp, err := k.c.gobgp()
	if err != nil {
		return err
	}
	gone := have.(object.Path)
	gone.To = "" // what is read back of marks of nobody known is no list of names
	p, err := apiPath(gone)
	if err != nil {
		return fmt.Errorf("withdrawing: %w", err)
	}
	if _, err := gobgp.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Family: p.GetFamily(), Path: p}); err != nil {
		return fmt.Errorf("withdrawing: %w", err)
	}
	return nil
}
