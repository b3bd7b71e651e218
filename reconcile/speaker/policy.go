package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile/object"
)

// Two policies, one each way, for all neighbours, since gobgp knows per-neighbour ones for route servers only. What a
// statement is about is in its name; the first that matches decides.
//
//	import  netd own                          a path of this host's own is taken (a default of "reject" rejects these too)
//	        netd came back                    one that has this host's AS in it is refused
//	        netd own cluster                  one that this reflector told a router of this AS itself
//	        netd 192.168.170.1 except         from that neighbour, a prefix of the set of that name is refused
//	        netd 192.168.170.1 import         another of this set is taken, if its next hop is in the list and its AS path right
//	        netd 192.168.170.1 drained        likewise where it asks to be left (RFC 8326), another AS's: it is preferred to nothing
//	        …                                 anything else is refused (RFC 8212)
//	export  netd nodes told                   nodes are told the own paths that are marked for nodes
//	        netd 192.168.170.1 told           that neighbour those that are marked for it, with its communities, prepends, next hop
//	        netd own stays                    no other path of this host's own is told to anyone
//	        netd well-known                   nor one that asks for it (RFC 1997: NO_ADVERTISE)
//	        netd outside stays                clients are not told what a router of this AS outside tells, which import marks
//	        netd reflected                    clients are told the blocks of other nodes, where this host reflects
//	        netd outside goes                 that mark is taken off
//	        netd no-export                    another AS is not told what asks for that (NO_EXPORT, NO_EXPORT_SUBCONFED)
//	        netd loops                        no way that leads through the neighbour's own AS is told
//	        netd 192.168.170.1 transit        that neighbour is told what others told, if the set has it
//	        …                                 nobody is told anything else: no transit (RFC 8212)
//
// Names end with " 6" in the statements for IPv6, since a set holds one family.
//
// The import policy is applied before the best path is chosen, so that a neighbour that announces what is another's hides
// nothing. Own paths are told by mark (mark.go), since gobgp does not withdraw what a stricter policy no longer lets out:
// a path that is announced anew with another mark it does withdraw. Nor does it withdraw what it told, once the way leads
// through the neighbour's own AS (isASLoop in its pkg/server/server.go): each such AS is replaced by this host's, and a policy
// does withdraw what has that twice. No path is learned that has it at all: that too is for a policy to refuse (ownASMost), since
// gobgp itself leaves what the neighbour told of the prefix before where it was.
const (
	importPolicy   = "netd"
	exportPolicy   = "netd export"
	ownStatement   = "netd own"
	ownStays       = "netd own stays"
	wellKnownNever = "netd well-known"
	noExport       = "netd no-export"
	drainedSet     = "netd drained"
	nodesTold      = "netd nodes told"
	nodesSet       = "netd nodes"
	outsideStays   = "netd outside stays"
	outsideGoes    = "netd outside goes"
	reflectedName  = "netd reflected"
	clientsSet     = "netd clients"
	loopsName      = "netd loops"
	cameBack       = "netd came back"
	ownCluster     = "netd own cluster"
	globalTable    = "global"
)

// policies are what the policies say of each neighbour: the part of object.Peer that is not gobgp's peer. Only those fields
// are set, and Addr.
type policies struct {
	of      map[netip.Addr]object.Peer
	refuses bool // they are as above, whatever they say of the neighbours; else someone opened them
}

// policyOf is the part of a neighbour that the policies hold.
func policyOf(p object.Peer) object.Peer {
	out := object.Peer{Addr: p.Addr, Import: p.Import, Except: p.Except, NextHops: p.NextHops, FirstAS: p.FirstAS, LocalPref: p.LocalPref, Outside: p.Outside, Reflected: p.Reflected,
		Transit: p.Transit, Self: p.Self, Self6: p.Self6, KeepNextHop: p.KeepNextHop, Communities: p.Communities, Prepend: p.Prepend}
	if p.Outside { // a node's is gobgp's alone
		out.Cluster = p.Cluster
	}
	out.UntellLoops = p.UntellLoops && p.Transit != "" // is of another AS, where that makes a difference
	return out
}

