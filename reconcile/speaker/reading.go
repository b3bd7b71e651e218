package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"time"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile/object"
)

// reading is what gobgp answered when it was asked what it is set to. One goroutine of gobgp's answers every request and takes
// every UPDATE, each in its turn: while a neighbour tells a large table a request waits for 800 prefixes, and a pass
// over everything makes some twenty of them. What it is set to changes by requests alone, all of which the speaker counts
// (sessions.changes). It tells the number at once, whatever its neighbours do, and while that is the same, so is the answer.
//
// It is asked for a part when that is needed first. Should gobgp change without a request after all, that is seen when the
// answers are old.
type reading struct {
	gobgp    api.GobgpApiClient
	instance string
	changes  uint64
	since    time.Time

	router   *api.Global
	peers    []object.Peer // without what the policies say
	policies *policies
	asked    map[netip.Prefix]bool // of which paths is this host's part
	paths    []ownPath
}

// believed is how long an answer holds at most.
const believed = 10 * time.Minute

// ownPath is a path of this host's own, before its marks are given names.
type ownPath struct {
	object.Path
	marks *api.LargeCommunitiesAttribute
}

// reading is the last one as long as it holds, else a new one without any part. c.reads is held.
func (c *Client) reading(ctx context.Context) (*reading, error) {
	l, err := c.link(ctx)
	if err != nil {
		return nil, err
	}
	l.close()
	h := l.hello
	gobgp, err := c.gobgp()
	if err != nil {
		return nil, err
	}
	if r := c.last; r != nil && h.Changes != 0 && r.changes == h.Changes && r.instance == h.Instance && time.Since(r.since) < believed {
		r.gobgp = gobgp
		return r, nil
	}
	c.last = &reading{gobgp: gobgp, instance: h.Instance, changes: h.Changes, since: time.Now()}
	return c.last, nil
}

// global is the router, nil where it is not started.
func (r *reading) global(ctx context.Context) (*api.Global, error) {
	if r.router == nil {
		got, err := r.gobgp.GetBgp(ctx, &api.GetBgpRequest{})
		if err != nil {
			return nil, fmt.Errorf("reading the router: %w", err)
		}
		r.router = got.GetGlobal()
	}
	if r.router.GetAsn() == 0 {
		return nil, nil
	}
	return r.router, nil
}

// neighbours are all, with passwords by their fingerprints.
func (r *reading) neighbours(ctx context.Context, fingerprint func(string) string) ([]object.Peer, error) {
	if r.peers != nil {
		return r.peers, nil
	}
	stream, err := r.gobgp.ListPeer(ctx, &api.ListPeerRequest{})
	if err != nil {
		return nil, fmt.Errorf("reading the neighbours: %w", err)
	}
	list, err := collect(stream, (*api.ListPeerResponse).GetPeer)
	if err != nil {
		return nil, fmt.Errorf("reading the neighbours: %w", err)
	}
	peers := make([]object.Peer, 0, len(list))
	for _, p := range list {
		peer, err := peerOf(p, fingerprint)
		if err != nil {
			return nil, err
		}
		peers = append(peers, peer)
	}
	r.peers = peers
	return peers, nil
}

func (r *reading) policy(ctx context.Context) (policies, error) {
	if r.policies == nil {
		p, err := readPolicies(ctx, r.gobgp)
		if err != nil {
			return p, err
		}
		r.policies = &p
	}
	return *r.policies, nil
}

// own are the paths of this host's own to prefixes.
func (r *reading) own(ctx context.Context, to map[netip.Prefix]bool) ([]ownPath, error) {
	if r.asked != nil && maps.Equal(r.asked, to) {
		return r.paths, nil
	}
	look := map[*api.Family][]*api.TableLookupPrefix{}
	for p := range to {
		f := familyOf(p.Addr())
		look[f] = append(look[f], &api.TableLookupPrefix{Prefix: p.String()})
	}
	var own []ownPath
	for family, prefixes := range look { // no prefixes would mean all
		stream, err := r.gobgp.ListPath(ctx, &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: family, Prefixes: prefixes})
		if err != nil {
			return nil, fmt.Errorf("reading the announced prefixes: %w", err)
		}
		found, err := collect(stream, (*api.ListPathResponse).GetDestination)
		if err != nil {
			return nil, fmt.Errorf("reading the announced prefixes: %w", err)
		}
		for _, d := range found {
			for _, p := range d.GetPaths() {
				if _, err := netip.ParseAddr(p.GetNeighborIp()); err == nil { // "<nil>" for one of this host's own
					continue
				}
				path, err := pathOf(p)
				if err != nil {
					return nil, legible(err)
				}
				own = append(own, path)
			}
		}
	}
	r.asked, r.paths = to, own
	return own, nil
}
