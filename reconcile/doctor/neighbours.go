package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// neighbours looks whether those on the wire fit into the kernel's table of neighbours. Beyond gc_thresh3 a packet to one more
// is refused (ENOBUFS, "neighbour table overflow") unless an entry that is 5 s old makes room. Permanent entries, as netd's of
// its tunnels are, do not count (net/core/neighbour.c, neigh_alloc).
func neighbours(ctx context.Context, s *Site) (out []Finding) {
	text, err := s.Run(ctx, "ip", "-j", "ntable", "show")
	if err != nil {
		return unseen(err, "apt-get install iproute2")
	}
	var tables []struct {
		Family, Dev string
		Thresh3     int
	}
	if err := json.Unmarshal([]byte(text), &tables); err != nil {
		return unseen(fmt.Errorf("reading what ip prints: %w", err), "")
	}
	var fits []string
	_, others := s.others()
	for _, f := range []struct {
		flag, family, dir string
		own               netip.Prefix
	}{{"-4", "inet", "ipv4", s.Node.Address}, {"-6", "inet6", "ipv6", s.Node.Address6}} {
		if !f.own.IsValid() {
			continue
		}
		limit := 0
		for _, t := range tables {
			if t.Family == f.family && t.Dev == "" {
				limit = t.Thresh3
			}
		}
		near := slices.DeleteFunc(slices.Clone(others), func(a netip.Addr) bool { return !f.own.Masked().Contains(a) })
		more, err := s.strangers(ctx, f.flag, near)
		if err != nil {
			return unseen(err, "")
		}
		if need := len(near) + more; limit > 0 && need > limit {
			size := 1024
			for size < 2*need {
				size *= 2
			}
			key := "net." + f.dir + ".neigh.default.gc_thresh"
			file := "/etc/sysctl.d/60-netd-neighbours-" + f.dir + ".conf"
			out = append(out, Finding{Warn, fmt.Sprintf("%d nodes in %s and %d others are more neighbours than fit (%s3 is %d): some do not answer, at random", len(near), f.own.Masked(), more, key, limit),
				put(file, fmt.Sprintf("%s1 = %d\n%s2 = %d\n%s3 = %d\n", key, size/4, key, size/2, key, size)) + "\nsysctl -q -p " + file, false})
		} else {
			fits = append(fits, fmt.Sprintf("%d of %d", need, limit))
		}
	}
	if len(out) == 0 {
		return well("%s", strings.Join(fits, ", "))
	}
	return out
}

// strangers counts the neighbours that are none of these addresses and that the kernel may forget.
func (s *Site) strangers(ctx context.Context, family string, known []netip.Addr) (n int, err error) {
	text, err := s.Run(ctx, "ip", family, "-j", "neigh", "show")
	if err != nil {
		return 0, err
	}
	var list []struct {
		Dst   netip.Addr
		State []string
	}
	if strings.TrimSpace(text) == "" {
		return 0, nil
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return 0, fmt.Errorf("reading what ip prints: %w", err)
	}
	for _, e := range list {
		if !slices.Contains(known, e.Dst) && !slices.Contains(e.State, "PERMANENT") {
			n++
		}
	}
	return n, nil
}
