package speaker

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	api "github.com/osrg/gobgp/v3/api"
)

// A path of this host's own carries a mark for each of those that are told: a large community (RFC 8092) with the global
// administrator 0, which no AS may use on the wire (RFC 7607), and 64 bits of a hash of who it is. Marks never leave the
// speaker: the statements that let a path out take them off.
//
// A path that a router of this AS outside the file told has one too, byOutside.
const markPattern = `^0:\d+:\d+$`

// byOutside is who no neighbour's address or word for several is.
const byOutside = "by a router outside"

func markOf(to string) string { return largeText(mark(to)) }

// largeText is a large community as RFC 8092 §5 has it written.
func largeText(c *api.LargeCommunity) string {
	return fmt.Sprintf("%d:%d:%d", c.GetGlobalAdmin(), c.GetLocalData1(), c.GetLocalData2())
}

func mark(to string) *api.LargeCommunity {
	h := fnv.New64a()
	_, _ = h.Write([]byte("netd-told/" + to))
	sum := h.Sum64()
	return &api.LargeCommunity{LocalData1: uint32(sum >> 32), LocalData2: uint32(sum)}
}

// marksOf are the marks of an own path for those in a list (object.Path.To).
func marksOf(list string) *api.LargeCommunitiesAttribute {
	out := &api.LargeCommunitiesAttribute{}
	for _, to := range strings.Fields(list) {
		out.Communities = append(out.Communities, mark(to))
	}
	return out
}

// toOf is the inverse of marksOf. What is no mark of anyone known shows as it is.
func toOf(l *api.LargeCommunitiesAttribute, known map[string]string) string {
	var out []string
	for _, c := range l.GetCommunities() {
		text := largeText(c)
		if to := known[text]; to != "" {
			text = to
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func markSet(name, to string) *api.DefinedSet {
	return &api.DefinedSet{DefinedType: api.DefinedType_LARGE_COMMUNITY, Name: name, List: []string{markOf(to)}}
}

// unmarked has a path leave without its marks.
func unmarked(a *api.Actions) *api.Actions {
	a.LargeCommunity = &api.CommunityAction{Type: api.CommunityAction_REMOVE, Communities: []string{markPattern}}
	return a
}

// wellKnown are the communities that have a name (IANA, BGP Well-known Communities), as gobgp writes them.
var wellKnown = map[string]string{
	"graceful-shutdown":   "65535:0",     // RFC 8326
	"blackhole":           "65535:666",   // RFC 7999
	"no-export":           "65535:65281", // RFC 1997
	"no-advertise":        "65535:65282",
	"no-export-subconfed": "65535:65283",
	"no-peer":             "65535:65284", // RFC 3765
}

// wellKnownNames are their names.
var wellKnownNames = func() map[string]string {
	out := map[string]string{}
	for name, c := range wellKnown {
		out[c] = name
	}
	return out
}()

// splitCommunities are the standard and the large ones of a list, in order, as gobgp writes them.
func splitCommunities(list string) (standard, large []string) {
	for _, c := range strings.Fields(list) {
		switch {
		case wellKnown[c] != "":
			standard = append(standard, wellKnown[c])
		case strings.Count(c, ":") == 2:
			large = append(large, c)
		default:
			standard = append(standard, c)
		}
	}
	return standard, large
}

// joinCommunities is the inverse of splitCommunities, for a list in canonical order.
func joinCommunities(standard, large []string) string {
	var out []string
	for _, c := range standard {
		out = append(out, cmp.Or(wellKnownNames[c], c))
	}
	out = append(out, large...)
	slices.Sort(out)
	return strings.Join(out, " ")
}

func parseUint32(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err
}
