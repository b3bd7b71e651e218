package doctor

import (
	"context"
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
		out = append(out, Finding{Fail, fmt.Sprintf("route %s dev %s of %s leads into a pool of netd's and takes its packets", r.Dst, r.Dev, r.Who),
			fmt.Sprintf("ip route del %s dev %s table %d    # and tell %s not to put it back", r.Dst, r.Dev, r.Table, r.Who), false})
	}
	if len(out) == 0 {
		return well("none")
	}
	return out
}
