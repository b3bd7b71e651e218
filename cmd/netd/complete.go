package main

import (
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"netd/testenv/lab"
)

func (a *app) completionCmd() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print what has a shell complete netd's words",
		Long: `Print the program that has a shell complete netd's commands and flags, the words of flags that have few, and the nodes of the
file. SHELL is bash (with the package bash-completion), zsh, fish or powershell.`,
		Example: "  source <(netd completion bash)\n  netd completion bash > /etc/bash_completion.d/netd\n" +
			"  netd completion zsh > \"${fpath[1]}/_netd\"\n  netd completion fish > ~/.config/fish/completions/netd.fish",
		ValidArgs: shells,
		Args:      cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch strings.Join(args, "") {
			case "bash":
				return root.GenBashCompletionV2(a.out, true)
			case "zsh":
				return root.GenZshCompletion(a.out)
			case "fish":
				return root.GenFishCompletion(a.out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(a.out)
			case "":
				return fail(exitUsage, "completion for which shell? %s", strings.Join(shells, ", "))
			}
			return fail(exitUsage, "completion %s: want %s", args[0], strings.Join(shells, ", "))
		},
	}
}

// completeNodes are the nodes of the file, for the shell that asks for what may follow --node. A file that cannot be read has none.
func (a *app) completeNodes(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	if a.settle(cmd.Root().PersistentFlags()) == nil {
		if s, err := a.read(a.config); err == nil {
			if c, _ := parse(s); c != nil {
				for _, n := range c.Nodes {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// completeLab are the nodes and workloads of the lab that is up, where a command may be run; then the shell's own words follow.
func (a *app) completeLab(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var names []string
	if l, err := lab.Open(); err == nil {
		for _, h := range l.Hosts {
			names = append(append(names, h.Name), slices.Sorted(maps.Keys(h.Netns))...)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
