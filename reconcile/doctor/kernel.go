package doctor

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"netd/config"
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
				"install the kernel's extra modules (linux-modules-extra-" + release + "), boot one that has " + m + ", or use another mode", false})
		}
	}
	if len(out) == 0 {
		return well("%s", strings.Join(need, ", "))
	}
	return out
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

func forwarding(_ context.Context, s *Site) (out []Finding) {
	if s.Link == "" {
		return []Finding{{Warn, "no link of this host holds the node's address", "netd plan", false}}
	}
	if v := s.sysctl(s.Link, "forwarding"); v == "0" {
		out = append(out, Finding{Fail, fmt.Sprintf("net.ipv4.conf.%s.forwarding is 0: nothing that comes in by it reaches a container", s.Link),
			fmt.Sprintf("echo 1 > /proc/sys/net/ipv4/conf/%s/forwarding", s.Link), true})
	}
	// udev gives each new link what these files say, after netd did. The last word of a key counts (sysctl.d(5)).
	for _, pattern := range []string{"/etc/sysctl.conf", "/etc/sysctl.d/*.conf", "/run/sysctl.d/*.conf", "/usr/lib/sysctl.d/*.conf"} {
		for _, name := range s.Glob(pattern) {
			if path.Base(name) == "60-netd.conf" {
				continue
			}
			for line := range strings.Lines(s.file(name)) {
				key, value, ok := strings.Cut(strings.TrimLeft(strings.TrimSpace(line), "-"), "=")
				key, value = strings.ReplaceAll(strings.TrimSpace(key), "/", "."), strings.TrimSpace(value)
				f := strings.Split(key, ".")
				if !ok || len(f) < 5 || !strings.HasPrefix(key, "net.ipv4.conf.") {
					continue
				}
				link, what := strings.Join(f[3:len(f)-1], "."), f[len(f)-1]
				all := link == "*" || strings.HasPrefix(link, "netd") || link == s.Link
				if all && what == "forwarding" && value == "0" || all && link != s.Link && what == "rp_filter" && value == "1" {
					if !s.has("/usr/lib/sysctl.d/60-netd.conf") && !s.has("/etc/sysctl.d/60-netd.conf") || what == "forwarding" {
						out = append(out, Finding{Warn, fmt.Sprintf("%s says %s = %s, which udev gives each new link after netd did", name, key, value),
							"take the line out of " + name + ", or except netd's links as packaging/sysctl.d/60-netd.conf does", false})
					}
				}
			}
		}
	}
	if len(out) == 0 {
		return well("%s forwards", s.Link)
	}
	return out
}

func rpFilter(_ context.Context, s *Site) (out []Finding) {
	all, _ := strconv.Atoi(s.sysctl("all", "rp_filter"))
	devices := s.tunnels()
	for _, dev := range devices {
		own, _ := strconv.Atoi(s.sysctl(dev, "rp_filter"))
		if max(all, own) == 1 { // the larger counts (Documentation/networking/ip-sysctl.rst)
			out = append(out, Finding{Fail, fmt.Sprintf("%s checks sources strictly (rp_filter: all %d, %s %d): answers of other nodes' own addresses are dropped", dev, all, dev, own),
				fmt.Sprintf("echo 2 > /proc/sys/net/ipv4/conf/%s/rp_filter", dev), true})
		}
	}
	if s.Link != "" && slices.ContainsFunc(s.Config.Networks, func(n config.Network) bool { return len(n.Receive) > 0 }) {
		if own, _ := strconv.Atoi(s.sysctl(s.Link, "rp_filter")); max(all, own) == 1 {
			out = append(out, Finding{Fail, fmt.Sprintf("%s checks sources strictly while two modes are received", s.Link),
				fmt.Sprintf("echo 2 > /proc/sys/net/ipv4/conf/%s/rp_filter", s.Link), true})
		}
	}
	if len(out) == 0 {
		return well("all %d; tunnels: %s", all, strings.Join(append(devices, "no more"), ", "))
	}
	return out
}
