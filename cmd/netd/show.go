package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"netd/reconcile/object"
	"netd/reconcile/speaker"
)

// kindsOf says which objects each table shows.
var kindsOf = map[string][]string{
	"routes": {"route", "nexthop"},
	"links":  {"link", "addr"},
}

func (a *app) showCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Tables: state, routes, links, blocks, peers, workloads",
		Long: `Tables of what there is. state, routes and links are read from the kernel: all that netd owns on this host, and nothing
else. blocks and workloads are the file's, and to root also what is attached on this host. peers asks the daemon (69 where none runs).

"netd show state --json" is what "netd plan --against" takes.`,
		Example: "  netd show routes\n  netd show state --json > baihl-node.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fail(exitUsage, "show what? state, routes, links, blocks, peers or workloads")
		},
	}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	for _, x := range [][3]string{
		{"state", "Everything that netd owns on this host", "Everything that netd owns on this host, as the kernel holds it now: what each object is and why it is wanted."},
		{"routes", "The routes that netd owns here and in its containers",
			"The routes and next hops that netd owns on this host and in its containers (@WORKLOAD/…), as the kernel holds them now, each with\nwhat wants it: a node, a block, a workload, or the neighbours that told it."},
		{"links", "The links and addresses that netd owns here and in its containers",
			"The links that netd made on this host and the addresses it gave them, and those in its containers (@WORKLOAD/…), as the kernel holds\nthem now."},
	} {
		name, bgp := x[0], false
		one := &cobra.Command{
			Use: name, Short: x[1], Long: x[2], Example: "  netd show " + name + "\n  netd show " + name + " --json", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				if bgp {
					return a.showRoutes(cmd.Context(), request{Which: string(speaker.LocRIB)}, asJSON)
				}
				p, err := a.planner(cmd.Context())
				if err != nil {
					return err
				}
				v, err := p.state(cmd.Context())
				if err != nil {
					return err
				}
				return a.showState(v, name, asJSON)
			},
		}
		if name == "routes" {
			one.Example += "\n  netd show routes --bgp"
			one.Flags().BoolVar(&bgp, "bgp", false, "the BGP table instead, with attributes; * marks the best of each prefix, several where their flows are shared out (needs the daemon)")
		}
		cmd.AddCommand(one)
	}
	cmd.AddCommand(&cobra.Command{Use: "blocks", Short: "Every node's blocks, and what of this host's is used, by whom", Example: "  netd show blocks", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.showBlocks(cmd.Context(), asJSON) }})
	cmd.AddCommand(&cobra.Command{Use: "workloads", Short: "The workloads attached here, and those that the file declares", Example: "  netd show workloads", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.showWorkloads(cmd.Context(), asJSON) }})
	cmd.AddCommand(a.showPeersCmd(&asJSON))
	return cmd
}

// showState prints what netd owns of the kinds, nil for all and what the host's own part is besides.
func (a *app) showState(v stateView, name string, asJSON bool) error {
	var list []resourceText
	if err := json.Unmarshal(v.Resources, &list); err != nil {
		return fmt.Errorf("reading the state: %w", err)
	}
	kinds := kindsOf[name]
	kept := make([]json.RawMessage, 0, len(list))
	rows := [][]string{{"KIND", "NAME", "WHAT", "BECAUSE"}}
	because := map[string]string{}
	for _, r := range list {
		if kinds == nil || slices.Contains(kinds, r.Kind) {
			kept = append(kept, r.raw)
			key := r.Kind + " " + r.Name
			if why, ok := v.Because[key]; ok {
				because[key] = why
			}
			rows = append(rows, []string{r.Kind, r.Name, shares(r.Text), v.Because[key]})
		}
	}
	switch {
	case asJSON && kinds == nil:
		return printJSON(a.out, v)
	case asJSON:
		return printJSON(a.out, map[string]any{"schema_version": 1, name: kept, "because": because})
	case len(rows) == 1:
		fmt.Fprintln(a.out, "netd owns nothing of this on this host.")
	default:
		table(a.page(a.out), rows)
	}
	return nil
}

// shares is the text of a route as a table shows it. Where a next hop has several stretches of the hash, which may be thirty of two routers
// where five may give the route, it is named once, with its share of the flows.
func shares(text string) string {
	hops, err := object.ParseHops(text)
	if err != nil {
		return text
	}
	var each []object.Hop
	whole := 0
	for _, h := range hops {
		weight := max(h.Weight, 1)
		whole += weight
		h.Weight = 0
		i := slices.IndexFunc(each, func(e object.Hop) bool { e.Weight = 0; return e == h })
		if i < 0 {
			i, each = len(each), append(each, h)
		}
		each[i].Weight += weight
	}
	if len(each) == len(hops) {
		return text
	}
	words := make([]string, len(each))
	for i, h := range each {
		percent := (h.Weight*100 + whole/2) / whole
		h.Weight = 0
		words[i] = fmt.Sprintf("%d %% %s", percent, h)
	}
	return strings.Join(words, ", ")
}

// resourceText is what a table shows of a resource.
type resourceText struct {
	Kind, Name, Text string
	raw              json.RawMessage
}

func (r *resourceText) UnmarshalJSON(b []byte) error {
	type plain resourceText
	r.raw = slices.Clone(b)
	return json.Unmarshal(b, (*plain)(r))
}
