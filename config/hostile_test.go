package config

import (
	"fmt"
	"strings"
	"testing"
)

// hostile is what would overflow a stack or fill the memory.
var hostile = map[string]string{
	"brackets":         "locals {\n a = " + strings.Repeat("[", 200_000) + strings.Repeat("]", 200_000) + "\n}",
	"parentheses":      "locals {\n a = " + strings.Repeat("(", 200_000) + "1" + strings.Repeat(")", 200_000) + "\n}",
	"blocks":           strings.Repeat("a {", 200_000),
	"templates":        "locals {\n a = " + strings.Repeat(`"${`, 200_000) + "1" + strings.Repeat(`}"`, 200_000) + "\n}",
	"unary":            "locals {\n a = " + strings.Repeat("!", 200_000) + "true\n}",
	"minus":            "locals {\n a = " + strings.Repeat("-", 200_000) + "1\n}",
	"ternary":          "locals {\n a = " + strings.Repeat("true ? 1 : ", 200_000) + "1\n}",
	"additions":        "locals {\n a = " + strings.Repeat("1+", 200_000) + "1\n}",
	"splats":           "locals {\n a = x" + strings.Repeat("[*]", 200_000) + "\n}",
	"range":            "locals {\n a = range(100000000)\n}",
	"nested for":       "locals {\n a = [for i in range(60000) : [for j in range(60000) : i * j]]\n}",
	"self-reference":   "locals {\n a = local.b\n b = local.a\n}",
	"JSON in a string": "locals {\n a = jsondecode(\"" + strings.Repeat("[", 200_000) + "\")\n}",
}

func TestHostile(t *testing.T) {
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			_, ds := parse(t, "netd.hcl", text+"\n"+smallest, nil)
			if !ds.HasErrors() {
				t.Error("accepted")
			}
			if len(ds) > 3 {
				t.Errorf("%d messages: %+v", len(ds), ds[:3])
			}
		})
	}
	for cut := range smallest { // cut between two blocks it is a configuration, elsewhere none
		whole := strings.HasSuffix(strings.TrimSpace(smallest[:cut]), "\n}")
		if _, ds := parse(t, "netd.hcl", smallest[:cut], nil); ds.HasErrors() == whole {
			t.Errorf("cut at byte %d: %v", cut, ds)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(smallest))
	f.Add([]byte("locals {\n a = [for i in range(10) : \"${i}\"]\n}"))
	f.Add([]byte(`{"network": {"a": {"pools": ["10.0.0.0/8"], "mode": "bgp"}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, name := range []string{"x.hcl", "x.hcl.json"} {
			s := &Source{Path: name, Files: []File{{Name: name, Bytes: b}}, saved: true}
			c, ds := s.Parse()
			if (c == nil) != ds.HasErrors() {
				t.Errorf("a configuration and errors, or neither: %v", ds)
			}
			if c != nil {
				handedOver(t, s, c)
			}
		}
		if out, ds := Format("x.hcl", b); !ds.HasErrors() {
			if again, ds := Format("x.hcl", out); ds.HasErrors() || string(again) != string(out) {
				t.Errorf("formatting twice differs:\n%q\n%q", out, again)
			}
		}
	})
}

// A chain of locals is no cycle, a cycle is told once, and thousands of them take no time to speak of.
func TestManyLocals(t *testing.T) {
	chain := func(last string) string {
		var b strings.Builder
		b.WriteString("locals {\n")
		for i := range 5000 {
			fmt.Fprintf(&b, "  a%d = local.a%d\n", i, i+1)
		}
		return b.String() + "  a5000 = " + last + "\n}\n" + smallest
	}
	if _, ds := parse(t, "netd.hcl", chain("1"), nil); len(ds) > 0 {
		t.Errorf("a chain: %d faults, the first %v", len(ds), ds[0])
	}
	if _, ds := parse(t, "netd.hcl", chain("local.a0"), nil); len(ds) != 1 || ds[0].Summary != "locals refer to themselves" {
		t.Errorf("a cycle: %d faults: %v", len(ds), ds)
	}
}
