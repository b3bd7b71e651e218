package speaker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/types/known/anypb"

	"netd/reconcile/object"
)

// Table is one of a router's tables (RFC 4271 §3.2).
type Table string

const (
	AdjIn  Table = "received"   // what a neighbour told, before any policy
	AdjOut Table = "advertised" // what a neighbour is told, after all policies
	LocRIB Table = "table"      // what was taken, of all neighbours and of this host's own
)

// Route is a path with its attributes, as a table holds it.
type Route struct {
	Prefix      netip.Prefix `json:"prefix"`
	NextHop     netip.Addr   `json:"next_hop"`
	Peer        netip.Addr   `json:"peer,omitzero"` // who told it; invalid: this host itself
	Best        bool         `json:"best"`          // of its prefix; several are where there is multipath
	Stale       bool         `json:"stale,omitempty"`
	ASPath      []uint32     `json:"as_path"`
	Origin      string       `json:"origin"`
	LocalPref   *uint32      `json:"local_pref,omitempty"`
	MED         *uint32      `json:"med,omitempty"`
	Communities []string     `json:"communities,omitempty"`
	Originator  string       `json:"originator,omitempty"` // RFC 4456: whom a reflector had it from
	Clusters    []string     `json:"clusters,omitempty"`   // and by which reflectors it came
	ToldTo      []string     `json:"told_to,omitempty"`    // of one of this host's own in LocRIB: object.ToNodes, neighbours' addresses
	Since       time.Time    `json:"since"`

	firstAS uint32
	marks   []*api.LargeCommunity // of one of this host's own: they leave with nobody, and mean nothing to anyone else
}

