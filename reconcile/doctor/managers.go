package doctor

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// said reports whether a file of the patterns has a line that begins with the text.
func (s *Site) said(text string, patterns ...string) bool {
	for _, p := range patterns {
		for _, name := range s.Glob(p) {
			for line := range strings.Lines(s.file(name)) {
				if strings.HasPrefix(strings.ReplaceAll(strings.TrimSpace(line), " ", ""), text) {
					return true
				}
			}
		}
	}
	return false
}

func networkd(_ context.Context, s *Site) (out []Finding) {
	if !s.has("/run/systemd/netif/state") {
		return well("it does not run")
	}
	conf := []string{"/etc/systemd/networkd.conf", "/etc/systemd/networkd.conf.d/*.conf", "/run/systemd/networkd.conf.d/*.conf", "/usr/lib/systemd/networkd.conf.d/*.conf"}
	if !s.said("ManageForeignRoutes=no", conf...) && !s.said("ManageForeignRoutes=false", conf...) {
		out = append(out, Finding{Fail, "systemd-networkd runs without ManageForeignRoutes=no: it removes netd's routes from links that it manages",
			put("/etc/systemd/networkd.conf.d/netd.conf", "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n") + "\nsystemctl restart systemd-networkd    # it reads this file only when it starts", false})
	}
	for _, index := range s.Glob("/sys/class/net/*/ifindex") {
		link := path.Base(path.Dir(index))
		if !netdLink(link) {
			continue
		}
		state := s.file("/run/systemd/netif/links/" + s.file(index))
		if i := strings.Index(state, "NETWORK_FILE="); i >= 0 {
			file, _, _ := strings.Cut(state[i+len("NETWORK_FILE="):], "\n") // the first by name that matches: the fix's is before all
			out = append(out, Finding{Fail, fmt.Sprintf("systemd-networkd manages %s by %s", link, file),
				put("/etc/systemd/network/00-netd.network", "[Match]\nName=netd* vxlan.netd tunl0\n\n[Link]\nUnmanaged=yes\n") + "\nnetworkctl reload    # with all that else was written into files of networkd's since it read them", false})
		}
	}
	if len(out) == 0 {
		return well("it runs and leaves netd's links and routes alone")
	}
	return out
}

// netdLink reports whether a link has a name of netd's.
func netdLink(name string) bool {
	return strings.HasPrefix(name, "netd") || name == "vxlan.netd" || name == "tunl0"
}

func networkManager(_ context.Context, s *Site) []Finding {
	if !s.has("/run/NetworkManager") {
		return well("it does not run")
	}
	for _, p := range []string{"/etc/NetworkManager/NetworkManager.conf", "/etc/NetworkManager/conf.d/*.conf", "/usr/lib/NetworkManager/conf.d/*.conf", "/run/NetworkManager/conf.d/*.conf"} {
		for _, name := range s.Glob(p) {
			if strings.Contains(s.file(name), "interface-name:netd*") {
				return well("%s keeps it off netd's links", name)
			}
		}
	}
	return []Finding{{Fail, "NetworkManager runs and takes netd's links for its own: it runs DHCP on them and deletes their routes",
		put("/etc/NetworkManager/conf.d/90-netd.conf", "[keyfile]\nunmanaged-devices+=interface-name:netd*;interface-name:vxlan.netd;interface-name:tunl0\n") + "\nnmcli general reload", true}}
}
