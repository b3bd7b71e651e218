package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"netd/reconcile/desired"
)

func passwordFiles(_ context.Context, s *Site) (out []Finding) {
	files := desired.PasswordFiles(s.Config, s.Node.Name)
	for _, name := range files {
		err := s.Password(name)
		if err == nil {
			continue
		}
		evidence, fix := err.Error(), ""
		switch at := s.Place(name); {
		case at.Loose != "":
			evidence += fmt.Sprintf("; and others than root may put another file in its place, in %s", at.Loose)
			fix = fmt.Sprintf("install -D -m 600 /dev/stdin %s    # then type the password of the other end, and Ctrl-D; and name that file in the file", word("/etc/netd/"+path.Base(name)))
		case errors.Is(err, fs.ErrNotExist), at.Sound:
			fix = fmt.Sprintf("install -D -m 600 /dev/stdin %s    # then type the password of the other end, and Ctrl-D", word(name))
		case !at.Regular:
			fix = fmt.Sprintf("ls -ld %s    # what is there; and name another file in the file", word(name))
		case at.Link != "": // chown and chmod would be for what it leads to, whose ever that is
			evidence += fmt.Sprintf("; it is a link to %s", at.Link)
			fix = fmt.Sprintf("(umask 077 && cat %s > %s && mv -fT %[2]s %[1]s)    # a copy in the place of the link, which leaves the other file alone", word(name), word(name+".netd"))
		default:
			fix = fmt.Sprintf("chown -h root %s && chmod 600 %[1]s", word(name))
		}
		out = append(out, Finding{Level: Fail, Evidence: evidence, Fix: fix})
	}
	switch {
	case len(out) > 0:
		return out
	case len(files) == 0:
		return well("no session of this node has one")
	}
	return well("%s: root's alone", strings.Join(files, ", "))
}
