package speaker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"

	"netd/reconcile/object"
)

// The import policy, one for all neighbours, since gobgp knows per-neighbour ones for route servers only:
//
//	own                      a path of this host's own is taken (a default of "reject" rejects these too)
//	netd 192.168.170.138     from that neighbour, a prefix of the set of that name, with that next hop, is taken
//	…
//	                         anything else is rejected (RFC 8212)
//
// It is applied before the best path is chosen, so that a neighbour that announces what is another's hides nothing.
const (
	policyName   = "netd"
	ownStatement = "netd own"
	globalTable  = "global"
)

// importPolicy is the policy as it was read.
type importPolicy struct {
	imports map[netip.Addr]string // object.PrefixList by neighbour
	refuses bool                  // it is as above, whatever imports are; else someone opened it
}

func statementName(a netip.Addr) string { return "netd " + a.String() }

func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// writePolicy replaces the whole policy in one step. A neighbour without imports has no statement: gobgp takes an empty
// set to match everything.
func writePolicy(ctx context.Context, gobgp api.GobgpApiClient, imports map[netip.Addr]string) error {
	policy := &api.Policy{Name: policyName, Statements: []*api.Statement{{
		Name:       ownStatement,
		Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
		Actions:    &api.Actions{RouteAction: api.RouteAction_ACCEPT},
	}}}
	var sets []*api.DefinedSet
	addrs := make([]netip.Addr, 0, len(imports))
	for a := range imports {
		addrs = append(addrs, a)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	for _, a := range addrs {
		prefixes, err := object.ParsePrefixList(imports[a])
		if err != nil {
			return fmt.Errorf("writing the import policy of %s: %w", a, err)
		}
		if len(prefixes) == 0 {
			continue
		}
		set := &api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: statementName(a)}
		for _, p := range prefixes {
			set.Prefixes = append(set.Prefixes, &api.Prefix{IpPrefix: p.String(), MaskLengthMin: uint32(p.Bits()), MaskLengthMax: uint32(p.Bits())})
		}
		sets = append(sets, set, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: statementName(a), List: []string{single(a)}})
		policy.Statements = append(policy.Statements, &api.Statement{
			Name: statementName(a),
			Conditions: &api.Conditions{
				PrefixSet:     &api.MatchSet{Type: api.MatchSet_ANY, Name: statementName(a)},
				NeighborSet:   &api.MatchSet{Type: api.MatchSet_ANY, Name: statementName(a)},
				NextHopInList: []string{single(a)},
			},
			Actions: &api.Actions{RouteAction: api.RouteAction_ACCEPT},
		})
	}
	if _, err := gobgp.SetPolicies(ctx, &api.SetPoliciesRequest{DefinedSets: sets, Policies: []*api.Policy{policy}}); err != nil {
		return fmt.Errorf("writing the import policy: %w", err)
	}
	// SetPolicies keeps the assignment where it can, and opens everything where it cannot.
	if _, err := gobgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: globalTable, Direction: api.PolicyDirection_IMPORT, Policies: []*api.Policy{{Name: policyName}}, DefaultAction: api.RouteAction_REJECT,
	}}); err != nil {
		return fmt.Errorf("writing the import policy: %w", err)
	}
	return nil
}

