package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/desired"
)

func duplicates(ctx context.Context, s *Site) (out []Finding) {
	names, others := s.others()
	var own, near []netip.Addr
	for _, p := range []netip.Prefix{s.Node.Address, s.Node.Address6} {
		if !p.IsValid() {
			continue
		}
		own = append(own, p.Addr())
		for _, a := range others {
			if p.Masked().Contains(a) {
				near = append(near, a)
			}
		}
	}
	if s.Link == "" {
		return well("no link has this node's address")
	}
	claims, err := s.Wire.Claims(ctx, s.Link, slices.Concat(near, own))
	if err != nil {
		return unseen(err, "")
	}
	for _, a := range own {
		if macs := claims[a]; len(macs) > 0 { // nobody answers for an address but who has it, and the host does not hear itself
			out = append(out, Finding{Fail, fmt.Sprintf("%s on %s has this node's address %s too", macs[0], s.Link, a), "find the host of that MAC (its first three bytes name the maker) and give it another address", false})
		}
	}
	for _, a := range near {
		if macs := claims[a]; len(macs) > 1 {
			out = append(out, Finding{Fail, fmt.Sprintf("%s and %s both have %s, node %s's address", macs[0], macs[1], a, names[a]), "give one of them another address", false})
		}
	}
	if len(out) == 0 {
		return well("each of %d addresses has one holder at most", len(near)+len(own))
	}
	return out
}

// apart is how far clocks may be apart: certificates and logs suffer, and who reads two nodes' logs is led astray.
const apart = 2 * time.Second

func clocks(ctx context.Context, s *Site) (out []Finding) {
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil && state == unix.TIME_ERROR {
		out = append(out, Finding{Warn, "nothing keeps this host's clock (adjtimex: not synchronised)", "timedatectl set-ntp true", false})
	}
	names, others := s.others()
	all := len(others)
	others = slices.DeleteFunc(others, netip.Addr.Is6) // ICMPv6 has no timestamps
	ahead, err := s.Wire.Clocks(ctx, others)
	if err != nil {
		return append(out, unseen(err, "")...)
	}
	for _, a := range others {
		if d := ahead[a]; d.Abs() > apart {
			out = append(out, Finding{Warn, fmt.Sprintf("the clock of node %s (%s) is %s %s this one's", names[a], a, d.Abs().Round(100*time.Millisecond), map[bool]string{true: "ahead of", false: "behind"}[d > 0]),
				"timedatectl timesync-status    # on both: which of them is right", false})
		}
	}
	if len(out) == 0 {
		if len(others) == 0 && all > 0 {
			return well("not asked: the nodes have IPv6 addresses alone, and ICMPv6 has no timestamps")
		}
		return well("%d nodes told theirs", len(ahead))
	}
	return out
}

func pathMTU(ctx context.Context, s *Site) (out []Finding) {
	names, others := s.others()
	paths, links, err := s.Wire.Paths(ctx, others)
	if err != nil {
		return unseen(err, "")
	}
	answered := 0
	for i, a := range others {
		if paths[i] == 0 {
			continue
		}
		if answered++; paths[i] < links[i] {
			out = append(out, Finding{Fail, fmt.Sprintf("the way to node %s (%s) carries %d bytes, %s %d: larger packets vanish", names[a], a, paths[i], s.Link, links[i]),
				fmt.Sprintf("ip link set %s mtu %d    # and where the link is set up; or mend the path", s.Link, paths[i]), false})
		}
	}
	if len(out) == 0 {
		return well("%d of %d addresses of nodes answer, each at the link's MTU", answered, len(others))
	}
	return out
}

func checksumOffload(ctx context.Context, s *Site) (out []Finding) {
	names, devices, families := map[netip.Addr]string{}, map[netip.Addr]string{}, [2][]netip.Addr{}
	for _, n := range s.Config.Networks {
		if n.Mode != config.ModeVXLAN {
			continue
		}
		for _, node := range s.Config.Nodes {
			for i := range families {
				if a, ok := s.Config.Tunnel(node, n.Name, i == 1); ok && node.Name != s.Node.Name {
					families[i], names[a], devices[a] = append(families[i], a), node.Name, desired.VXLANName(n)
				}
			}
		}
	}
	if len(names) == 0 {
		return well("no VXLAN")
	}
	var silent, fix []string
	tried := 0
	for _, ends := range families {
		if len(ends) == 0 {
			continue
		}
		paths, _, err := s.Wire.Paths(ctx, ends)
		if err != nil {
			return unseen(err, "")
		}
		left := 3 // a fault of this host's shows at once
		for i, a := range ends {
			if paths[i] == 0 || left == 0 {
				continue
			}
			left--
			tried++
			if !s.Wire.Connects(ctx, a) {
				silent = append(silent, fmt.Sprintf("%s (%s)", names[a], a))
				if command := "ethtool -K " + devices[a] + " tx-checksum-ip-generic off"; !slices.Contains(fix, command) {
					fix = append(fix, command)
				}
			}
		}
	}
	if len(silent) > 0 {
		return []Finding{{Warn, fmt.Sprintf("through the VXLAN tunnel %s answers pings and no TCP: the link's checksum offload, or a firewall there", strings.Join(silent, ", ")),
			strings.Join(fix, "\n"), false}}
	}
	return well("%d of %d tunnel ends answer TCP", tried, len(names))
}
