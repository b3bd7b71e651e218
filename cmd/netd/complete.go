package main

import (
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"netd/testenv/lab"
)

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