// readPolicy reads the policy back.
func readPolicy(ctx context.Context, gobgp api.GobgpApiClient) (importPolicy, error) {
	out := importPolicy{imports: map[netip.Addr]string{}}
	prefixes, err := definedSets(ctx, gobgp, api.DefinedType_PREFIX)
	if err != nil {
		return out, err
	}
	neighbours, err := definedSets(ctx, gobgp, api.DefinedType_NEIGHBOR)
	if err != nil {
		return out, err
	}
	stream, err := gobgp.ListPolicyAssignment(ctx, &api.ListPolicyAssignmentRequest{Name: globalTable, Direction: api.PolicyDirection_IMPORT})
	if err != nil {
		return out, fmt.Errorf("reading the import policy: %w", err)
	}
	assigned, err := collect(stream, (*api.ListPolicyAssignmentResponse).GetAssignment)
	if err != nil {
		return out, fmt.Errorf("reading the import policy: %w", err)
	}
	own := false
	for _, a := range assigned {
		out.refuses = a.GetDefaultAction() == api.RouteAction_REJECT && len(a.GetPolicies()) == 1 && a.GetPolicies()[0].GetName() == policyName
		for _, p := range a.GetPolicies() {
			for _, s := range p.GetStatements() {
				if s.GetName() == ownStatement && isOwn(s) {
					own = true
					continue
				}
				addr, list, ok := readStatement(s, prefixes, neighbours)
				if !ok {
					out.refuses = false
					continue
				}
				out.imports[addr] = list
			}
		}
	}
	out.refuses = out.refuses && own
	return out, nil
}

func isOwn(s *api.Statement) bool {
	c := s.GetConditions()
	return accepts(s) && c.GetRouteType() == api.Conditions_ROUTE_TYPE_LOCAL && c.GetPrefixSet() == nil && c.GetNeighborSet() == nil && len(c.GetNextHopInList()) == 0
}

func accepts(s *api.Statement) bool { return s.GetActions().GetRouteAction() == api.RouteAction_ACCEPT }

// readStatement reads a neighbour's statement; ok is false where it is not as writePolicy writes it.
func readStatement(s *api.Statement, prefixes, neighbours map[string]*api.DefinedSet) (addr netip.Addr, list string, ok bool) {
	name, found := strings.CutPrefix(s.GetName(), "netd ")
	if addr, err := netip.ParseAddr(name); found && err == nil {
		c := s.GetConditions()
		set, neighbour := prefixes[c.GetPrefixSet().GetName()], neighbours[c.GetNeighborSet().GetName()]
		if !accepts(s) || c.GetPrefixSet().GetType() != api.MatchSet_ANY || c.GetNeighborSet().GetType() != api.MatchSet_ANY ||
			!slices.Equal(neighbour.GetList(), []string{single(addr)}) || !slices.Equal(c.GetNextHopInList(), []string{single(addr)}) ||
			len(set.GetPrefixes()) == 0 {
			return addr, "", false
		}
		var exact []netip.Prefix
		for _, p := range set.GetPrefixes() {
			prefix, err := netip.ParsePrefix(p.GetIpPrefix())
			if err != nil || int(p.GetMaskLengthMin()) != prefix.Bits() || int(p.GetMaskLengthMax()) != prefix.Bits() {
				return addr, "", false
			}
			exact = append(exact, prefix)
		}
		return addr, object.PrefixList(exact), true
	}
	return netip.Addr{}, "", false
}

func definedSets(ctx context.Context, gobgp api.GobgpApiClient, t api.DefinedType) (map[string]*api.DefinedSet, error) {
	stream, err := gobgp.ListDefinedSet(ctx, &api.ListDefinedSetRequest{DefinedType: t})
	if err != nil {
		return nil, fmt.Errorf("reading the import policy: %w", err)
	}
	list, err := collect(stream, (*api.ListDefinedSetResponse).GetDefinedSet)
	if err != nil {
		return nil, fmt.Errorf("reading the import policy: %w", err)
	}
	byName := make(map[string]*api.DefinedSet, len(list))
	for _, s := range list {
		byName[s.GetName()] = s
	}
	return byName, nil
}

// reconsider has the paths of a neighbour, or of "all", go through the import policy again.
func reconsider(ctx context.Context, gobgp api.GobgpApiClient, peer string) error {
	if _, err := gobgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: peer, Soft: true, Direction: api.ResetPeerRequest_IN}); err != nil {
		return fmt.Errorf("applying the import policy to what was learned: %w", err)
	}
	return nil
}

// collect reads a stream to its end.
func collect[R, T any](stream grpc.ServerStreamingClient[R], get func(*R) T) ([]T, error) {
	var out []T
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, get(r))
	}
}
