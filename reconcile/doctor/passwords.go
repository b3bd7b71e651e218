package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
		quoted := "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
		fix := fmt.Sprintf("chown root %s && chmod 600 %[1]s", quoted)
		if errors.Is(err, fs.ErrNotExist) {
			fix = fmt.Sprintf("install -m 600 /dev/stdin %s    # then type the password of the other end, and Ctrl-D", quoted)
		}
		out = append(out, Finding{Level: Fail, Evidence: err.Error(), Fix: fix})
	}
	switch {
	case len(out) > 0:
		return out
	case len(files) == 0:
		return well("no session of this node has one")
	}
	return well("%s: root's alone", strings.Join(files, ", "))
}
