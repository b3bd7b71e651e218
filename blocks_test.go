package netd

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"netd/testenv/console"
)

// unrun are the blocks that console's Check does not run, by page, section and kind, and why. TestBlocks holds the list against the pages.
var unrun = map[string]string{
	"CONTRIBUTING.md, Contributing, sh":                                         "they run the tests themselves",
	"README.md, Build and test, sh":                                             "they build netd and run the tests themselves",
	"README.md, How it works, text":                                             "a drawing",
	"docs/architecture.md, Architecture, text":                                  "a drawing",
	"docs/modes.md, The three modes, text":                                      "a drawing",
	"docs/modes.md, On the wire, text":                                          "drawings of packets; TestWalkthrough looks at them on the wire",
	"docs/reference-bgp.md, Several next hops, text":                            "how the kernel prints routes; TestSpread makes them, with addresses of its own",
	"docs/how-to/attach-containers.md, Nomad, nomad":                            "a part of a job: no distribution has Nomad; TestNomadJob reads it and does as Nomad would",
	"docs/how-to/docker.md, Compose, yaml":                                      "TestPages has compose run it",
	"docs/how-to/install.md, Install netd on a host, sh":                        "dpkg and systemd change the machine: make packages types each line in a Debian guest, but for make deb, which is before",
	"docs/how-to/rack-with-two-switches.md, A rack with two ToR switches, frr":  "TestRackPage runs a switch with it",
	"docs/how-to/rack-with-two-switches.md, A rack with two ToR switches, bird": "TestRackPage runs a switch with it",
	"docs/reference.md, netd completion SHELL, sh":                              "zsh and fish are not here, and it writes where the machine's shells look",
	"docs/how-to/two-machines.md, Two virtual machines, indented":               "TestTwoMachines (make vagrant-test) does it before it types the rest",
}

// TestBlocks finds every block of code of the documentation, the help's examples in docs/reference.md among them. Commands and what
// they print are run by console's Check; configurations of netd are read by TestExamples; anything else has a reason above.
func TestBlocks(t *testing.T) {
	run, found := checks(t), map[string]bool{}
	for path, text := range pages(t) {
		whole := run[path] != nil && run[path][""]
		for _, x := range console.Sections(text) {
			for _, b := range x.Blocks() {
				name := path + ", " + x.Title + ", " + b.Kind
				typed := (b.Kind == "console" || b.Kind == "sh") && (whole || run[path][x.Title])
				if !typed && b.Kind != "hcl" {
					found[name] = true
					if unrun[name] == "" {
						t.Errorf("line %d of %s: no test runs this block, and unrun has no reason", b.Line, name)
					}
				}
			}
		}
	}
	for name := range unrun {
		if !found[name] {
			t.Errorf("unrun has %q, where no block is left that no test runs", name)
		}
	}
}

// checks are the pages and sections that tests run by console's Check; "" stands for a page from end to end.
func checks(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := map[string]map[string]bool{}
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"netd/testenv/console"` }) {
			return nil
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) < 3 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Check" {
				return true
			}
			var names []string
			for _, arg := range call.Args[2:] {
				lit, ok := arg.(*ast.BasicLit)
				if !ok || lit.Kind != token.STRING {
					err = fmt.Errorf("%s: a page or section of Check is no literal string", path)
					return false
				}
				name, _ := strconv.Unquote(lit.Value)
				names = append(names, name)
			}
			page, sections := names[0], names[1:]
			if len(sections) == 0 {
				sections = []string{""}
			}
			for _, s := range sections {
				if all[page] == nil {
					all[page] = map[string]bool{}
				}
				all[page][s] = true
			}
			return true
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
