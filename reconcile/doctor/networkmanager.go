package doctor

import (
	"context"
	"errors"
	"path"
	"strings"
)

// nmFolders are those of NetworkManager's configuration, read from the last to the first.
var nmFolders = []string{"/etc/NetworkManager", "/run/NetworkManager", "/usr/lib/NetworkManager"}

// netdLinks are netd's links as NetworkManager lists them.
const netdLinks = "interface-name:netd*;interface-name:vxlan.netd;interface-name:tunl0"

// networkManager asks NetworkManager itself of netd's links that are there, and its files of those that will be. Either may say
// what the other does not: it reads its files when it starts or is told to, a section of them counts for links that it has not seen
// yet, and what it was told of one link (nmcli device set) for no other.
func networkManager(ctx context.Context, s *Site) []Finding {
	if !s.has("/run/NetworkManager") {
		return well("it does not run")
	}
	text, err := s.Run(ctx, "nmcli", "-t", "-f", "GENERAL.DEVICE,GENERAL.STATE", "device", "show")
	if err != nil {
		var exit interface{ ExitCode() int }
		if errors.As(err, &exit) && exit.ExitCode() == 8 { // nmcli(1)
			return well("it does not run")
		}
		return unseen(err, "nmcli general status    # what it says, and whether it is installed")
	}
	taken := takenLinks(text)
	by, lists := s.unmanaged()
	if len(taken) == 0 && by != "" {
		return well("%s keeps it off netd's links", by)
	}
	var names, fix []string
	for _, t := range taken {
		names = append(names, t[0]+" ("+t[1]+")")
	}
	evidence := "NetworkManager has taken " + strings.Join(names, ", ")
	switch {
	case len(taken) == 0:
		evidence = "NetworkManager will take netd's links when they are made anew, since no file keeps it off them"
	case by != "":
		evidence += ", though " + by + " says otherwise"
	}
	if by == "" {
		name := "zzz-netd.conf" // not that of the package's file
		if strings.HasPrefix(lists, nmFolders[0]+"/conf.d/") {
			name = after(path.Base(lists), name)
		}
		fix = append(fix, put(nmFolders[0]+"/conf.d/"+name, "[keyfile]\nunmanaged-devices+="+netdLinks+"\n\n[device-netd]\nmatch-device="+netdLinks+"\nmanaged=0\n"))
	}
	fix = append(fix, "nmcli general reload conf")
	for _, t := range taken {
		fix = append(fix, "nmcli device set "+word(t[0])+" managed no")
	}
	return []Finding{{Fail, evidence + ": it runs DHCP on them and deletes their routes", strings.Join(fix, "\n"), true}}
}

// takenLinks are netd's links that are NetworkManager's by what nmcli prints, each with the state it has there. nmcli's words are
// those of its user's language, the numbers not (NMDeviceState).
func takenLinks(text string) (out [][2]string) {
	device := ""
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		switch key {
		case "GENERAL.DEVICE":
			device = value
		case "GENERAL.STATE":
			number, state, _ := strings.Cut(value, " ")
			if netdLink(device) && number != "0" && number != "10" { // unknown, unmanaged
				out = append(out, [2]string{device, strings.TrimSuffix(strings.TrimPrefix(state, "("), ")")})
			}
		}
	}
	return out
}

// unmanaged is the file that keeps NetworkManager off links of netd's that it sees for the first time, and the last that says
// which links it is kept off without naming them.
func (s *Site) unmanaged() (by, lists string) {
	const ours = "interface-name:netd*"
	all := s.byName("conf.d/*.conf", nmFolders...)
	var files []string
	for i := len(nmFolders) - 1; i >= 0; i-- {
		if i == 0 {
			files = append(files, nmFolders[0]+"/NetworkManager.conf")
		}
		for _, name := range all {
			if strings.HasPrefix(name, nmFolders[i]+"/") {
				files = append(files, name)
			}
		}
	}
	matches, managed := map[string]string{}, map[string]line{}
	for _, l := range s.sections(files) {
		switch {
		case l.section == "keyfile" && l.key == "unmanaged-devices":
			switch has := strings.Contains(l.value, ours); {
			case l.op == "=" && !has, l.op == "-" && has:
				by, lists = "", l.file
			case l.op != "-" && has:
				by = l.file
			}
		case strings.HasPrefix(l.section, "device") && l.key == "match-device":
			matches[l.section] = l.value
		case strings.HasPrefix(l.section, "device") && l.key == "managed":
			managed[l.section] = l
		}
	}
	for section, l := range managed {
		if by == "" && strings.Contains(matches[section], ours) && isNo(l.value) {
			by = l.file
		}
	}
	return by, lists
}
