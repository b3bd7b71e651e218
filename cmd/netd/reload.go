package main

import "github.com/spf13/cobra"

func (a *app) reloadCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "reload",
		Short:   "Have the daemon read the file now",
		Long:    "Have the daemon read the file now, and wait for its verdict. Exits 0, 69 without a daemon, 78 where the file is bad.",
		Example: "  netd reload",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.dialDaemon(cmd.Context())
			if err != nil {
				return err
			}
			if c == nil {
				return fail(exitNoDaemon, "no daemon runs (netd run)")
			}
			var v statusView
			if err := c.do(cmd.Context(), "POST", "/v1/reload", request{}, &v); err != nil {
				return err
			}
			if asJSON {
				return printJSON(a.out, v)
			}
			v.write(a.page(a.out))
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
