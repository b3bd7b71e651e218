package speaker

import (
	"testing"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// TestNotified reads NOTIFICATIONs as gobgp logs them.
func TestNotified(t *testing.T) {
	for _, x := range []struct {
		msg       string
		code, sub uint8
		text      string
		want      string
	}{
		{"received notification", 6, 2, "", "it closed the session: administrative shutdown (6/2)"},
		{"received notification", 6, 2, "new cables\x1b[2J", `it closed the session: administrative shutdown (6/2): "new cables?[2J"`},
		{"received notification", 6, 10, "", "it closed the session: BFD down (6/10)"},
		{"received notification", 6, 99, "", "it closed the session: cease (6/99)"},
		{"received notification", 3, 3, "", "it closed the session: missing well-known attribute (3/3)"},
		{"received notification", 77, 1, "", "it closed the session: unknown error (77/1)"},
		{"received notification", 2, 2, "", "it closed the session: it expects another AS than this node's"},
		{"sent notification", 4, 0, "", ""},
		{"sent notification", 6, 3, "", "this end closed the session: peer de-configured (6/3)"},
	} {
		f := gobgplog.Fields{"Code": x.code, "Subcode": x.sub}
		if x.text != "" {
			f["Communicated-Reason"] = x.text
		}
		if got := inWords(x.msg, f); got != x.want {
			t.Errorf("%s %d/%d: %q, want %q", x.msg, x.code, x.sub, got, x.want)
		}
	}
}
