package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"netd/config"
)

var update = flag.Bool("update", false, "write docs/reference.md and what the stories compare with")

// TestReferencePage holds docs/reference.md against the code that it is made from.
func TestReferencePage(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Reference\n\nMade from the code (`go test ./cmd/netd -run TestReferencePage -update`).\n\n## The file\n\n")
	b.WriteString("A whole example is [config/reference.hcl](../config/reference.hcl).\n")
	var blocks func([]config.BlockDoc)
	blocks = func(list []config.BlockDoc) {
		for _, x := range list {
			title := x.Type
			if x.Label != "" {
				title += ` "` + x.Label + `"`
			}
			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n| attribute | type | default | |\n| --- | --- | --- | --- |\n", title, x.Doc)
			for _, a := range x.Attributes {
				def := "`" + a.Default + "`"
				if a.Default == "" {
					def = ""
				}
				if a.Required {
					def = "required"
				}
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", a.Name, strings.ReplaceAll(a.Type, "|", "\\|"), def, a.Doc)
			}
			blocks(x.Blocks)
		}
	}
	blocks(config.Schema)
	b.WriteString("\n## The commands\n\nExit codes: 0 done; 1 failed; 2 changes (`plan --detailed-exitcode`); 3 degraded; 64 usage; 69 no daemon; 75 lock held; 77 no\npermission; 78 bad configuration.\n")
	var commands func(*cobra.Command)
	commands = func(c *cobra.Command) {
		if c.Hidden || c.Name() == "help" {
			return
		}
		if c.HasParent() {
			text := c.Long
			if text == "" {
				text = c.Short + "."
			}
			fmt.Fprintf(&b, "\n### %s\n\n%s\n\n```sh\n%s\n```\n", c.UseLine(), text, strings.ReplaceAll(strings.TrimPrefix(c.Example, "  "), "\n  ", "\n"))
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !f.Hidden {
				fmt.Fprintf(&b, "\n- `--%s`: %s", f.Name, f.Usage)
			}
		})
		if c.LocalNonPersistentFlags().HasFlags() {
			b.WriteString("\n")
		}
		for _, sub := range c.Commands() {
			commands(sub)
		}
	}
	root := (&app{in: os.Stdin, out: &output{file: os.Stdout}, talk: os.Stderr}).root()
	commands(root)
	b.WriteString("\n### Flags of every command\n\nEach has a twin in the environment: `NETD_` and its name.\n")
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { fmt.Fprintf(&b, "\n- `--%s` (`%s`): %s", f.Name, f.DefValue, f.Usage) })
	b.WriteString("\n")
	const page = "../../docs/reference.md"
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Error("docs/reference.md is not what the code says: run go test ./cmd/netd -run TestReferencePage -update")
	}
	walk(root, func(c *cobra.Command) {
		if !c.Hidden && c.Runnable() && c.Example == "" && c.Name() != "help" {
			t.Errorf("%s --help has no example", c.CommandPath())
		}
	})
}

func walk(c *cobra.Command, f func(*cobra.Command)) {
	f(c)
	for _, sub := range c.Commands() {
		walk(sub, f)
	}
}
