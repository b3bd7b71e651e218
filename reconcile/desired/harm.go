package desired

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netd/reconcile"
	"netd/reconcile/object"
)

// A plan that takes much away is more often a slip of the pen than meant: a node's line deleted with its neighbours', a file
// of another network. Below harmAtLeast routes it is neither, since a fleet of five loses a node in the ordinary way.
const (
	harmShare   = 30 // percent of the remote routes
	harmAtLeast = 5
)

// Harms says what of a plan's deletions cuts others off, one line each; none where nobody needs to be asked again. was and is
// are this node's blocks before and after.
func Harms(p reconcile.Plan, want reconcile.Want, was, is []netip.Prefix) []string {
	built, gone := map[reconcile.Key]bool{}, map[reconcile.Key]reconcile.Resource{}
	for _, c := range p.Changes { // what is torn down to be built again comes after it
		switch c.Op {
		case reconcile.Create:
			built[c.Key] = true
			delete(gone, c.Key)
		case reconcile.Delete:
			if !c.Drift { // what somebody else put there is nobody's way
				gone[c.Key] = c.Have
			}
		}
	}
	for _, c := range p.Changes {
		if c.Op == reconcile.Delete { // and is there now
			delete(built, c.Key)
		}
	}
	for _, c := range p.Conflicts { // somebody else's is there
		built[c.Key] = true
		for _, k := range c.Without {
			built[k] = true
		}
	}
	h := harm{built: built, gone: gone, want: want.State}
	var out []string
	if line := h.routes(); line != "" {
		out = append(out, line)
	}
	return append(out, h.blocks(was, is)...)
}

// MayHarm reports whether Harms may find anything where a host that is as was asks for is led to is. It reads nothing: of most
// changes of a file that alone says that nobody is cut off.
func MayHarm(was, is reconcile.State) bool {
	lost := 0
	for k, r := range was {
		if is[k] != r && isRemote(r) { // one that leads elsewhere may find somebody else's link there
			lost++
		}
	}
	return lost >= harmAtLeast
}

type harm struct {
	built map[reconcile.Key]bool               // not there now
	gone  map[reconcile.Key]reconcile.Resource // there now, and not afterwards
	want  reconcile.State
}

// isRemote reports whether a route of the host leads to another node or router.
func isRemote(r reconcile.Resource) bool {
	route, ok := r.(object.Route)
	return ok && route.In == "" && (route.Via.IsValid() || route.Nexthop != 0 || route.Hops != "")
}

func (h harm) routes() string {
	var lost []netip.Prefix
	for _, r := range h.gone {
		if isRemote(r) {
			lost = append(lost, r.(object.Route).Dst)
		}
	}
	if len(lost) < harmAtLeast {
		return ""
	}
	held := len(lost)
	for k, r := range h.want {
		if isRemote(r) && !h.built[k] {
			held++
		}
	}
	if 100*len(lost) <= harmShare*held {
		return ""
	}
	slices.SortFunc(lost, netip.Prefix.Compare)
	return fmt.Sprintf("it deletes %d of %d remote routes: %s", len(lost), held, some(lost))
}

// blocks names those that go although containers live in them: those that stay attached as strangers, and those that go
// along.
func (h harm) blocks(was, is []netip.Prefix) []string {
	lost := slices.DeleteFunc(slices.Clone(was), func(b netip.Prefix) bool { return slices.Contains(is, b) })
	if len(lost) == 0 {
		return nil
	}
	names := map[string]string{} // veth → workload
	live := map[netip.Prefix][]string{}
	see := func(r reconcile.Resource) {
		route, ok := r.(object.Route)
		name, ours := names[route.Dev]
		if !ok || !ours || route.In != "" || !route.Dst.IsSingleIP() {
			return
		}
		a := route.Dst.Addr()
		if slices.ContainsFunc(is, func(b netip.Prefix) bool { return b.Contains(a) }) { // in a block that took the other's place
			return
		}
		for _, b := range lost {
			if b.Contains(a) {
				live[b] = append(live[b], fmt.Sprintf("%s (%s)", name, a))
			}
		}
	}
	each := func(f func(reconcile.Resource)) {
		for _, r := range h.gone {
			f(r)
		}
		for k, r := range h.want {
			if !h.built[k] {
				f(r)
			}
		}
	}
	each(func(r reconcile.Resource) {
		if v, ok := r.(object.Veth); ok {
			names[v.Name] = strings.TrimPrefix(v.Alias, "netd: ")
		}
	})
	each(see)
	var out []string
	for _, b := range lost {
		if who := live[b]; len(who) > 0 {
			slices.Sort(who)
			out = append(out, fmt.Sprintf("it takes the block %s from this node, in which %s: %s", b, lives(len(who)), some(who)))
		}
	}
	return out
}

func lives(n int) string {
	if n == 1 {
		return "a container lives"
	}
	return fmt.Sprintf("%d containers live", n)
}

// some spells the first of a list.
func some[T any](list []T) string {
	const most = 10
	var parts []string
	for i, x := range list {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		parts = append(parts, fmt.Sprint(x))
	}
	return strings.Join(parts, ", ")
}

// Session is a TCP connection that someone is logged in over.
type Session struct {
	Here  netip.Addr `json:"here"` // this host's end
	There netip.Addr `json:"there"`
}

// Cuts says what of a plan may cut a session off, one line each. was and is are the node's addresses before and after;
// either may hold none that is valid.
func Cuts(p reconcile.Plan, s Session, was, is []netip.Addr) []string {
	if !s.Here.IsValid() {
		return nil
	}
	var out []string
	if slices.Contains(was, s.Here) && !slices.Contains(is, s.Here) {
		out = append(out, fmt.Sprintf("you are logged in at %s, which this node's address no longer names: the session from %s is cut when the host gives that address up; log in at %s before, or keep a console at hand",
			s.Here, s.There, some(slices.DeleteFunc(slices.Clone(is), func(a netip.Addr) bool { return !a.IsValid() }))))
	}
	gone := map[reconcile.Key]reconcile.Resource{}
	for _, c := range p.Changes {
		switch c.Op {
		case reconcile.Delete:
			gone[c.Key] = c.Have
		case reconcile.Create:
			delete(gone, c.Key)
		}
	}
	for _, r := range gone {
		switch r := r.(type) {
		case object.Addr:
			if r.In == "" && r.Prefix.Addr() == s.Here {
				out = append(out, fmt.Sprintf("you are logged in at %s of %s, which it deletes: the session from %s is cut", s.Here, r.Link, s.There))
			}
		case object.Route:
			if r.In == "" && r.Type == object.Unicast && r.Dst.Contains(s.There) {
				out = append(out, fmt.Sprintf("you are logged in from %s, and it deletes the route to %s: the session is cut unless another route leads there", s.There, r.Dst))
			}
		}
	}
	slices.Sort(out)
	return out
}
