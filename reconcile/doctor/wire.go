package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
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
			out = append(out, Finding{Fail, fmt.Sprintf("%s on %s has this node's address %s too", macs[0], s.Link, a), s.giveUp(a, macs[:1]), false})
		}
	}
	for _, a := range near {
		if macs := claims[a]; len(macs) > 1 {
			out = append(out, Finding{Fail, fmt.Sprintf("%s and %s both have %s, node %s's address", macs[0], macs[1], a, names[a]), s.giveUp(a, macs), false})
		}
	}
	if len(out) == 0 {
		return well("each of %d addresses has one holder at most", len(near)+len(own))
	}
	return out
}

// giveUp is the command that takes an address from the host that should not have it, and how that host is found. It asks for
// the MAC, so that it does nothing where it is typed by mistake: on this host, say, which it would cut off.
func (s *Site) giveUp(a netip.Addr, macs []object.MAC) string {
	who := make([]string, len(macs))
	for i, m := range macs {
		who[i] = m.String()
	}
	return fmt.Sprintf("ip -o addr show to %[1]s | while read -r _ link _ prefix _; do ip link show dev \"$link\" | grep -qiE 'ether (%[3]s)' && ip addr del $prefix dev \"$link\"; done    # on the host that should not have it; by its other addresses it is found: ip neigh show dev %[2]s | grep -iE '%[3]s'",
		a, word(s.Link), strings.Join(who, "|"))
}

// apart is how far clocks may be apart: certificates and logs suffer, and who reads two nodes' logs is led astray.
const apart = 2 * time.Second

func clocks(ctx context.Context, s *Site) (out []Finding) {
	var t unix.Timex
	if state, err := unix.Adjtimex(&t); err == nil && state == unix.TIME_ERROR {
		out = append(out, Finding{Warn, "nothing keeps this host's clock (adjtimex: not synchronised)", s.keeper() + "timedatectl set-ntp true", false})
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

// keeper is the command that installs a program for timedatectl to switch on, where there is none (systemd-timedated.service(8)).
func (s *Site) keeper() string {
	for _, dir := range []string{"/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib"} {
		if s.has(dir + "/systemd/ntp-units.d/*.list") {
			return ""
		}
	}
	if s.has("/usr/bin/dnf") {
		return "dnf install chrony && "
	}
	return "apt-get install systemd-timesyncd && "
}

func pathMTU(ctx context.Context, s *Site) (out []Finding) {
	names, others := s.others()
	var ways []Way
	for _, a := range others {
		from := s.Node.Address
		if a.Is6() {
			from = s.Node.Address6
		}
		if from.IsValid() { // as netd's own packets go
			ways = append(ways, Way{From: from.Addr(), To: a})
		}
	}
	paths, err := s.Wire.Paths(ctx, ways)
	if err != nil {
		return unseen(err, "")
	}
	answered := 0
	for i, p := range paths {
		if p.MTU == 0 {
			continue
		}
		if answered++; p.MTU < p.LinkMTU {
			a := ways[i].To
			fix := fmt.Sprintf("ip link set dev %s mtu %d    # and where the link is set up; or mend the path", word(p.Link), p.MTU)
			if p.MTU < 1280 { // RFC 8200 §5: the kernel takes IPv6 from such a link, addresses and all
				fix = fmt.Sprintf("tracepath -n %s    # where it gets small, to be mended there: no link keeps its IPv6 addresses below 1280 bytes", a)
			}
			out = append(out, Finding{Fail, fmt.Sprintf("the way to node %s (%s) carries %d bytes, %s %d: larger packets vanish", names[a], a, p.MTU, p.Link, p.LinkMTU), fix, false})
		}
	}
	if answered == 0 && len(ways) > 0 {
		return []Finding{{Warn, fmt.Sprintf("none of the %d addresses of other nodes answers: what their paths carry is not known", len(ways)), "netd test", false}}
	}
	if len(out) == 0 {
		return well("%d of %d addresses of nodes answer, each at the link's MTU", answered, len(ways))
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
		ways := make([]Way, len(ends))
		for i, a := range ends {
			ways[i].To = a
		}
		paths, err := s.Wire.Paths(ctx, ways)
		if err != nil {
			return unseen(err, "")
		}
		left := 3 // a fault of this host's shows at once
		for i, a := range ends {
			if paths[i].MTU == 0 || left == 0 {
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
			put("/etc/systemd/network/"+s.firstLink(), "[Match]\nOriginalName=vxlan.netd netdvx* netdx*\n\n[Link]\nTransmitChecksumOffload=no\n") + "    # for whenever they are made anew\n" + strings.Join(fix, "\n"), false}}
	}
	if tried == 0 {
		return well("not tried: none of %d tunnel ends answers a ping (netd test)", len(names))
	}
	return well("%d of %d tunnel ends answer TCP", tried, len(names))
}

// firstLink is a name of a .link file that comes before those that are there: of those that match a link the first counts.
func (s *Site) firstLink() string {
	const name = "00-netd.link"
	first := ""
	for _, file := range s.byName("network/*.link", units...) {
		if base := path.Base(file); base != name && (first == "" || base < first) {
			first = base
		}
	}
	return before(first, name)
}
