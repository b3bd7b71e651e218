package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"netd/reconcile"
)

// driftView is what `drift --json` prints.
type driftView struct {
	planView
	ChangedBy map[string]string `json:"changed_by"` // of what differs now: who changed it last, where the kernel tells
	Repairs   []repairView      `json:"repairs"`    // the last ones, of the daemon
}

func (a *app) driftCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "drift",
		Short:   "What differs from the configuration right now",
		Long:    "What of netd's objects was changed outside netd and is not repaired right now, with what foreign stands in the place of one, and\nwho changed it last where the kernel tells; then the last repairs of the daemon. Exits 0 where nothing differs, 3 otherwise.",
		Example: "  netd drift",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := a.dialDaemon(ctx)
			if err != nil {
				return err
			}
			v := driftView{ChangedBy: map[string]string{}, Repairs: []repairView{}}
			if c != nil {
				err = c.do(ctx, "POST", "/v1/drift", request{}, &v)
			} else {
				v.planView, err = local{a}.plan(ctx, a.config)
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(a.out, v); err != nil {
					return err
				}
			} else if len(v.Outside)+len(v.Conflicts) == 0 {
				fmt.Fprintln(a.out, "No drift.")
			} else {
				writeChanges(a.page(a.out), v.Outside, false)
				if len(v.Outside) > 0 && len(v.Conflicts) > 0 {
					fmt.Fprintln(a.out)
				}
				writeConflicts(a.page(a.out), v.Conflicts)
			}
			if !asJSON {
				for _, k := range slices.Sorted(maps.Keys(v.ChangedBy)) {
					fmt.Fprintf(a.page(a.out), "%s was changed last by %s\n", k, v.ChangedBy[k])
				}
				writeRepairs(a.page(a.out), v.Repairs)
			}
			if len(v.Outside)+len(v.Conflicts) > 0 {
				return &exit{code: exitDegraded}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

type repairView struct {
	At       time.Time `json:"at"`
	Key      string    `json:"key"`
	Differed string    `json:"differed"`
	By       string    `json:"by,omitempty"`   // who changed it, where the kernel tells
	More     int       `json:"more,omitempty"` // of its kind, by the same, in the same pass
}

// repairs are those of one pass: one a kind and who made them needful, or whoever flushes a ruleset fills the list with it.
func repairs(events []reconcile.Event, at time.Time) []repairView {
	type group struct{ kind, by string }
	first := map[group]int{}
	var out []repairView
	for _, e := range events {
		if e.Err != nil || !e.Change.Drift {
			continue
		}
		g := group{e.Change.Key.Kind, e.By}
		if i, ok := first[g]; ok {
			out[i].More++
			continue
		}
		first[g] = len(out)
		out = append(out, repairView{At: at, Key: e.Change.Key.String(), Differed: reconcile.Difference(e.Change.Have, e.Change.Want), By: e.By})
	}
	return out
}

func writeRepairs(w io.Writer, repairs []repairView) {
	if len(repairs) > 0 {
		fmt.Fprint(w, "\nLast repairs:\n")
		rows := [][]string{}
		for _, r := range repairs {
			key := r.Key
			if r.More > 0 {
				key += fmt.Sprintf(" and %d more", r.More)
			}
			rows = append(rows, []string{"  " + r.At.Format(time.TimeOnly), key, r.Differed, by(r.By)})
		}
		table(w, rows)
	}
}

func by(who string) string {
	if who == "" {
		return ""
	}
	return "by " + who
}
