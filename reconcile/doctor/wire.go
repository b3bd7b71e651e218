package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"netd/config"
)

func duplicates(ctx context.Context, s *Site) (out []Finding) {
	if s.Link == "" || !s.Node.Address.IsValid() {
		return well("no IPv4 address on a link")
	}
	names, others := s.others()
	var near []netip.Addr
	for _, a := range others {
		if s.Node.Address.Masked().Contains(a) {
			near = append(near, a)
		}
	}
	own := s.Node.Address.Addr()
	claims, err := s.Wire.Claims(ctx, s.Link, append(near, own))
	if err != nil {
		return unseen(err, "")
	}
	if macs := claims[own]; len(macs) > 0 { // nobody answers for an address but who has it, and the host does not hear itself
		out = append(out, Finding{Fail, fmt.Sprintf("%s on %s has this node's address %s too", macs[0], s.Link, own), "find the host of that MAC (its first three bytes name the maker) and give it another address", false})
	}
	for _, a := range near {
		if macs := claims[a]; len(macs) > 1 {
			out = append(out, Finding{Fail, fmt.Sprintf("%s and %s both have %s, node %s's address", macs[0], macs[1], a, names[a]), "give one of them another address", false})
		}
	}
	if len(out) == 0 {
		return well("each of %d addresses has one holder at most", len(near)+1)
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
		return well("%d of %d nodes answer, each at the link's MTU", answered, len(others))
	}
	return out
}

func checksumOffload(ctx context.Context, s *Site) (out []Finding) {
	var ends []netip.Addr
	of := map[netip.Addr]string{}
	for _, n := range s.Config.Networks {
		if n.Mode != config.ModeVXLAN {
			continue
		}
		for _, node := range s.Config.Nodes {
			if a, ok := s.Config.Tunnel(node, n.Name, false); ok && node.Name != s.Node.Name {
				ends = append(ends, a)
				of[a] = node.Name
			}
		}
	}
	if len(ends) == 0 {
		return well("no VXLAN")
	}
	paths, _, err := s.Wire.Paths(ctx, ends)
	if err != nil {
		return unseen(err, "")
	}
	silent, tried := []string{}, 0
	for i, a := range ends {
		if paths[i] == 0 {
			continue
		}
		tried++
		if !s.Wire.Connects(ctx, a) {
			silent = append(silent, of[a])
		}
		if tried == 3 { // a fault of this host's shows at once
			break
		}
	}
	if len(silent) > 0 {
		return []Finding{{Warn, fmt.Sprintf("through the VXLAN tunnel %s answers pings and no TCP: the link's checksum offload, or a firewall there", strings.Join(silent, ", ")),
			"ethtool -K vxlan.netd tx-checksum-ip-generic off", false}}
	}
	return well("%d of %d tunnel ends answer TCP", tried, len(ends))
}