// withPolicy is a neighbour as gobgp has it together with what the policies say of it.
func withPolicy(p, policy object.Peer) object.Peer {
	p.Import, p.Except, p.NextHops, p.FirstAS, p.LocalPref = policy.Import, policy.Except, policy.NextHops, policy.FirstAS, policy.LocalPref
	p.Outside = policy.Outside
	p.Transit, p.Self, p.Self6, p.KeepNextHop = policy.Transit, policy.Self, policy.Self6, policy.KeepNextHop
	p.Communities, p.Prepend, p.Reflected = policy.Communities, policy.Prepend, policy.Reflected
	p.UntellLoops = p.UntellLoops && (policy.UntellLoops || p.Transit == "")
	return p
}

// policyText is both policies and their sets as gobgp's API has them.
type policyText struct {
	asn                  uint32 // this host's
	sets                 []*api.DefinedSet
	importing, exporting []*api.Statement
	nodes                []string         // neighbours that are nodes
	outside, transit     []*api.Statement // of exporting
	external             []string         // neighbours of another AS with a transit
	drains               bool             // someone is of another AS and may tell something
}

// writePolicies replaces both policies whole in one step.
func writePolicies(ctx context.Context, gobgp api.GobgpApiClient, of map[netip.Addr]object.Peer) error {
	g, err := gobgp.GetBgp(ctx, &api.GetBgpRequest{})
	if err != nil {
		return fmt.Errorf("writing the policies: %w", err)
	}
	text, err := compose(g.GetGlobal().GetAsn(), of)
	if err != nil {
		return fmt.Errorf("writing the policies: %w", err)
	}
	if _, err := gobgp.SetPolicies(ctx, &api.SetPoliciesRequest{DefinedSets: text.sets, Policies: []*api.Policy{
		{Name: importPolicy, Statements: text.importing}, {Name: exportPolicy, Statements: text.exporting},
	}}); err != nil {
		return fmt.Errorf("writing the policies: %w", err)
	}
	// SetPolicies keeps the assignment where it can, and opens everything where it cannot.
	for direction, name := range map[api.PolicyDirection]string{api.PolicyDirection_IMPORT: importPolicy, api.PolicyDirection_EXPORT: exportPolicy} {
		if _, err := gobgp.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: globalTable, Direction: direction, Policies: []*api.Policy{{Name: name}}, DefaultAction: api.RouteAction_REJECT,
		}}); err != nil {
			return fmt.Errorf("writing the policies: %w", err)
		}
	}
	return nil
}

// compose writes the policies down.
func compose(asn uint32, of map[netip.Addr]object.Peer) (*policyText, error) {
	t := &policyText{asn: asn}
	t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_AS_PATH, Name: cameBack, List: inPath(asn)})
	t.importing = []*api.Statement{{Name: ownStatement, Conditions: local(), Actions: act(api.RouteAction_ACCEPT)},
		{Name: cameBack, Conditions: &api.Conditions{AsPathSet: allOf(cameBack)}, Actions: act(api.RouteAction_REJECT)}}
	t.clusters(of)
	for _, addr := range slices.SortedFunc(maps.Keys(of), netip.Addr.Compare) {
		p := of[addr]
		if err := t.imports(p); err != nil {
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
		if err := t.exports(p); err != nil {
			return nil, fmt.Errorf("%s: %w", addr, err)
		}
	}
	if t.drains {
		t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, Name: drainedSet, List: []string{wellKnown["graceful-shutdown"]}})
	}
	if len(t.nodes) > 0 {
		t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: nodesSet, List: t.nodes}, markSet(nodesTold, object.ToNodes))
		t.exporting = append(t.exporting, &api.Statement{Name: nodesTold, Conditions: &api.Conditions{
			RouteType: api.Conditions_ROUTE_TYPE_LOCAL, NeighborSet: anyOf(nodesSet), LargeCommunitySet: anyOf(nodesTold),
		}, Actions: unmarked(act(api.RouteAction_ACCEPT))})
	}
	t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, Name: wellKnownNever, List: []string{wellKnown["no-advertise"]}})
	t.exporting = append(t.exporting, t.outside...)
	t.exporting = append(t.exporting,
		&api.Statement{Name: ownStays, Conditions: local(), Actions: act(api.RouteAction_REJECT)},
		&api.Statement{Name: wellKnownNever, Conditions: &api.Conditions{CommunitySet: anyOf(wellKnownNever)}, Actions: act(api.RouteAction_REJECT)})
	if err := t.reflects(of); err != nil {
		return nil, err
	}
	if len(t.external) > 0 {
		t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: noExport, List: t.external},
			&api.DefinedSet{DefinedType: api.DefinedType_COMMUNITY, Name: noExport, List: []string{wellKnown["no-export"], wellKnown["no-export-subconfed"]}})
		t.exporting = append(t.exporting, &api.Statement{Name: noExport,
			Conditions: &api.Conditions{NeighborSet: anyOf(noExport), CommunitySet: anyOf(noExport)}, Actions: act(api.RouteAction_REJECT)})
	}
	if len(t.transit) > 0 {
		twice := fmt.Sprintf("^%[1]d%[2]s(.*%[2]s)?%[1]d%[2]s", asn, between)
		t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_AS_PATH, Name: loopsName, List: []string{twice}})
		t.sets = append(t.sets, markSet(outsideGoes, byOutside))
		t.exporting = append(t.exporting, &api.Statement{Name: outsideGoes, Conditions: &api.Conditions{LargeCommunitySet: anyOf(outsideGoes)},
			Actions: unmarked(act(api.RouteAction_NONE))}) // and on to the next
		t.exporting = append(t.exporting, &api.Statement{Name: loopsName, Conditions: &api.Conditions{AsPathSet: anyOf(loopsName)}, Actions: act(api.RouteAction_REJECT)})
	}
	t.exporting = append(t.exporting, t.transit...)
	return t, nil
}

