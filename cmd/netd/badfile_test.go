package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Files that would overflow the parser's stack, fill the memory or never end: 78 and one clear message, in 2 s of work and
// 1 GiB. The program itself runs, since what is too much for the process cannot be seen from inside it.
func TestBadFiles(t *testing.T) {
	const n = 200_000
	again := func(s string) string { return strings.Repeat(s, n) }
	local := func(expr string) string { return "locals {\n  a = " + expr + "\n}\n" }
	const many = `[for i in range(60000): "x${i}"]` // a tuple of as many types
	doubled := func(first, twice string) string {
		text := "locals {\n  a0 = " + first + "\n"
		for i := range 30 {
			last := fmt.Sprintf("local.a%d", i)
			text += fmt.Sprintf("  a%d = "+twice+"\n", i+1, last, last)
		}
		return text + "}\n"
	}
	var noise bytes.Buffer
	for sum := sha256.Sum256(nil); noise.Len() < 300_000; sum = sha256.Sum256(sum[:]) {
		noise.Write(sum[:])
	}
	for name, x := range map[string]struct{ text, want string }{
		"binary.hcl":           {noise.String(), "not a text file"},
		"5-MiB.hcl":            {strings.Repeat("# a line of a comment\n", 5<<20/22+1), "is larger than 4 MiB"},
		"brackets.hcl":         {local(again("[") + again("]")), "nested too deeply"},
		"open-brackets.hcl":    {"locals {\n  a = " + again("["), "nested too deeply"},
		"parentheses.hcl":      {local(again("(") + "1" + again(")")), "nested too deeply"},
		"objects.hcl":          {local(again("{a=") + "1" + again("}")), "nested too deeply"},
		"blocks.hcl":           {again("a {\n"), "nested too deeply"},
		"templates.hcl":        {local(again(`"${`) + "1" + again(`}"`)), "nested too deeply"},
		"many-templates.hcl":   {local(`"` + again("${1}") + `"`), "expression too long"},
		"heredoc.hcl":          {local("<<E\n" + again("${1}") + "\nE"), "expression too long"},
		"not.hcl":              {local(again("!") + "true"), "expression too long"},
		"minus.hcl":            {local(again("-") + "1"), "expression too long"},
		"ternaries.hcl":        {local(again("true ? 1 : ") + "1"), "nested too deeply"},
		"inner-ternaries.hcl":  {local(again("true ? ") + "1" + again(" : 1")), "nested too deeply"},
		"sum.hcl":              {local(again("1+") + "1"), "expression too long"},
		"and.hcl":              {local(again("true && ") + "true"), "expression too long"},
		"splats.hcl":           {local("x" + again("[*]")), "expression too long"},
		"steps.hcl":            {local("x" + again(".a")), "expression too long"},
		"range.hcl":            {local("range(100000000)"), "more than 65536 numbers"},
		"itself.hcl":           {local("local.a"), "locals refer to themselves"},
		"brackets.hcl.json":    {again("[") + again("]"), "nested too deeply"},
		"open.hcl.json":        {again(`{"a":`), "nested too deeply"},
		"templates.hcl.json":   {`{"locals": {"a": "` + again("${") + "1" + again("}") + `"}}`, "nested too deeply"},
		"escapes.hcl.json":     {`{"locals": {"a": "${` + again(`\u0028`) + `1}"}}`, "nested too deeply"},
		"sum.hcl.json":         {`{"locals": {"a": "${` + again("1+") + `1}"}}`, "expression too long"},
		"range.hcl.json":       {`{"locals": {"a": "${range(100000000)}"}}`, "more than 65536 numbers"},
		"itself.hcl.json":      {`{"locals": {"a": "${local.a}"}}`, "locals refer to themselves"},
		"loops.hcl":            {local("[for x in range(60000): [for y in range(60000): x]]"), "too much to compute"},
		"loops.hcl.json":       {`{"locals": {"a": "${[for x in range(60000): [for y in range(60000): x]]}"}}`, "too much to compute"},
		"loops-deep.hcl.json":  {`{"node": {"a": {"blocks": [["x", "${[for x in range(60000): [for y in range(60000): x]]}"]]}}}`, "too much to compute"},
		"dynamic.hcl.json":     {`{"dynamic": {"node": {"for_each": "${[for x in range(60000): [for y in range(60000): x]]}", "labels": ["a"], "content": {}}}}`, "too much to compute"},
		"string.hcl":           {local(`"` + again("1234567") + `"`), "string too long"},
		"heredoc-string.hcl":   {local("<<E\n" + again("1234567\n") + "E"), "string too long"},
		"twice.hcl":            {"locals {\n  a = \"" + strings.Repeat("x", 600_000) + "\"\n  b = \"${local.a}${local.a}\"\n}\n", "string too long"},
		"string.hcl.json":      {`{"locals": {"a": "` + again("1234567") + `"}}`, "string too long"},
		"maps.hcl":             {local("{for i in range(1000): i => {for j in range(1000): j => 1}}"), "too much to compute"},
		"lists.hcl":            {local("[for i in range(2000): concat(range(10000), range(10000))]"), "too much to compute"},
		"doubled-list.hcl":     {doubled(`[1, 2]`, "concat(%s, %s)"), "more than 1000000 steps"},
		"doubled-string.hcl":   {doubled(`"`+strings.Repeat("x", 1000)+`"`, `"${%s}${%s}"`), "string too long"},
		"upper.hcl":            {"locals {\n  a = \"" + strings.Repeat("x", 1_000_000) + "\"\n  b = [for i in range(1000): upper(local.a)]\n}\n", "too much to compute"},
		"mixed.hcl":            {local("tolist([for i in range(60000): [i, [i]][i % 2]])"), "elements, of different types"},
		"digits.hcl":           {local(strings.Repeat("9", 3_000_000)), "number too long"},
		"digits.hcl.json":      {`{"locals": {"a": ` + strings.Repeat("9", 3_000_000) + `}}`, "number too long"},
		"join.hcl":             {local(`join(",", ` + many + ")"), "no network"},
		"sort.hcl":             {local("sort(" + many + ")"), "no network"},
		"toset.hcl":            {local("toset(" + many + ")"), "no network"},
		"distinct.hcl":         {local("distinct(" + many + ")"), "no network"},
		"reserved.hcl":         {"network \"lab\" {\n  pools = [\"10.10.0.0/16\"]\n  mode = \"gre\"\n  reserved = [for i in range(60000): cidrhost(\"10.10.0.0/16\", i)]\n}\n", "wrong mode"},
		"half-a-pair.hcl.json": {`{"node": {"a": {"address":`, "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			if err := os.WriteFile(path, []byte(x.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/proc/self/exe", "validate", path)
			cmd.Env = append(os.Environ(), "NETD_TEST_PROGRAM=1")
			out, _ := cmd.CombinedOutput()
			text := string(out)
			if code := cmd.ProcessState.ExitCode(); code != exitConfig {
				t.Errorf("exit code %d", code)
			}
			if !strings.Contains(text, x.want) || len(text) > 4096 {
				t.Errorf("want %q in:\n%.4096s", x.want, text)
			}
			if n := strings.Count(text, "Error: "); n > 2 || strings.Contains(text, "goroutine ") {
				t.Errorf("%d messages:\n%.4096s", n, text)
			}
			if work := cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(); work > 2*time.Second {
				t.Errorf("%s of work", work)
			}
			if usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok && usage.Maxrss > 1<<20 {
				t.Errorf("%d KiB of memory", usage.Maxrss)
			}
		})
	}
}
