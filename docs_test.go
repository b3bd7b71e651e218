package netd

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"netd/config"
)

// pages are the pages of the documentation, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths := []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"}
	if err := filepath.WalkDir("docs", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".md" {
			paths = append(paths, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		out[path] = string(b)
	}
	return out
}

// TestLinks follows the links of the documentation within the repository, and has docs/README.md lead to every page.
func TestLinks(t *testing.T) {
	all, index := pages(t), map[string]bool{}
	for path, text := range all {
		for _, m := range regexp.MustCompile(`\]\(([^)#]+)(#[^)]*)?\)`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			to := filepath.Join(filepath.Dir(path), m[1])
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s leads to %s, which is not there", path, m[1])
			}
			if path == filepath.Join("docs", "README.md") {
				index[to] = true
			}
		}
	}
	for path := range all {
		if strings.HasPrefix(path, "docs") && !index[path] && filepath.Base(path) != "README.md" {
			t.Errorf("docs/README.md does not lead to %s", path)
		}
	}
}

// TestNames: a test that a page names is one that there is, and what it says to make is a target.
func TestNames(t *testing.T) {
	there := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)[A-Z]\w*)\(`)
	if err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			there[m[1]] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^([a-z0-9 -]+):`).FindAllStringSubmatch(string(makefile), -1) {
		for target := range strings.FieldsSeq(m[1]) {
			there["make "+target] = true
		}
	}
	seen := 0
	for path, text := range pages(t) {
		if path == "CHANGELOG.md" { // of what was
			continue
		}
		for _, m := range regexp.MustCompile("`((?:Test|Benchmark|Fuzz)[A-Z]\\w*)").FindAllStringSubmatch(text, -1) {
			if seen++; !there[m[1]] {
				t.Errorf("%s names %s, and there is no such test", path, m[1])
			}
		}
		for _, m := range regexp.MustCompile("`(?:[A-Z_]+=\\w+ )?make ([^`\n]*)`").FindAllStringSubmatch(text, -1) {
			for word := range strings.FieldsSeq(m[1]) {
				if seen++; !strings.Contains(word, "=") && !there["make "+word] {
					t.Errorf("%s says make %s, and the Makefile has no such target", path, word)
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("%d names were found", seen)
	}
}

// TestExamples reads each configuration that a page shows. Of what a part leaves out (networks, nodes) it takes the
// walk-through's.
func TestExamples(t *testing.T) {
	rest := map[string]string{}
	walkthrough, err := os.ReadFile("docs/walkthrough.hcl")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile(`(?ms)^(network|node) .*?^}\n`)
	for _, m := range block.FindAllStringSubmatch(string(walkthrough), -1) {
		rest[m[1]] += m[0]
	}
	seen := 0
	for path, text := range pages(t) {
		for _, m := range regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatchIndex(text, -1) {
			file := text[m[2]:m[3]]
			dynamic := strings.Contains(file, "dynamic \"node\"")
			for kind, blocks := range rest {
				if !regexp.MustCompile(`(?m)^`+kind+` `).MatchString(file) && !(dynamic && kind == "node") {
					file += blocks
				}
			}
			seen++
			s := config.Source{Path: "netd.hcl", Files: []config.File{{Name: "netd.hcl", Bytes: []byte(file)}}}
			if _, ds := s.Parse(); ds.HasErrors() {
				t.Errorf("%s, line %d:\n%s", path, 1+strings.Count(text[:m[0]], "\n"), ds)
			}
		}
	}
	if seen < 8 {
		t.Errorf("%d examples were found", seen)
	}
}
