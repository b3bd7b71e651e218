package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestInlineCommands: a command of netd's that a page names in a line, or a message tells to type, is one that netd has, with those
// flags. (What pages show in blocks is typed: TestBlocks.)
func TestInlineCommands(t *testing.T) {
	root := (&app{in: os.Stdin, out: &output{file: os.Stdout}, talk: os.Stderr}).root()
	page, message := regexp.MustCompile("`netd ([^`\n]*)`"), regexp.MustCompile(`\bnetd ((?:[a-z][a-z-]* )*[a-z][a-z-]*(?: --[a-z-]+)*)`)
	seen := map[string]int{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		kind := filepath.Ext(path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "bin" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".."):
			return filepath.SkipDir
		case d.Name() == "CHANGELOG.md" || kind != ".md" && kind != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		find := message
		if kind == ".md" {
			find = page
		}
		for _, at := range find.FindAllSubmatchIndex(text, -1) {
			words := strings.Fields(string(text[at[2]:at[3]]))
			line := 1 + strings.Count(string(text[:at[0]]), "\n")
			cmd, rest, err := root.Find(words)
			if err != nil || cmd == root {
				if kind == ".md" && !strings.HasPrefix(words[0], "-") {
					t.Errorf("%s:%d: netd has no command for %q", path, line, strings.Join(words, " "))
				}
				continue // of a message: prose
			}
			seen[kind]++
			if kind == ".md" && cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
				t.Errorf("%s:%d: %s has no command %s", path, line, cmd.CommandPath(), rest[0])
			}
			for _, word := range rest {
				name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
				if strings.HasPrefix(word, "--") && cmd.Flags().Lookup(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
					t.Errorf("%s:%d: %s has no flag %s", path, line, cmd.CommandPath(), word)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen[".md"] < 50 || seen[".go"] < 50 {
		t.Errorf("only %v were found", seen)
	}
}
