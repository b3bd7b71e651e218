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
	known, err := markNames(ctx, gobgp)
	if err != nil {
		return nil, nil, err
	}
	look := map[*api.Family][]*api.TableLookupPrefix{}
	add := func(p netip.Prefix) {
		if !at[p] {
			at[p] = true
			f := familyOf(p.Addr())
			look[f] = append(look[f], &api.TableLookupPrefix{Prefix: p.String()})
		}
	}
	for _, w := range want {
		p := w.(object.Path)
		add(p.Prefix)
		for _, to := range strings.Fields(p.To) {
			known[markOf(to)] = to
		}
	}
	for _, p := range local {
		add(p)
	}
	var own []reconcile.Resource
	for family, prefixes := range look { // no prefixes would mean all
		stream, err := gobgp.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: family, Prefixes: prefixes})
		if err != nil {
			return nil, nil, fmt.Errorf("reading the announced prefixes: %w", err)
		}
		found, err := collect(stream, (*api.ListPathResponse).GetDestination)
		if err != nil {
			return nil, nil, fmt.Errorf("reading the announced prefixes: %w", err)
		}
		for _, d := range found {
			for _, p := range d.GetPaths() {
				if _, err := netip.ParseAddr(p.GetNeighborIp()); err == nil { // "<nil>" for one of this host's own
					continue
				}
				path, err := pathOf(p, known)
				if err != nil {
					return nil, nil, legible(err)
				}
				own = append(own, path)
			}
		}
	}
	return own, nil, nil
}

// markNames are those whom a mark may stand for: the nodes, and each neighbour that there is.
func markNames(ctx context.Context, gobgp api.GobgpApiClient) (map[string]string, error) {
	stream, err := gobgp.ListPeer(ctx, &api.ListPeerRequest{})
	if err != nil {
		return nil, fmt.Errorf("reading the neighbours: %w", err)
	}
	peers, err := collect(stream, (*api.ListPeerResponse).GetPeer)
	if err != nil {
		return nil, fmt.Errorf("reading the neighbours: %w", err)
	}
	known := map[string]string{markOf(object.ToNodes): object.ToNodes}
	for _, p := range peers {
		if addr, err := netip.ParseAddr(p.GetConf().GetNeighborAddress()); err == nil {
			to := addr.WithZone("").String()
			known[markOf(to)] = to
		}
	}
	return known, nil
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
