package doctor

import (
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// byName are files in the order of their names, whichever folder each is in: one in an earlier folder hides others of its name.
func (s *Site) byName(pattern string, dirs ...string) (out []string) {
	files := map[string]string{}
	for _, dir := range dirs {
		for _, name := range s.Glob(dir + "/" + pattern) {
			if base := path.Base(name); files[base] == "" {
				files[base] = name
			}
		}
	}
	for _, base := range slices.Sorted(maps.Keys(files)) {
		out = append(out, files[base])
	}
	return out
}

// after is a file's name, or one like it that comes after another's.
func after(another, name string) string {
	for _, first := range []string{"", "zzz-", "~"} {
		if first+name > another {
			return first + name
		}
	}
	return "~~" + name
}

// before is a file's name, or one like it that comes before another's.
func before(another, name string) string {
	for _, as := range []string{name, strings.TrimPrefix(name, "0")} {
		if another == "" || as < another {
			return as
		}
	}
	return "!" + name
}

// line is one of a file of sections.
type line struct{ file, section, key, op, value string }

// sections are the lines of such files (systemd.syntax(7), NetworkManager.conf(5)).
func (s *Site) sections(files []string) (out []line) {
	for _, name := range files {
		section := ""
		for text := range strings.Lines(s.file(name)) {
			text = strings.TrimSpace(text)
			if inner, ok := strings.CutPrefix(text, "["); ok {
				section = strings.TrimSuffix(inner, "]")
				continue
			}
			key, value, ok := strings.Cut(text, "=")
			if !ok || strings.ContainsAny(text[:1], "#;") {
				continue
			}
			l := line{name, section, strings.TrimSpace(key), "=", strings.TrimSpace(value)}
			if n := len(l.key); n > 0 && strings.ContainsAny(l.key[n-1:], "+-") {
				l.key, l.op = strings.TrimSpace(l.key[:n-1]), l.key[n-1:]
			}
			out = append(out, l)
		}
	}
	return out
}

// isNo are the words for no, in either program's files.
func isNo(value string) bool {
	return slices.Contains([]string{"no", "n", "false", "f", "off", "0"}, strings.ToLower(value))
}

// units are the folders of systemd's configuration, the first for the host's own.
var units = []string{"/etc/systemd", "/run/systemd", "/usr/local/lib/systemd", "/usr/lib/systemd", "/lib/systemd"}

func networkd(_ context.Context, s *Site) (out []Finding) {
	if !s.has("/run/systemd/netif/state") {
		return well("it does not run")
	}
	said := line{value: "yes"} // by nobody
	for _, l := range s.sections(append(s.byName("networkd.conf", units...), s.byName("networkd.conf.d/*.conf", units...)...)) {
		if l.section == "Network" && l.key == "ManageForeignRoutes" {
			said = l
		}
	}
	if !isNo(said.value) {
		how := "without ManageForeignRoutes=no"
		if said.file != "" {
			how += fmt.Sprintf(" (%s has it %s, after all others)", said.file, said.value)
		}
		name := "zz-netd.conf"
		if strings.Contains(said.file, ".d/") {
			name = after(path.Base(said.file), name)
		}
		out = append(out, Finding{Fail, "systemd-networkd runs " + how + ": it removes netd's routes from links that it manages",
			put("/etc/systemd/networkd.conf.d/"+name, "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\n") + "\nsystemctl restart systemd-networkd    # it reads this file only when it starts", false})
	}
	for _, index := range s.Glob("/sys/class/net/*/ifindex") {
		link := path.Base(path.Dir(index))
		if !netdLink(link) {
			continue
		}
		state := s.file("/run/systemd/netif/links/" + s.file(index))
		if i := strings.Index(state, "NETWORK_FILE="); i >= 0 {
			file, _, _ := strings.Cut(state[i+len("NETWORK_FILE="):], "\n") // the first by name that matches
			out = append(out, Finding{Fail, fmt.Sprintf("systemd-networkd manages %s by %s", link, file),
				put("/etc/systemd/network/"+before(path.Base(file), "00-netd.network"), "[Match]\nName=netd* vxlan.netd tunl0\n\n[Link]\nUnmanaged=yes\n") + "\nnetworkctl reload    # with all that else was written into files of networkd's since it read them", false})
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
