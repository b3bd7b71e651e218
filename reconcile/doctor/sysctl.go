package doctor

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile/desired"
)

// setting is a line of a sysctl.d file: a path below /proc/sys, which may be a pattern, and its value.
type setting struct{ file, path, value string }

// settings are the lines of all sysctl.d files in the order in which systemd-sysctl takes them (sysctl.d(5)).
func (s *Site) settings() (out []setting) {
	for _, name := range s.byName("sysctl.d/*.conf", "/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib") {
		for line := range strings.Lines(s.file(name)) {
			key, value, _ := strings.Cut(strings.TrimLeft(strings.TrimSpace(line), "-"), "=") // "-key" alone: no pattern sets it
			if key = strings.TrimSpace(key); key != "" && !strings.ContainsAny(key[:1], "#;") {
				out = append(out, setting{name, sysctlPath(key), strings.TrimSpace(value)})
			}
		}
	}
	return out
}

// sysctlPath is the path of a key: where its first separator is a dot, dots and slashes change places.
func sysctlPath(key string) string {
	if i := strings.IndexAny(key, "./"); i < 0 || key[i] == '/' {
		return strings.TrimPrefix(key, "/")
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '.':
			return '/'
		case '/':
			return '.'
		}
		return r
	}, key)
}

// given is what a new link's setting becomes by the files, and by which: the last line that names it, else the last pattern
// that matches it.
func given(lines []setting, link, what string) (by setting) {
	want := "net/ipv4/conf/" + link + "/" + what
	named := false
	for _, l := range lines {
		if l.path == want {
			by, named = l, true
		} else if ok, _ := path.Match(l.path, want); ok && !named && strings.ContainsAny(l.path, "*?[") {
			by = l
		}
	}
	return by
}

// newLinks looks at what udev gives each new link, after netd made it.
func newLinks(_ context.Context, s *Site) (out []Finding) {
	lines := s.settings()
	var tunnels []string
	for _, n := range s.Config.Networks {
		if n.Uses(config.ModeIPIP) && !slices.Contains(tunnels, "tunl0") {
			tunnels = append(tunnels, "tunl0")
		}
		if dev := desired.VXLANName(n); n.Uses(config.ModeVXLAN) && !slices.Contains(tunnels, dev) {
			tunnels = append(tunnels, dev)
		}
	}
	var seen []string
	last := ""
	fix := "# netd\n" // all that it may need: what an earlier fix put there is not forgotten
	look := func(link, what, bad, good, key string) {
		fix += fmt.Sprintf("-net.ipv4.conf.%s.%s = %s\n", key, what, good)
		if by := given(lines, link, what); by.value == bad {
			if text := fmt.Sprintf("%s says %s = %s", by.file, strings.ReplaceAll(by.path, "/", "."), by.value); !slices.Contains(seen, text) {
				seen, last = append(seen, text), max(last, path.Base(by.file))
			}
		}
	}
	for _, t := range tunnels {
		key := strings.ReplaceAll(t, ".", "/")
		look(t, "forwarding", "0", "1", key)
		look(t, "rp_filter", "1", "2", key)
	}
	look("netd0", "forwarding", "0", "1", "netd*") // a container's host end
	if len(seen) > 0 {
		out = append(out, Finding{Warn, strings.Join(seen, "; ") + ": udev gives that to each new link of netd's, after netd made it", put("/etc/sysctl.d/"+after(last, "zzz-netd.conf"), fix), true})
	}
	if by := given(lines, s.Link, "forwarding"); s.Link != "" && by.value == "0" {
		underlay := put("/etc/sysctl.d/"+after(path.Base(by.file), "zz-netd-underlay.conf"), fmt.Sprintf("net.ipv4.conf.%s.forwarding = 1\n", strings.ReplaceAll(s.Link, ".", "/")))
		if strings.ContainsAny(s.Link, `=*?[{\`) { // it would be a pattern, or end there
			underlay = "echo 1 > " + word("/proc/sys/net/ipv4/conf/"+s.Link+"/forwarding") + "    # each time: no line of sysctl.d can name this link"
		}
		out = append(out, Finding{Warn, fmt.Sprintf("%s says %s = 0: at the next boot, and when %s comes anew, it does not forward until netd looks", by.file, strings.ReplaceAll(by.path, "/", "."), s.Link),
			underlay, false})
	}
	if len(out) == 0 {
		return well("none of %d lines of sysctl.d", len(lines))
	}
	return out
}
