package doctor

import (
	"context"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"netd/config"
)

// socket is a line of /proc/net/udp or tcp (proc(5)).
type socket struct {
	port  int
	inode string
}

// sockets are those that are bound to a local port and to no far end.
func (s *Site) sockets(proto string) (out []socket) {
	for _, table := range []string{proto, proto + "6"} {
		for line := range strings.Lines(s.file("/proc/net/" + table)) {
			f := strings.Fields(line)
			if len(f) < 10 || !strings.HasSuffix(f[2], ":0000") {
				continue
			}
			_, hex, _ := strings.Cut(f[1], ":")
			if port, err := strconv.ParseInt(hex, 16, 32); err == nil {
				out = append(out, socket{int(port), f[9]})
			}
		}
	}
	return out
}

// holder is a process that has a socket open: its number and its command; nobody's where the kernel itself has it.
func (s *Site) holder(inode string) (pid, command string, found bool) {
	want := "socket:[" + inode + "]"
	for _, fd := range s.Glob("/proc/[0-9]*/fd/*") {
		if s.Readlink(fd) == want {
			pid = strings.Split(fd, "/")[2]
			return pid, strings.TrimSpace(strings.ReplaceAll(s.file("/proc/"+pid+"/cmdline"), "\x00", " ")), true
		}
	}
	return "", "", false
}

// unitName is what a system unit's name may consist of. Whoever may make control groups of his own names them as he likes.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.@\\-]+\.service$`)

// stop is the command that ends a process: its unit's, where it has one of the system's. Below a unit, and in user.slice, others
// make and name groups.
func (s *Site) stop(pid, command string) string {
	switch {
	case pid == "1":
		return "systemctl list-sockets --all    # which of them has it: systemctl disable --now that"
	case path.Base(strings.SplitN(command, " ", 2)[0]) == "docker-proxy": // its unit is Docker's own
		return "docker ps    # whose published port it is: docker rm -f that"
	}
	for line := range strings.Lines(s.file("/proc/" + pid + "/cgroup")) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		if len(f) < 3 || f[1] != "" && f[1] != "name=systemd" {
			continue
		}
		parts := strings.Split(f[2], "/")[1:]
		i := slices.IndexFunc(parts, func(part string) bool { return !strings.HasSuffix(part, ".slice") })
		if i >= 0 && parts[0] != "user.slice" && unitName.MatchString(parts[i]) {
			return "systemctl disable --now '" + parts[i] + "'"
		}
	}
	return "kill " + pid
}

// taken finds who has a port open that ours does not match.
func (s *Site) taken(proto string, port int, ours func(command string) bool) (out []Finding) {
	for _, k := range s.sockets(proto) {
		if k.port != port || k.inode == "0" {
			continue
		}
		pid, command, found := s.holder(k.inode)
		if !found || ours(command) {
			continue
		}
		out = append(out, Finding{Fail, fmt.Sprintf("%s port %d is held by pid %s (%s)", strings.ToUpper(proto), port, pid, command),
			s.stop(pid, command) + "    # or give netd another port in the file", false})
	}
	return out
}

func udpPort(_ context.Context, s *Site) (out []Finding) {
	var ports []int
	for _, n := range s.Config.Networks {
		if n.Uses(config.ModeVXLAN) && !slices.Contains(ports, int(n.Port)) {
			ports = append(ports, int(n.Port))
			out = append(out, s.taken("udp", int(n.Port), func(string) bool { return false })...)
		}
	}
	if len(out) == 0 {
		return well("of %d ports none is a program's", len(ports))
	}
	return out
}

// settled are the protocols of routes that nobody's end takes along: the kernel's, the host's own and netd's.
var settled = []string{"unspec", "0", "redirect", "1", "kernel", "2", "boot", "3", "static", "4", "ra", "9", "dhcp", "16", "netd", "142"}

// learned are the default routes of a routing program, each with the command that shows it.
func (s *Site) learned(ctx context.Context) (words, commands []string) {
	for _, v6 := range []bool{false, true} {
		for _, r := range s.defaultRoutes(ctx, v6) {
			if slices.Contains(settled, r.Protocol) {
				continue
			}
			way := ""
			for _, hop := range append([]hop{r.hop}, r.Nexthops...) {
				if gateway := hop.Gateway + hop.Via.Host; gateway != "" {
					way += " via " + gateway
				}
				if hop.Dev != "" {
					way += " dev " + hop.Dev
				}
			}
			words = append(words, fmt.Sprintf("default%s of protocol %s", way, r.Protocol))
			command := "ip " + map[bool]string{true: "-6 "}[v6] + "route show default table all proto " + word(r.Protocol)
			if !slices.Contains(commands, command) {
				commands = append(commands, command)
			}
		}
	}
	return words, commands
}

func bgpPort(ctx context.Context, s *Site) []Finding {
	if !s.uses(config.ModeBGP) && len(s.Config.Peers) == 0 {
		return well("no BGP")
	}
	port := int(s.Config.BGP.ListenPort)
	out := s.taken("tcp", port, func(command string) bool { return slices.Contains(strings.Fields(command), "speaker") })
	if len(out) == 0 {
		return well("port %d is free, or the speaker's", port)
	}
	if words, commands := s.learned(ctx); len(words) > 0 {
		for i := range out {
			out[i].Evidence += "; with a routing program go the routes that it gave the kernel, and this host has " + strings.Join(words, ", ")
			out[i].Fix = strings.Join(commands, "\n") + "    # if that is its own: give this host another default route first, or the next command may cut it off\n" + out[i].Fix
		}
	}
	return out
}
