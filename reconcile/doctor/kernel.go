package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"netd/config"
	"netd/reconcile/object"
)

func module(_ context.Context, s *Site) (out []Finding) {
	need := []string{"nf_tables"}
	if s.uses(config.ModeIPIP) {
		need = append(need, "ipip")
	}
	if s.uses(config.ModeVXLAN) {
		need = append(need, "vxlan")
	}
	release := s.file("/proc/sys/kernel/osrelease")
	dir := "/lib/modules/" + release
	for _, m := range need {
		builtin := strings.Contains(s.file(dir+"/modules.builtin"), "/"+m+".ko")
		switch {
		case builtin, s.has("/sys/module/" + m), m == "ipip" && s.has("/proc/sys/net/ipv4/conf/tunl0"), m == "nf_tables" && s.nftWorks():
			continue
		case strings.Contains(s.file(dir+"/modules.dep"), "/"+m+".ko"):
			out = append(out, Finding{Warn, fmt.Sprintf("the module %s is there and not loaded; a hardened netd.service may not load it", m), "modprobe " + m, true})
		default:
			out = append(out, Finding{Fail, fmt.Sprintf("the kernel %s has no %s: neither loaded, nor built in, nor under %s", release, m, dir),
				s.modules(release) + "    # the kernel with all its modules; then reboot into it. Or use another mode", false})
		}
	}
	if len(out) == 0 {
		return well("%s", strings.Join(need, ", "))
	}
	return out
}

// modules is the command that installs all modules of a kernel.
func (s *Site) modules(release string) string {
	os := s.file("/etc/os-release")
	switch {
	case strings.Contains(os, "ID=ubuntu"):
		return "apt-get install linux-modules-extra-" + release
	case s.has("/usr/bin/dnf"):
		return "dnf install kernel-modules-extra"
	default:
		return "apt-get install linux-image-$(dpkg --print-architecture)"
	}
}

// nftWorks: a kernel without loadable modules shows some built-in ones nowhere.
func (s *Site) nftWorks() bool {
	_, err := s.rules(context.Background())
	return err == nil
}

// tunnels are the devices of netd's networks that are there.
func (s *Site) tunnels() (out []string) {
	for _, name := range []string{"tunl0", "vxlan.netd"} {
		if s.has("/proc/sys/net/ipv4/conf/" + name) {
			out = append(out, name)
		}
	}
	for _, dir := range append(s.Glob("/proc/sys/net/ipv4/conf/netdvx*"), s.Glob("/proc/sys/net/ipv4/conf/netdx*")...) {
		out = append(out, path.Base(dir))
	}
	return out
}

func (s *Site) sysctl(link, name string) string {
	return s.file("/proc/sys/net/ipv4/conf/" + link + "/" + name)
}

func address(ctx context.Context, s *Site) (out []Finding) {
	var sound []string
	for _, want := range []netip.Prefix{s.Node.Address, s.Node.Address6} {
		if !want.IsValid() {
			continue
		}
		held, ok := s.Held[want.Addr()]
		link := s.Holder[want.Addr()]
		if link == "" {
			link = s.Link
		}
		if link == "" {
			link = s.onlyLink()
		}
		var claims map[netip.Addr][]object.MAC
		if !ok && link != someLink {
			claims, _ = s.Wire.Claims(ctx, link, []netip.Addr{want.Addr()})
		}
		keep := "" // the kernel takes the other addresses of a prefix with its first one
		if want.Addr().Is4() {
			keep = "echo 1 > " + word("/proc/sys/net/ipv4/conf/"+link+"/promote_secondaries") + " && "
		}
		switch {
		case len(claims[want.Addr()]) > 0:
			out = append(out, Finding{Fail, fmt.Sprintf("no link of this host holds the node's address %s, which %s on %s has: this host is another node, or a copy of that one", want.Addr(), claims[want.Addr()][0], link),
				"hostnamectl set-hostname NAME    # of the node that this host is; or --node NAME", false})
		case !ok:
			out = append(out, Finding{Fail, fmt.Sprintf("no link of this host holds the node's address %s", want.Addr()),
				fmt.Sprintf("ip addr add %s dev %s    # and where the link is set up", want, word(link)), false})
		case held.Bits() != want.Bits() && !want.Addr().IsLoopback() && s.Node.Interface == "":
			out = append(out, Finding{Warn, fmt.Sprintf("%s holds the node's address as %s, the file has %s: the two disagree which nodes are near", link, held, want),
				keep + fmt.Sprintf("ip addr add %s dev %s && ip addr del %s dev %[2]s    # and where the link is set up; or mend the file", want, word(link), held), false})
		default:
			sound = append(sound, held.String())
		}
	}
	switch s.Dead {
	case "is down":
		out = append(out, Finding{Fail, fmt.Sprintf("%s, which holds the node's address, is down: no other node is reached", s.Link), "ip link set dev " + word(s.Link) + " up", false})
	case "has no carrier":
		out = append(out, Finding{Fail, fmt.Sprintf("%s, which holds the node's address, has no carrier: no other node is reached", s.Link),
			"ip -d link show dev " + word(s.Link) + "    # a wire, a switch's port, or what a bridge or bond is made of: mend it there", false})
	}
	if len(out) == 0 {
		return well("%s", strings.Join(sound, ", "))
	}
	return out
}