// clusters has what this reflector told a router of its AS refused, when it comes back by way of another reflector there. By
// RFC 4456 §8 its own cluster in the CLUSTER_LIST says so. gobgp looks for that only when it tells a client, and where it finds it
// withdraws nothing: what a client had told, and took back, stayed with that router and came back from it for good. No policy
// of gobgp's knows CLUSTER_LIST, so that the cluster is told as the site of origin as well (RFC 4360 §5).
func (t *policyText) clusters(of map[netip.Addr]object.Peer) {
	var sites []string
	for _, p := range of {
		if p.Cluster.IsValid() && p.Outside {
			sites = append(sites, "soo:^"+strings.ReplaceAll(site(p.Cluster), ".", `\.`)+"$")
		}
	}
	if slices.Sort(sites); len(sites) > 0 {
		t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_EXT_COMMUNITY, Name: ownCluster, List: slices.Compact(sites)})
		t.importing = append(t.importing, &api.Statement{Name: ownCluster, Conditions: &api.Conditions{ExtCommunitySet: anyOf(ownCluster)}, Actions: act(api.RouteAction_REJECT)})
	}
}

// site is the value of a cluster's site of origin.
func site(cluster netip.Addr) string { return cluster.String() + ":0" }

// between is what is between two AS of a path, which has sets and confederations too. It is what gobgp gives an underscore back
// as, and unlike "_64512_", for which gobgp looks at sequences alone, it finds an AS wherever it is.
const between = "(^|[,{}() ]|$)"

// inPath is true, all of it, of a path with an AS anywhere. Its digits alone are looked for first, which costs a tenth of the rest.
func inPath(asn uint32) []string {
	return []string{strconv.FormatUint(uint64(asn), 10), fmt.Sprintf("%[2]s%[1]d%[2]s", asn, between)}
}

func local() *api.Conditions {
	return &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL}
}

func act(a api.RouteAction) *api.Actions { return &api.Actions{RouteAction: a} }

func anyOf(set string) *api.MatchSet { return &api.MatchSet{Type: api.MatchSet_ANY, Name: set} }

func allOf(set string) *api.MatchSet { return &api.MatchSet{Type: api.MatchSet_ALL, Name: set} }

func single(a netip.Addr) string {
	a = a.WithZone("")
	return netip.PrefixFrom(a, a.BitLen()).String()
}

// families of prefixes, with what a name for one ends with.
var families = []struct {
	suffix string
	family *api.Family
	is6    bool
}{{"", ipv4, false}, {" 6", ipv6, true}}

