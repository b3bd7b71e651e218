package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) applyCmd() *cobra.Command {
	var yes, asJSON, allow bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "apply",
		Short: "Make the host match the configuration",
		Long: `Show the plan, ask, carry it out once, and read everything back. Where a daemon runs it does the work; where none runs,
apply does it by itself under the host's lock.

What deletes more than 30 % of this node's remote routes, and five or more, or takes a block from it in which containers live,
is refused unless --allow-destroy says that it is meant.

Exits 0; 1 where something failed, was refused, or a foreign object stood in the way; 64 where nobody can be asked and -y is not given;
75 where someone else holds the lock.`,
		Example: "  netd apply\n  netd apply -y\n  netd apply -y --json\n  netd apply --allow-destroy",
		Args:    noPlanFile,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if timeout > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, timeout, fmt.Errorf("%s (--timeout) are over", timeout))
				defer cancel()
			}
			p, err := a.planner(ctx)
			if err != nil {
				return err
			}
			return a.carryOut(ctx, yes, asJSON, agreement{AllowDestroy: allow}, "Apply complete",
				func() (planView, error) { return p.plan(ctx, a.config) },
				func(agreed agreement, show func(planView)) (applyView, error) {
					return p.apply(ctx, a.config, agreed, show)
				})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&allow, "allow-destroy", false, "also where that cuts many routes or living containers off")
	f.DurationVar(&timeout, "timeout", 0, "give up after this time")
	return cmd
}

func (a *app) destroyCmd() *cobra.Command {
	var yes, asJSON bool
	cmd := &cobra.Command{
		Use:   "destroy",
		Short: "Remove everything netd made, and nothing else",
		Long: `Remove everything netd made on this host, and nothing else: links, routes, addresses and rules of its own go, settings go
back to what they were before. Needs no valid file. Where a daemon runs, it does it. A daemon rests afterwards, one that is
started later too, until the next apply.

Exits 0; 1 where something failed; 64 where nobody can be asked and -y is not given; 75 where someone else holds the lock.`,
		Example: "  netd destroy\n  netd destroy -y",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.planner(cmd.Context())
			if err != nil {
				return err
			}
			return a.carryOut(cmd.Context(), yes, asJSON, agreement{}, "Destroyed",
				func() (planView, error) { return p.planDestroy(cmd.Context()) },
				func(agreed agreement, show func(planView)) (applyView, error) {
					return p.destroy(cmd.Context(), agreed.ID, show)
				})
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// agrees asks at the terminal. An interrupt is a no.
func (a *app) agrees(ctx context.Context) bool {
	fmt.Fprint(a.talk, "\nCarry this out? [y/N] ")
	s, _ := patiently(ctx, func() (string, error) { return bufio.NewReader(a.in).ReadString('\n') })
	if ctx.Err() != nil {
		fmt.Fprintln(a.talk)
		return false
	}
	s = strings.ToLower(strings.TrimSpace(s))
	return s == "y" || s == "yes"
}

// carryOut shows a plan, asks, and has it done. With -y the plan that is shown is the one that is being done.
func (a *app) carryOut(ctx context.Context, yes, asJSON bool, agreed agreement, verb string, plan func() (planView, error),
	do func(agreed agreement, show func(planView)) (applyView, error)) error {
	show := func(v planView) {
		switch {
		case !asJSON:
			v.write(a.page(a.out))
		case !yes && isTerminal(a.in): // who is asked sees of what
			v.write(a.page(a.talk))
		}
	}
	var seen planView
	if !yes {
		v, err := plan()
		if err != nil {
			return err
		}
		show(v)
		show, seen, agreed.ID = nil, v, v.ID
		if agreed.refuses(v) {
			return refused(v)
		}
		if len(v.Changes) > 0 {
			if !isTerminal(a.in) {
				return fail(exitUsage, "there is no terminal to ask at: give -y to carry the plan out")
			}
			if !a.agrees(ctx) {
				fmt.Fprintln(a.talk, "Nothing was changed.")
				return &exit{code: exitFailed}
			}
		}
	}
	out, err := do(agreed, show)
	if err != nil {
		return err
	}
	if out.Stale {
		return fail(exitFailed, "the plan is stale and nothing was done; look at it again. Since it was shown this changed:\n  %s",
			strings.Join(out.Plan.since(seen), "\n  "))
	}
	if asJSON {
		if err := printJSON(a.out, out); err != nil {
			return err
		}
	} else {
		out.write(a.page(a.out), verb)
	}
	if out.Refused {
		return refused(out.Plan)
	}
	for _, e := range out.Errors {
		fmt.Fprintf(a.page(a.talk), "netd: %s\n", e)
	}
	if len(out.Errors) > 0 || len(out.Plan.Conflicts) > 0 {
		return &exit{code: exitFailed}
	}
	return nil
}
