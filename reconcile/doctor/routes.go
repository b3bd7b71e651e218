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
		to := r.Dst.String()
		if r.Dev != "" {
			to += " dev " + r.Dev
		}
		// With the protocol: netd's own route may be there besides, of a lower metric, and would be taken.
		out = append(out, Finding{Fail, fmt.Sprintf("route %s of %s leads into a pool of netd's and takes its packets", to, r.Who),
			fmt.Sprintf("ip route del %s table %d proto %d    # and tell %s not to put it back", to, r.Table, r.Proto, r.Who), false})
	}
	if len(out) == 0 {
		return well("none")
	}
	return out
}
