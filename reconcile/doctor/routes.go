package doctor

import (
	"context"
	"encoding/json"
	"fmt"
)

func foreignRoutes(_ context.Context, s *Site) (out []Finding) {
	held, err := s.ForeignRoutes(s.pools())
	if err != nil {
		return unseen(err, "")
	}
	for _, r := range held {
		if r.OfAddress && (netdLink(r.Dev) || r.Dev == s.Link) { // a tunnel's IPv6 address; the nodes' own subnet, which a pool may hold
			continue
		}
		to, typed := r.Dst.String(), r.Dst.String()
		if r.Dev != "" {
			to, typed = to+" dev "+r.Dev, typed+" dev "+word(r.Dev)
		}
		// With the protocol: netd's own route may be there besides, of a lower metric, and would be taken.
		out = append(out, Finding{Fail, fmt.Sprintf("route %s of %s leads into a pool of netd's and takes its packets", to, r.Who),
			fmt.Sprintf("ip route del %s table %d proto %d    # and tell %s not to put it back", typed, r.Table, r.Proto, r.Who), false})
	}
	if len(out) == 0 {
		return well("none")
	}
	return out
}

// defaultRoute is a route to everywhere, as `ip -j -d route` prints it.
type defaultRoute struct {
	hop
	Protocol string
	Nexthops []hop
}

type hop struct {
	Dev, Gateway string
	Via          struct{ Host string } // a gateway of the other family
}

// defaultRoutes are those of a family, of all tables; none where they cannot be looked at.
func (s *Site) defaultRoutes(ctx context.Context, v6 bool) (out []defaultRoute) {
	text, err := s.Run(ctx, "ip", map[bool]string{false: "-4", true: "-6"}[v6], "-j", "-d", "route", "show", "default", "table", "all")
	if err != nil || json.Unmarshal([]byte(text), &out) != nil {
		return nil
	}
	return out
}