func (t *policyText) prefixes(name string, ranges []object.PrefixRange, is6 bool) bool {
	set := &api.DefinedSet{DefinedType: api.DefinedType_PREFIX, Name: name}
	for _, r := range ranges {
		if r.Prefix.Addr().Is6() == is6 {
			set.Prefixes = append(set.Prefixes, &api.Prefix{IpPrefix: r.Prefix.String(), MaskLengthMin: uint32(r.Min), MaskLengthMax: uint32(r.Max)})
		}
	}
	if len(set.Prefixes) == 0 {
		return false // gobgp takes an empty set to match everything
	}
	t.sets = append(t.sets, set)
	return true
}

func (t *policyText) imports(p object.Peer) error {
	name := "netd " + p.Addr.String()
	t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: name, List: []string{single(p.Addr)}})
	ranges, err := object.ParsePrefixRanges(p.Import)
	if err != nil {
		return err
	}
	except, err := object.ParsePrefixRanges(p.Except)
	if err != nil {
		return err
	}
	hops, err := object.ParseAddrList(p.NextHops)
	if err != nil {
		return err
	}
	if p.FirstAS != 0 && len(ranges) > 0 {
		t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_AS_PATH, Name: name, List: []string{fmt.Sprintf("^%d_", p.FirstAS)}})
	}
	for _, f := range families {
		var list []string
		for _, a := range hops {
			if a.Is6() == f.is6 {
				list = append(list, single(a))
			}
		}
		if set := name + " except" + f.suffix; t.prefixes(set, except, f.is6) {
			t.importing = append(t.importing, &api.Statement{Name: set,
				Conditions: &api.Conditions{PrefixSet: anyOf(set), NeighborSet: anyOf(name)}, Actions: act(api.RouteAction_REJECT)})
		}
		if set := name + " import" + f.suffix; t.prefixes(set, ranges, f.is6) {
			actions := act(api.RouteAction_ACCEPT)
			if p.LocalPref != "" {
				pref, err := parseUint32(p.LocalPref)
				if err != nil {
					return err
				}
				actions.LocalPref = &api.LocalPrefAction{Value: pref}
			}
			if p.Outside && p.FirstAS == 0 {
				actions.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: []string{markOf(byOutside)}}
			}
			conditions := &api.Conditions{PrefixSet: anyOf(set), NeighborSet: anyOf(name), NextHopInList: list}
			if p.FirstAS != 0 {
				conditions.AsPathSet = anyOf(name)
				conditions.CommunitySet = &api.MatchSet{Type: api.MatchSet_INVERT, Name: drainedSet}
			}
			t.importing = append(t.importing, &api.Statement{Name: set, Conditions: conditions, Actions: actions})
			if p.FirstAS != 0 {
				t.drains = true
				t.importing = append(t.importing, &api.Statement{Name: name + " drained" + f.suffix, Conditions: &api.Conditions{PrefixSet: conditions.PrefixSet,
					NeighborSet: conditions.NeighborSet, NextHopInList: list, AsPathSet: conditions.AsPathSet, CommunitySet: anyOf(drainedSet)},
					Actions: &api.Actions{RouteAction: api.RouteAction_ACCEPT, LocalPref: &api.LocalPrefAction{Value: 1}}}) // 0 gobgp cannot give
			}
		}
	}
	return nil
}

// reflects has clients told what nodes told. Another reflector is not told it: it has every client's paths of the client itself,
// and gobgp leaves a client's path with it that it ought to withdraw, when the copy that the other one told is preferred
// (filterpath in its pkg/server/server.go): each would keep the other's copy of what is long gone.
//
// What came from a router outside is no node's block by way of that node, and stays. It is known by a mark: a list of next hops
// would do, were it not for what clients are told once such a way is the best. gobgp asks the policies whether they let the former
// one out, to withdraw it, and gives them the next hop of the new one with it.
func (t *policyText) reflects(of map[netip.Addr]object.Peer) error {
	var clients []string
	var ranges []object.PrefixRange
	for _, addr := range slices.SortedFunc(maps.Keys(of), netip.Addr.Compare) {
		p := of[addr]
		if p.Reflected {
			clients = append(clients, single(addr))
		}
		if p.Outside {
			continue
		}
		list, err := object.ParsePrefixRanges(p.Import)
		if err != nil {
			return err
		}
		ranges = append(ranges, list...)
	}
	ranges, err := object.ParsePrefixRanges(object.PrefixRanges(ranges)) // in order, each once
	if err != nil || len(clients) == 0 || len(ranges) == 0 {
		return err
	}
	t.sets = append(t.sets, &api.DefinedSet{DefinedType: api.DefinedType_NEIGHBOR, Name: clientsSet, List: clients}, markSet(outsideStays, byOutside))
	t.exporting = append(t.exporting, &api.Statement{Name: outsideStays,
		Conditions: &api.Conditions{NeighborSet: anyOf(clientsSet), LargeCommunitySet: anyOf(outsideStays)}, Actions: act(api.RouteAction_REJECT)})
	for _, f := range families {
		if name := reflectedName + f.suffix; t.prefixes(name, ranges, f.is6) {
			t.exporting = append(t.exporting, &api.Statement{Name: name, Conditions: &api.Conditions{
				RouteType: api.Conditions_ROUTE_TYPE_INTERNAL, NeighborSet: anyOf(clientsSet), PrefixSet: anyOf(name),
			}, Actions: act(api.RouteAction_ACCEPT)})
		}
	}
	return nil
}

