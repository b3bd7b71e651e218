package speaker

import (
	"context"
	"fmt"
	"net/netip"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile"
	"netd/reconcile/object"
)

// bgpKind is the router: there is one, or it is not started.
type bgpKind struct{ c *Client }

func (k bgpKind) Name() string { return object.KindBGP }

func (k bgpKind) List(ctx context.Context, _ []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	gobgp, err := k.c.gobgp()
	if err != nil {
		return nil, nil, err
	}
	r, err := gobgp.GetBgp(ctx, &api.GetBgpRequest{})
	if err != nil {
		return nil, nil, fmt.Errorf("reading the router: %w", err)
	}
	g := r.GetGlobal()
	if g.GetAsn() == 0 {
		return nil, nil, nil
	}
	policy, err := readPolicy(ctx, gobgp)
	if err != nil {
		return nil, nil, err
	}
	b := object.BGP{ASN: g.GetAsn(), Port: uint16(g.GetListenPort()), Multipath: g.GetUseMultiplePaths(), Refuse: policy.refuses}
	b.RouterID, _ = netip.ParseAddr(g.GetRouterId())
	if l := g.GetListenAddresses(); len(l) == 1 { // more than the one: an invalid address, which shows as a difference
		b.Listen, _ = netip.ParseAddr(l[0])
	}
	return []reconcile.Resource{b}, nil, nil
}

func (k bgpKind) Create(ctx context.Context, want reconcile.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	gobgp, err := k.c.gobgp()
	if err != nil {
		return err
	}
	b := want.(object.BGP)
	if _, err := gobgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: b.ASN, RouterId: b.RouterID.String(), ListenPort: int32(b.Port), ListenAddresses: []string{b.Listen.String()},
		Families: []uint32{0, 1}, UseMultiplePaths: b.Multipath, // IPv4 and IPv6 unicast: a table for each family that there is otherwise
	}}); err != nil {
		return fmt.Errorf("starting the router on %s: %w", netip.AddrPortFrom(b.Listen, b.Port), err)
	}
	if !b.Refuse {
		return nil
	}
	return writePolicy(ctx, gobgp, nil)
}

// Update repairs the import policy: the only part of the router that can be changed while it runs.
func (k bgpKind) Update(ctx context.Context, have, want reconcile.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	gobgp, err := k.c.gobgp()
	if err != nil {
		return err
	}
	if !want.(object.BGP).Refuse {
		return fmt.Errorf("a router that takes what no neighbour may announce is not supported")
	}
	policy, err := readPolicy(ctx, gobgp)
	if err != nil {
		return err
	}
	if err := writePolicy(ctx, gobgp, policy.imports); err != nil {
		return err
	}
	return reconsider(ctx, gobgp, "all")
}

func (k bgpKind) Delete(ctx context.Context, _ reconcile.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	gobgp, err := k.c.gobgp()
	if err != nil {
		return err
	}
	if _, err := gobgp.StopBgp(ctx, &api.StopBgpRequest{}); err != nil {
		return fmt.Errorf("stopping the router: %w", err)
	}
	return nil
}
