package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Commands and flags that the manual of a later version has: who asks for one is told so, instead of that it is unknown.
var (
	laterCommands = []string{"confirm", "rollback", "history", "trace", "explain", "graph"}
	laterFlags    = map[string][]string{"plan": {"out", "fleet"}, "apply": {"confirm"}}
)

func notYet(what string) error {
	return fail(exitUsage, "%s is not built yet: this version cannot do it", what)
}

// addLater adds the commands that are not built yet, unlisted.
func addLater(root *cobra.Command) {
	for _, name := range laterCommands {
		root.AddCommand(&cobra.Command{Use: name, Short: "Not built yet", Hidden: true, DisableFlagParsing: true,
			RunE: func(*cobra.Command, []string) error { return notYet("netd " + name) }})
	}
}

// flagError is what is wrong with a command's flags.
func flagError(cmd *cobra.Command, err error) error {
	for _, name := range laterFlags[cmd.Name()] {
		if strings.HasSuffix(err.Error(), "unknown flag: --"+name) {
			return notYet(fmt.Sprintf("netd %s --%s", cmd.Name(), name))
		}
	}
	return &exit{exitUsage, err}
}

// noPlanFile refuses a saved plan, and what else is too much.
func noPlanFile(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return notYet("netd apply PLANFILE")
	}
	return noArgs(cmd, args)
}
