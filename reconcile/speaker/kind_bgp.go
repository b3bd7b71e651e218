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

// bgpKind is the router: there is one, or it is not started.
type bgpKind struct{ c *Client }

func (k bgpKind) Name() string { return object.KindBGP }

func (k bgpKind) List(ctx context.Context, _ []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	k.c.reads.Lock()
	defer k.c.reads.Unlock()
	r, err := k.c.reading(ctx)
	if err != nil {
		return nil, nil, err
	}
	g, err := r.global(ctx)
	if err != nil || g == nil {
		return nil, nil, err
	}
	policy, err := r.policy(ctx)
	if err != nil {
		return nil, nil, err
	}
	b := object.BGP{ASN: g.GetAsn(), Port: uint16(g.GetListenPort()), Multipath: g.GetUseMultiplePaths(), Refuse: policy.refuses}
	b.RouterID, _ = netip.ParseAddr(g.GetRouterId())
	b.Listen = listenText(g.GetListenAddresses())
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
	if b.Listen == "" {
		return fmt.Errorf("starting the router: no address to listen on") // gobgp would listen on all
	}
	if _, err := gobgp.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: b.ASN, RouterId: b.RouterID.String(), ListenPort: int32(b.Port), ListenAddresses: strings.Fields(b.Listen),
		Families: []uint32{0, 1}, UseMultiplePaths: b.Multipath, // IPv4 and IPv6 unicast: a table for each family that there is otherwise
	}}); err != nil {
		return fmt.Errorf("starting the router on %s port %d: %w", b.Listen, b.Port, err)
	}
	if !b.Refuse {
		return nil
	}
	return writePolicies(ctx, gobgp, nil)
}

// listenText is a list of addresses in canonical form; one that cannot be read shows as a difference.
func listenText(list []string) string {
	addrs, err := object.ParseAddrList(strings.Join(list, " "))
	if err != nil {
		return printable(strings.Join(list, " "))
	}
	return object.AddrList(addrs)
}

// Update repairs the policies: the only part of the router that can be changed while it runs.
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
	policy, err := readPolicies(ctx, gobgp)
	if err != nil {
		return err
	}
	if err := writePolicies(ctx, gobgp, policy.of); err != nil {
		return err
	}
	if err := reconsider(ctx, gobgp, "all"); err != nil {
		return err
	}
	return tellAgain(ctx, gobgp, "all")
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