func (t *policyText) exports(p object.Peer) error {
	if !p.Outside {
		t.nodes = append(t.nodes, single(p.Addr))
		return nil
	}
	name := "netd " + p.Addr.String()
	ranges, err := object.ParsePrefixRanges(p.Transit)
	if err != nil {
		return err
	}
	if p.UntellLoops && p.Transit != "" {
		t.external = append(t.external, single(p.Addr))
	}
	t.sets = append(t.sets, markSet(name+" told", p.Addr.WithZone("").String()))
	for _, f := range families {
		self := p.Self
		if f.is6 {
			self = p.Self6
		}
		if !self.IsValid() {
			continue
		}
		hop := &api.NexthopAction{Address: self.String()}
		t.outside = append(t.outside, &api.Statement{Name: name + " told" + f.suffix, Conditions: &api.Conditions{
			RouteType: api.Conditions_ROUTE_TYPE_LOCAL, NeighborSet: anyOf(name), LargeCommunitySet: anyOf(name + " told"), AfiSafiIn: []*api.Family{f.family},
		}, Actions: t.telling(p, true, hop)})
		if set := name + " transit" + f.suffix; t.prefixes(set, ranges, f.is6) {
			if p.KeepNextHop {
				hop = &api.NexthopAction{Unchanged: true}
			}
			t.transit = append(t.transit, &api.Statement{Name: set,
				Conditions: &api.Conditions{PrefixSet: anyOf(set), NeighborSet: anyOf(name)}, Actions: t.telling(p, false, hop)})
		}
	}
	return nil
}

// telling is what is done to a path, one of this host's own or one learned, that an outside neighbour is told.
func (t *policyText) telling(p object.Peer, own bool, hop *api.NexthopAction) *api.Actions {
	a := act(api.RouteAction_ACCEPT)
	a.Nexthop = hop
	standard, large := splitCommunities(p.Communities)
	if len(standard) > 0 {
		a.Community = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: standard}
	}
	switch {
	case len(large) > 0 && own: // one statement has room for one action; marks are all the large ones that an own path has
		a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_REPLACE, Communities: large}
	case len(large) > 0:
		a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: large}
	case own:
		unmarked(a)
	}
	if p.Cluster.IsValid() && !own {
		a.ExtCommunity = &api.CommunityAction{Type: api.CommunityAction_ADD, Communities: []string{"soo:" + site(p.Cluster)}}
	}
	if p.Prepend > 0 {
		a.AsPrepend = &api.AsPrependAction{Asn: t.asn, Repeat: uint32(p.Prepend)}
	}
	return a
}

// reconsider has the paths of a neighbour, or of "all", go through the import policy again.
func reconsider(ctx context.Context, gobgp api.GobgpApiClient, peer string) error {
	if _, err := gobgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: peer, Soft: true, Direction: api.ResetPeerRequest_IN}); err != nil {
		return fmt.Errorf("applying the import policy to what was learned: %w", err)
	}
	return nil
}

// tellAgain tells a neighbour everything once more, through the export policy as it is now.
func tellAgain(ctx context.Context, gobgp api.GobgpApiClient, peer string) error {
	if _, err := gobgp.ResetPeer(ctx, &api.ResetPeerRequest{Address: peer, Soft: true, Direction: api.ResetPeerRequest_OUT}); err != nil {
		return fmt.Errorf("applying the export policy: %w", err)
	}
	return nil
}