// Routes reads a table, of one neighbour where it is one's, in the order of prefixes.
//
// gobgp can mark which paths of AdjIn its policy refuses, but to do so it writes what the policy made of them into the
// table that it was asked for. Whoever wants to know compares with LocRIB, which has what was taken and nothing else.
func (c *Client) Routes(ctx context.Context, t Table, of netip.Addr) ([]Route, error) {
	c.mu.Lock()
	most := c.most
	c.mu.Unlock()
	var out []Route
	err := c.walk(ctx, t, of, func(r Route) error {
		if out = append(out, r); len(out) > most {
			return excess("a table of more than %d paths", most)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(out, func(a, b Route) int { return a.Prefix.Compare(b.Prefix) })
	if t == LocRIB {
		c.markBest(out)
	}
	return out, nil
}

// markBest says of routes which are the best. gobgp says so of one to each prefix, also where there are several (ListPath in its pkg/server/server.go
// asks whether they are equal, and so of one neighbour). Its answer stays where the speaker is not followed.
func (c *Client) markBest(routes []Route) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.view.known {
		return
	}
	for i, r := range routes {
		routes[i].Best = slices.ContainsFunc(c.view.paths[r.Prefix].list(), func(h hop) bool {
			return h.nextHop == r.NextHop && h.peer.WithZone("") == r.Peer.WithZone("")
		})
	}
}

// Told gives what a neighbour told to take, at most so many routes of each family, in no order.
func (c *Client) Told(ctx context.Context, by netip.Addr, most int, take func(Route)) error {
	for _, f := range unicast {
		n := 0
		err := c.walkFamily(ctx, AdjIn, by, f, func(r Route) error {
			if n++; n > most {
				return io.EOF
			}
			take(r)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

var unicast = []*api.Family{ipv4, ipv6}

// walk goes through a table, in no order.
func (c *Client) walk(ctx context.Context, t Table, of netip.Addr, take func(Route) error) error {
	for _, f := range unicast {
		if err := c.walkFamily(ctx, t, of, f, take); err != nil {
			return err
		}
	}
	return nil
}

// againMost is how many prefixes one request names. gobgp takes none of more than 4 MB, gRPC's limit where a server sets none: 89,000 of the longest.
const againMost = 1 << 16

// walkFamily ends without an error where take says io.EOF.
func (c *Client) walkFamily(ctx context.Context, t Table, of netip.Addr, family *api.Family, take func(Route) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the stream where enough was taken
	defer cancel()
	gobgp, err := c.gobgp()
	if err != nil {
		return err
	}
	req := &api.ListPathRequest{TableType: api.TableType_GLOBAL, Family: family}
	switch t {
	case AdjIn:
		req.TableType, req.Name = api.TableType_ADJ_IN, of.String()
	case AdjOut:
		req.TableType, req.Name = api.TableType_ADJ_OUT, of.String()
	}
	c.mu.Lock()
	zoned, known := c.view.zones(), map[string]string{markOf(object.ToNodes): object.ToNodes}
	for a := range c.view.neighbours {
		to := a.WithZone("").String()
		known[markOf(to)] = to
	}
	c.mu.Unlock()
	var again []*api.TableLookupPrefix
	list := func(paths func(*api.Destination) []*api.Path) error {
		stream, err := gobgp.ListPath(ctx, req)
		if err != nil {
			return err
		}
		return each(stream, tableMost, func(r *api.ListPathResponse) error {
			for _, p := range paths(r.GetDestination()) {
				route, err := routeOf(p)
				if err != nil {
					return err
				}
				if a, ok := zoned[route.Peer]; ok {
					route.Peer = a
				}
				for _, m := range route.marks {
					if to := known[largeText(m)]; to != "" { // else of one who is no neighbour any more
						route.ToldTo = append(route.ToldTo, to)
					}
				}
				slices.Sort(route.ToldTo)
				if err := take(route); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = list(func(d *api.Destination) []*api.Path {
		if slices.ContainsFunc(d.GetPaths(), untold) {
			again = append(again, &api.TableLookupPrefix{Prefix: d.GetPrefix()})
			return nil
		}
		return d.GetPaths()
	})
	req.EnableAttributeBinary = true
	for some := range slices.Chunk(again, againMost) {
		if err != nil {
			break
		}
		req.Prefixes = some
		err = list(func(d *api.Destination) []*api.Path {
			for _, p := range d.GetPaths() {
				if untold(p) {
					p.Pattrs = attributesOf(p.GetPattrsBinary())
				}
			}
			return d.GetPaths()
		})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		if t == LocRIB {
			return fmt.Errorf("reading the BGP table: %w", started(err))
		}
		return fmt.Errorf("reading the %s routes of %s: %w", t, of, started(err))
	}
	return nil
}

// ErrNotStarted is the error where a speaker runs that has not been given a router yet, in the first moment after its start.
var ErrNotStarted = errors.New("the speaker has no router yet")

// started finds that error in what gobgp says (BgpServer.active in its pkg/server/server.go).
func started(err error) error {
	if strings.Contains(err.Error(), "bgp server hasn't started yet") {
		return ErrNotStarted
	}
	return err
}

func routeOf(p *api.Path) (Route, error) {
	prefix, h, err := readPath(p)
	if err != nil {
		return Route{}, err
	}
	r := Route{Prefix: prefix, NextHop: h.nextHop, Peer: h.peer, Best: p.GetBest(), Stale: p.GetStale(), ASPath: []uint32{}, Since: p.GetAge().AsTime(), firstAS: h.firstAS}
	for _, a := range p.GetPattrs() {
		if err := r.attribute(a); err != nil {
			return r, fmt.Errorf("reading the attributes of %s: %w", prefix, err)
		}
	}
	return r, nil
}

// attribute takes one of a path's attributes; those that nobody asks for are left out.
func (r *Route) attribute(a *anypb.Any) error {
	m, err := a.UnmarshalNew()
	if err != nil {
		return err
	}
	switch m := m.(type) {
	case *api.OriginAttribute:
		r.Origin = [...]string{"igp", "egp", "incomplete"}[min(m.GetOrigin(), 2)]
	case *api.AsPathAttribute:
		for _, s := range m.GetSegments() {
			r.ASPath = append(r.ASPath, s.GetNumbers()...)
		}
	case *api.LocalPrefAttribute:
		n := m.GetLocalPref()
		r.LocalPref = &n
	case *api.MultiExitDiscAttribute:
		n := m.GetMed()
		r.MED = &n
	case *api.CommunitiesAttribute:
		for _, c := range m.GetCommunities() {
			r.Communities = append(r.Communities, fmt.Sprintf("%d:%d", c>>16, c&0xffff))
		}
	case *api.LargeCommunitiesAttribute:
		for _, c := range m.GetCommunities() {
			switch {
			case largeText(c) == markOf(byOutside):
				continue
			case c.GetGlobalAdmin() == 0 && !r.Peer.IsValid():
				r.marks = append(r.marks, c)
				continue
			}
			r.Communities = append(r.Communities, largeText(c))
		}
	case *api.OriginatorIdAttribute:
		r.Originator = printable(m.GetId())
	case *api.ClusterListAttribute:
		for _, id := range m.GetIds() {
			r.Clusters = append(r.Clusters, printable(id))
		}
	}
	return nil
}

// BestPath is the path as the desired state takes it.
func (r Route) BestPath() object.BestPath {
	return object.BestPath{Prefix: r.Prefix, NextHop: r.NextHop, Peer: r.Peer, FirstAS: r.firstAS}
}

// Attributes are a route's in one line, without what is as always.
func (r Route) Attributes() string {
	var words []string
	add := func(format string, args ...any) { words = append(words, fmt.Sprintf(format, args...)) }
	if len(r.ASPath) > 0 {
		path := make([]string, len(r.ASPath))
		for i, as := range r.ASPath {
			path[i] = strconv.FormatUint(uint64(as), 10)
		}
		add("path %s", strings.Join(path, " "))
	}
	if r.LocalPref != nil && *r.LocalPref != 100 {
		add("local pref %d", *r.LocalPref)
	}
	if r.MED != nil {
		add("med %d", *r.MED)
	}
	if r.Origin != "igp" {
		add("origin %s", r.Origin)
	}
	if len(r.Communities) > 0 {
		names := make([]string, len(r.Communities))
		for i, c := range r.Communities {
			names[i] = cmp.Or(wellKnownNames[c], c)
		}
		add("communities %s", strings.Join(names, " "))
	}
	if r.Originator != "" {
		add("originator %s", r.Originator)
	}
	if len(r.Clusters) > 0 {
		add("clusters %s", strings.Join(r.Clusters, " "))
	}
	if r.Stale {
		add("stale")
	}
	return strings.Join(words, ", ")
}

// Counts are how many prefixes a neighbour told and is told.
type Counts struct {
	Received   int `json:"received"`
	Loops      int `json:"loops"` // of those: what gobgp refuses since this host is its originator, which takes no other's place
	Advertised int `json:"advertised"`
}

// Counts asks for those of all neighbours.
func (c *Client) Counts(ctx context.Context) (map[netip.Addr]Counts, error) {
	return c.counts(ctx, true)
}

// Received is Counts without what neighbours are told, which costs gobgp a walk through the whole table.
func (c *Client) Received(ctx context.Context) (map[netip.Addr]Counts, error) {
	return c.counts(ctx, false)
}

func (c *Client) counts(ctx context.Context, advertised bool) (map[netip.Addr]Counts, error) {
	gobgp, err := c.gobgp()
	if err != nil {
		return nil, err
	}
	stream, err := gobgp.ListPeer(ctx, &api.ListPeerRequest{EnableAdvertised: advertised})
	if err != nil {
		return nil, fmt.Errorf("counting the neighbours' prefixes: %w", err)
	}
	peers, err := collect(stream, (*api.ListPeerResponse).GetPeer)
	if err != nil {
		return nil, fmt.Errorf("counting the neighbours' prefixes: %w", err)
	}
	out := make(map[netip.Addr]Counts, len(peers))
	for _, p := range peers {
		addr, err := netip.ParseAddr(p.GetConf().GetNeighborAddress())
		if err != nil {
			continue
		}
		var n Counts
		for _, f := range p.GetAfiSafis() {
			n.Received += int(f.GetState().GetReceived())
			n.Loops += int(f.GetState().GetReceived()) - int(f.GetState().GetAccepted())
			n.Advertised += int(f.GetState().GetAdvertised())
			if restarts(p) && f.GetState().GetAdvertised() > 0 {
				n.Advertised-- // gobgp counts the End-of-RIB that it sent
			}
		}
		out[addr] = n
	}
	return out, nil
}

// restarts reports whether both ends of a session agreed to restart gracefully.
func restarts(p *api.Peer) bool {
	return p.GetGracefulRestart().GetEnabled() && slices.ContainsFunc(p.GetState().GetRemoteCap(), func(c *anypb.Any) bool {
		return c.MessageIs((*api.GracefulRestartCapability)(nil))
	})
}