// someLink is a word for a link that is not known.
const someLink = "LINK"

// onlyLink is the host's link that nobody made for containers, where it has one alone; else someLink.
func (s *Site) onlyLink() string {
	var links []string
	for _, dir := range s.Glob("/proc/sys/net/ipv4/conf/*") {
		link := path.Base(dir)
		if link != "all" && link != "default" && link != "lo" && !netdLink(link) &&
			!slices.ContainsFunc([]string{"docker", "br-", "veth", "virbr", "cni"}, func(p string) bool { return strings.HasPrefix(link, p) }) {
			links = append(links, link)
		}
	}
	if len(links) == 1 {
		return links[0]
	}
	return someLink
}

func forwarding(_ context.Context, s *Site) []Finding {
	if s.Link == "" {
		return well("not looked at: no link holds the node's address")
	}
	if s.sysctl(s.Link, "forwarding") == "0" && !s.Applied {
		return []Finding{{Warn, fmt.Sprintf("net.ipv4.conf.%s.forwarding is 0, and netd is not applied here: it switches that, and guards it so that the host becomes no router", s.Link), "netd apply", false}}
	}
	if s.sysctl(s.Link, "forwarding") == "0" {
		return []Finding{{Fail, fmt.Sprintf("net.ipv4.conf.%s.forwarding is 0: nothing that comes in by it reaches a container", s.Link),
			"echo 1 > " + word("/proc/sys/net/ipv4/conf/"+s.Link+"/forwarding"), true}}
	}
	return well("%s forwards", s.Link)
}

func rpFilter(_ context.Context, s *Site) (out []Finding) {
	all, _ := strconv.Atoi(s.sysctl("all", "rp_filter"))
	devices := s.tunnels()
	for _, dev := range devices {
		own, _ := strconv.Atoi(s.sysctl(dev, "rp_filter"))
		if max(all, own) == 1 { // the larger counts (Documentation/networking/ip-sysctl.rst)
			out = append(out, Finding{Fail, fmt.Sprintf("%s checks sources strictly (rp_filter: all %d, %s %d): answers of other nodes' own addresses are dropped", dev, all, dev, own),
				"echo 2 > " + word("/proc/sys/net/ipv4/conf/"+dev+"/rp_filter"), true})
		}
	}
	if s.Link != "" && slices.ContainsFunc(s.Config.Networks, func(n config.Network) bool { return len(n.Receive) > 0 }) {
		if own, _ := strconv.Atoi(s.sysctl(s.Link, "rp_filter")); max(all, own) == 1 {
			out = append(out, Finding{Fail, fmt.Sprintf("%s checks sources strictly while two modes are received", s.Link),
				"echo 2 > " + word("/proc/sys/net/ipv4/conf/"+s.Link+"/rp_filter"), true})
		}
	}
	if len(out) == 0 {
		return well("all %d; tunnels: %s", all, strings.Join(append(devices, "no more"), ", "))
	}
	return out
}
