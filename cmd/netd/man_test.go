package main

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cpuguy83/go-md2man/v2/md2man"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"netd/config"
)

// TestManPages holds netd(8) and netd.hcl(5) against the code that they are made from: the same help texts and the same
// schema as docs/reference.md.
func TestManPages(t *testing.T) {
	root := (&app{in: os.Stdin, out: &output{file: os.Stdout}, talk: os.Stderr}).root()
	for page, text := range map[string]string{"netd.8": manProgram(root), "netd.hcl.5": manFile(t)} {
		made := md2man.Render([]byte(text))
		file := "../../packaging/man/" + page
		if *update {
			if err := os.WriteFile(file, made, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if string(have) != string(made) {
			t.Errorf("%s is not what the code says: run go test ./cmd/netd -run TestManPages -update", file)
		}
	}
}

func manProgram(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%% netd 8 \"\" \"netd\" \"System administration\"\n\n# NAME\n\nnetd - %s\n\n# SYNOPSIS\n\n**netd** [*flags*] *command*\n\n# DESCRIPTION\n\n%s\n\n# COMMANDS\n",
		strings.ToLower(root.Short[:1])+root.Short[1:], root.Long)
	walk(root, func(c *cobra.Command) {
		if !c.HasParent() || c.Hidden || !c.Runnable() || c.Name() == "help" {
			return
		}
		text := c.Long
		if text == "" {
			text = c.Short + "."
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n", c.UseLine(), text)
		if c.Example != "" { // before the flags: a list would swallow it
			fmt.Fprintf(&b, "\n```\n%s\n```\n", c.Example)
		}
		b.WriteString("\n" + manFlags(c.LocalNonPersistentFlags()))
	})
	b.WriteString("\n# FLAGS OF EVERY COMMAND\n\n" + manFlags(root.PersistentFlags()))
	b.WriteString(`
# ENVIRONMENT

Each flag has a twin: NETD_ and its name in capitals, - as _: NETD_CONFIG, NETD_NODE, NETD_STATE_DIR. NETD_VAR_x sets the
variable x of the file. NO_COLOR turns colour off.

# EXIT STATUS

0 done; 1 failed; 2 changes (plan --detailed-exitcode); 3 degraded; 64 usage; 69 no daemon; 75 lock held; 77 no permission;
78 bad configuration.

# FILES

**/etc/netd.hcl**
:	the configuration, the same on every host

**/var/lib/netd**
:	what outlives a boot: the last good configuration, addresses handed out, settings as they were

**/run/netd**
:	sockets and locks

# SEE ALSO

netd.hcl(5), ip-route(8), nft(8)
`)
	return b.String()
}

func manFlags(flags *pflag.FlagSet) string {
	var b strings.Builder
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name, usage := pflag.UnquoteUsage(f)
		short := ""
		if f.Shorthand != "" {
			short = "**-" + f.Shorthand + "**, "
		}
		if name != "" {
			name = " *" + name + "*"
		}
		fmt.Fprintf(&b, "%s**--%s**%s\n:\t%s\n\n", short, f.Name, name, usage)
	})
	return b.String()
}

func manFile(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("% netd.hcl 5 \"\" \"netd\" \"File formats\"\n\n# NAME\n\nnetd.hcl - the configuration of netd\n\n# DESCRIPTION\n\n" +
		"One file, the same on every host, in HCL, or in JSON where its name ends in .json; a folder means all its files in the order of their names.\n\n# BLOCKS\n")
	var blocks func([]config.BlockDoc)
	blocks = func(list []config.BlockDoc) {
		for _, x := range list {
			title := x.Type
			if x.Label != "" {
				title += " " + x.Label // roff would take quotes for its own
			}
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", title, x.Doc)
			for _, a := range x.Attributes {
				word := a.Type
				switch {
				case a.Required:
					word += ", required"
				case a.Default != "":
					word += ", default " + a.Default
				}
				fmt.Fprintf(&b, "**%s** (%s)\n:\t%s\n\n", a.Name, word, a.Doc)
			}
			blocks(x.Blocks)
		}
	}
	blocks(config.Schema)
	example, err := os.ReadFile("../../docs/walkthrough.hcl")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(&b, "\n# EXAMPLE\n\n```\n%s```\n\n# SEE ALSO\n\nnetd(8)\n", example)
	return b.String()
}
