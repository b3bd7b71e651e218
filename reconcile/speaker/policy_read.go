package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"

	"netd/reconcile/object"
)

// readPolicies reads both policies back. What they say of each neighbour is taken from the statements by their names, and
// written down anew: only where that is what was read, word for word, are the policies netd's, whole and untouched.
func readPolicies(ctx context.Context, gobgp api.GobgpApiClient) (policies, error) {
	out := policies{of: map[netip.Addr]object.Peer{}}
	read := policyText{}
	for _, t := range []api.DefinedType{api.DefinedType_PREFIX, api.DefinedType_NEIGHBOR, api.DefinedType_AS_PATH, api.DefinedType_COMMUNITY, api.DefinedType_EXT_COMMUNITY, api.DefinedType_LARGE_COMMUNITY} {
		sets, err := definedSets(ctx, gobgp, t)
		if err != nil {
			return out, err
		}
		read.sets = append(read.sets, sets...)
	}
	var ok [2]bool
	var err error
	if read.importing, ok[0], err = assigned(ctx, gobgp, api.PolicyDirection_IMPORT, importPolicy); err != nil {
		return out, err
	}
	if read.exporting, ok[1], err = assigned(ctx, gobgp, api.PolicyDirection_EXPORT, exportPolicy); err != nil {
		return out, err
	}
	g, err := gobgp.GetBgp(ctx, &api.GetBgpRequest{})
	if err != nil {
		return out, fmt.Errorf("reading the policies: %w", err)
	}
	out.of = read.neighbours()
	again, err := compose(g.GetGlobal().GetAsn(), out.of)
	out.refuses = err == nil && ok[0] && ok[1] && again.String() == read.String()
	return out, nil
}

// assigned are the statements of the one policy of a direction; ok is false where it is not alone or does not end with a
// refusal.
func assigned(ctx context.Context, gobgp api.GobgpApiClient, d api.PolicyDirection, name string) (out []*api.Statement, ok bool, err error) {
	stream, err := gobgp.ListPolicyAssignment(ctx, &api.ListPolicyAssignmentRequest{Name: globalTable, Direction: d})
	if err != nil {
		return nil, false, fmt.Errorf("reading the policies: %w", err)
	}
	list, err := collect(stream, (*api.ListPolicyAssignmentResponse).GetAssignment)
	if err != nil {
		return nil, false, fmt.Errorf("reading the policies: %w", err)
	}
	for _, a := range list {
		ok = len(list) == 1 && a.GetDefaultAction() == api.RouteAction_REJECT && len(a.GetPolicies()) == 1 && a.GetPolicies()[0].GetName() == name
		for _, p := range a.GetPolicies() {
			out = append(out, p.GetStatements()...)
		}
	}
	return out, ok, nil
}

// neighbours are what the statements say of each neighbour.
func (t *policyText) neighbours() map[netip.Addr]object.Peer {
	sets := map[string]*api.DefinedSet{}
	out := map[netip.Addr]object.Peer{}
	for _, s := range t.sets {
		sets[s.GetDefinedType().String()+s.GetName()] = s
		if addr, what := subject(s.GetName()); s.GetDefinedType() == api.DefinedType_NEIGHBOR && addr.IsValid() && what == "" {
			out[addr] = object.Peer{Addr: addr}
		}
	}
	ranges := map[netip.Addr]map[string][]object.PrefixRange{}
	for _, s := range append(slices.Clone(t.importing), t.exporting...) {
		addr, what := subject(s.GetName())
		p, there := out[addr]
		if !there {
			continue
		}
		what, is6 := strings.CutSuffix(what, " 6")
		if ranges[addr] == nil {
			ranges[addr] = map[string][]object.PrefixRange{}
		}
		ranges[addr][what] = append(ranges[addr][what], rangesOf(sets[api.DefinedType_PREFIX.String()+s.GetConditions().GetPrefixSet().GetName()])...)
		a := s.GetActions()
		switch what {
		case "import":
			p.NextHops = strings.TrimSpace(p.NextHops + " " + hopsOf(s.GetConditions().GetNextHopInList(), addr)) // IPv4 before IPv6
			for _, w := range sets[api.DefinedType_AS_PATH.String()+s.GetConditions().GetAsPathSet().GetName()].GetList() {
				first, _ := parseUint32(strings.Trim(w, "^_"))
				p.FirstAS = first
			}
			if a.GetLocalPref() != nil {
				p.LocalPref = strconv.FormatUint(uint64(a.GetLocalPref().GetValue()), 10)
			}
		case "told":
			p.Outside = true
			self, _ := netip.ParseAddr(a.GetNexthop().GetAddress())
			if is6 {
				p.Self6 = self
			} else {
				p.Self = self
			}
			var large []string
			if a.GetLargeCommunity().GetType() == api.CommunityAction_REPLACE {
				large = a.GetLargeCommunity().GetCommunities()
			}
			p.Communities = joinCommunities(a.GetCommunity().GetCommunities(), large)
			p.Prepend = uint8(a.GetAsPrepend().GetRepeat())
		case "transit":
			p.KeepNextHop = a.GetNexthop().GetUnchanged()
			for _, w := range a.GetExtCommunity().GetCommunities() {
				cluster, _ := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(w, "soo:"), ":0"))
				p.Cluster = cluster
			}
		}
		out[addr] = p
	}
	for _, s := range t.exporting {
		if strings.TrimSuffix(s.GetName(), " 6") != reflectedName {
			continue
		}
		for _, w := range sets[api.DefinedType_NEIGHBOR.String()+s.GetConditions().GetNeighborSet().GetName()].GetList() {
			if prefix, err := netip.ParsePrefix(w); err == nil {
				if p, there := out[prefix.Addr()]; there {
					p.Reflected = true
					out[prefix.Addr()] = p
				}
			}
		}
	}
	for addr, r := range ranges {
		p := out[addr]
		p.UntellLoops = slices.Contains(sets[api.DefinedType_NEIGHBOR.String()+noExport].GetList(), single(addr))
		p.Import, p.Except, p.Transit = object.PrefixRanges(r["import"]), object.PrefixRanges(r["except"]), object.PrefixRanges(r["transit"])
		out[addr] = p
	}
	return out
}

