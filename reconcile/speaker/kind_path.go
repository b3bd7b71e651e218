package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"

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
	gobgp, err := k.c.gobgp()
	if err != nil {
		return nil, nil, err
	}
	if r, err := gobgp.GetBgp(ctx, &api.GetBgpRequest{}); err != nil {
		return nil, nil, fmt.Errorf("reading the router: %w", err)
	} else if r.GetGlobal().GetAsn() == 0 {
		return nil, nil, nil // not started: there is no table
	}
	local, err := k.c.local(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the announced prefixes: %w", err)
	}
	at := map[netip.Prefix]bool{}
	var look []*api.TableLookupPrefix
	add := func(p netip.Prefix) {
		if !at[p] && p.Addr().Is4() {
			at[p] = true
			look = append(look, &api.TableLookupPrefix{Prefix: p.String()})
		}
	}
	for _, w := range want {
		add(w.(object.Path).Prefix)
	}
	for _, p := range local {
		add(p)
	}
	if len(look) == 0 {
		return nil, nil, nil // no prefixes would mean all
	}
	stream, err := gobgp.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: ipv4, Prefixes: look})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the announced prefixes: %w", err)
	}
	var own []reconcile.Resource
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return own, nil, nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading the announced prefixes: %w", err)
		}
		for _, p := range r.GetDestination().GetPaths() {
			prefix, h, err := readPath(p)
			if err != nil {
				return nil, nil, err
			}
			if !h.peer.IsValid() {
				own = append(own, object.Path{Prefix: prefix, NextHop: h.nextHop})
			}
		}
	}
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
	p, err := apiPath(have.(object.Path))
	if err != nil {
		return fmt.Errorf("withdrawing: %w", err)
	}
	if _, err := gobgp.DeletePath(ctx, &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Family: ipv4, Path: p}); err != nil {
		return fmt.Errorf("withdrawing: %w", err)
	}
	return nil
}
