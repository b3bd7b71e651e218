package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"netd/reconcile/desired"
)

// planner plans and applies on this host: through the daemon where one runs, by itself where none does.
type planner interface {
	plan(ctx context.Context, path string) (planView, error)
	apply(ctx context.Context, path string, agreed agreement, show func(planView)) (applyView, error)
	planDestroy(ctx context.Context) (planView, error)
	destroy(ctx context.Context, id string, show func(planView)) (applyView, error)
	state(ctx context.Context) (stateView, error)
}

// planner finds out which.
func (a *app) planner(ctx context.Context) (planner, error) {
	c, err := a.dialDaemon(ctx)
	if err != nil {
		return nil, err
	}
	if c != nil {
		return remote{a, c}, nil
	}
	return local{a}, nil
}

// otherHost says what to do where a plan was asked for by the name of a node that this host is not.
func otherHost(err error, named string) error {
	if named != "" && errors.Is(err, desired.ErrNoAddress) {
		return fmt.Errorf("%w; to plan another host, add --offline", err)
	}
	return err
}

func (a *app) planCmd() *cobra.Command {
	var detailed, asJSON, offline bool
	var against string
	cmd := &cobra.Command{
		Use:   "plan",
		Short: "Show what apply would do on this host, and why",
		Long: `Show what apply would do on this host, in the order in which it would be done, each line with its cause. Nothing is
changed. With --offline, plan any node of the file from anywhere: against an empty host, or against a host's saved
"netd show state --json".

Exits 0; 1 where something foreign stands in the way; with --detailed-exitcode 2 where there are changes.`,
		Example: "  netd plan\n  netd plan -c draft.hcl --detailed-exitcode\n  netd plan --node baihl-node --offline\n  netd plan --node baihl-node --offline --against baihl-node.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var v planView
			var err error
			switch {
			case offline || against != "":
				v, err = a.planOffline(cmd.Context(), against)
			default:
				var p planner
				if p, err = a.planner(cmd.Context()); err == nil {
					v, err = p.plan(cmd.Context(), a.config)
				}
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(a.out, v); err != nil {
					return err
				}
			} else {
				v.write(a.page(a.out))
			}
			switch {
			case len(v.Conflicts) > 0:
				return &exit{code: exitFailed}
			case detailed && len(v.Changes) > 0:
				return &exit{code: exitChanges}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.BoolVar(&detailed, "detailed-exitcode", false, "exit 2 where there are changes")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&offline, "offline", false, "plan --node from anywhere, without a kernel")
	f.StringVar(&against, "against", "", "a saved `STATE.json` to plan against")
	return cmd
}