// subject is the neighbour that a name is about, and what of it.
func subject(name string) (netip.Addr, string) {
	rest, ok := strings.CutPrefix(name, "netd ")
	if !ok {
		return netip.Addr{}, ""
	}
	word, what, _ := strings.Cut(rest, " ")
	addr, err := netip.ParseAddr(word)
	if err != nil {
		return netip.Addr{}, ""
	}
	return addr, what
}

func rangesOf(s *api.DefinedSet) []object.PrefixRange {
	var out []object.PrefixRange
	for _, p := range s.GetPrefixes() {
		if prefix, err := netip.ParsePrefix(p.GetIpPrefix()); err == nil {
			out = append(out, object.PrefixRange{Prefix: prefix, Min: int(p.GetMaskLengthMin()), Max: int(p.GetMaskLengthMax())})
		}
	}
	return out
}

// hopsOf reads a list of next hops. A link-local one has the zone of its neighbour.
func hopsOf(list []string, of netip.Addr) string {
	var out []netip.Addr
	for _, s := range list {
		if p, err := netip.ParsePrefix(s); err == nil {
			a := p.Addr()
			if a.IsLinkLocalUnicast() {
				a = a.WithZone(of.Zone())
			}
			out = append(out, a)
		}
	}
	return object.AddrList(out)
}

// String is everything that the policies say, for comparison. The order of statements counts, that of sets does not; sets
// that are not netd's do not either, since no statement of netd's names them.
func (t *policyText) String() string {
	var sets []string
	for _, s := range t.sets {
		if !strings.HasPrefix(s.GetName(), "netd ") {
			continue
		}
		var words []string
		for _, w := range s.GetList() {
			words = append(words, strings.Trim(w, "^$")) // gobgp adds these where they are missing
		}
		for _, p := range s.GetPrefixes() {
			words = append(words, fmt.Sprintf("%s %d-%d", p.GetIpPrefix(), p.GetMaskLengthMin(), p.GetMaskLengthMax()))
		}
		slices.Sort(words)
		sets = append(sets, fmt.Sprintf("%v %s: %s\n", s.GetDefinedType(), s.GetName(), strings.Join(words, ", ")))
	}
	slices.Sort(sets)
	var b strings.Builder
	b.WriteString(strings.Join(sets, ""))
	for direction, list := range [][]*api.Statement{t.importing, t.exporting} {
		for _, s := range list {
			c, a := s.GetConditions(), s.GetActions()
			fmt.Fprintf(&b, "%d %s: if prefix %s neighbour %s community %s large %s as-path %s ext %s type %v next hop %v family %v",
				direction, s.GetName(), setText(c.GetPrefixSet()), setText(c.GetNeighborSet()), setText(c.GetCommunitySet()), setText(c.GetLargeCommunitySet()),
				setText(c.GetAsPathSet()), setText(c.GetExtCommunitySet()), c.GetRouteType(), c.GetNextHopInList(), familyText(c.GetAfiSafiIn()))
			fmt.Fprintf(&b, " then %v pref %v community %s large %s ext %s prepend %d x%d next hop %s %t %t med %v\n", a.GetRouteAction(), a.GetLocalPref(),
				communityText(a.GetCommunity()), communityText(a.GetLargeCommunity()), communityText(a.GetExtCommunity()), a.GetAsPrepend().GetAsn(),
				a.GetAsPrepend().GetRepeat(), a.GetNexthop().GetAddress(), a.GetNexthop().GetSelf(), a.GetNexthop().GetUnchanged(), a.GetMed())
		}
	}
	return b.String()
}

func setText(m *api.MatchSet) string {
	if m.GetName() == "" {
		return "-"
	}
	return fmt.Sprintf("%v of %q", m.GetType(), m.GetName())
}

func familyText(list []*api.Family) string {
	var out []string
	for _, f := range list {
		out = append(out, fmt.Sprintf("%v/%v", f.GetAfi(), f.GetSafi()))
	}
	return strings.Join(out, " ")
}

func communityText(a *api.CommunityAction) string {
	if len(a.GetCommunities()) == 0 {
		return "-"
	}
	return fmt.Sprintf("%v %v", a.GetType(), a.GetCommunities())
}

func definedSets(ctx context.Context, gobgp api.GobgpApiClient, t api.DefinedType) ([]*api.DefinedSet, error) {
	stream, err := gobgp.ListDefinedSet(ctx, &api.ListDefinedSetRequest{DefinedType: t})
	if err != nil {
		return nil, fmt.Errorf("reading the policies: %w", err)
	}
	list, err := collect(stream, (*api.ListDefinedSetResponse).GetDefinedSet)
	if err != nil {
		return nil, fmt.Errorf("reading the policies: %w", err)
	}
	return list, nil
}
