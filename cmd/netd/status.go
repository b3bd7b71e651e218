package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"netd/reconcile"
	"netd/reconcile/speaker"
	"netd/reconcile/workload"
)

// statusView is what `status --json` prints.
type statusView struct {
	SchemaVersion int                  `json:"schema_version"`
	Verdict       string               `json:"verdict"` // "in sync", "DEGRADED", "resting", "no configuration"
	Reasons       []string             `json:"reasons"`
	Daemon        bool                 `json:"daemon"`
	PID           int                  `json:"pid,omitempty"`
	Version       string               `json:"version"`
	Since         time.Time            `json:"since,omitzero"`
	Node          string               `json:"node"`
	Networks      []networkView        `json:"networks"`
	Config        string               `json:"config"`
	ConfigError   string               `json:"config_error,omitempty"`
	Resting       bool                 `json:"resting"`
	Error         string               `json:"error,omitempty"` // of the last pass
	Conflicts     []reconcile.Conflict `json:"conflicts"`
	Contested     []reconcile.Key      `json:"contested"` // objects that someone else keeps changing
	Pending       []workload.Pending   `json:"pending"`
	Notes         []string             `json:"notes"`
	Peers         []speaker.Neighbour  `json:"peers"`
	Speaker       string               `json:"speaker,omitempty"`
	Repairs       []repairView         `json:"repairs"`
	LastPass      time.Time            `json:"last_pass,omitzero"`
	Took          float64              `json:"took"` // seconds
}

type repairView struct {
	At       time.Time `json:"at"`
	Key      string    `json:"key"`
	Differed string    `json:"differed"`
}

// statusNow is the daemon's status. It runs on the loop's goroutine.
func (d *daemonState) statusNow() statusView {
	d.mu.Lock()
	v := d.status
	v.Repairs, v.Pending = slices.Clone(v.Repairs), slices.Clone(v.Pending)
	d.mu.Unlock()
	v.Daemon = true
	if d.client != nil {
		v.Peers, _ = d.client.Neighbours()
		if st := d.sup.State(); st.PID == 0 && st.Err != nil {
			v.Speaker = st.Err.Error()
		} else {
			v.Speaker = fmt.Sprintf("pid %d", st.PID)
		}
	}
	v.judge()
	return v
}

func (v *statusView) judge() {
	v.Reasons = []string{}
	add := func(format string, args ...any) { v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...)) }
	if v.ConfigError != "" {
		add("the configuration is not taken: %s", strings.TrimSpace(v.ConfigError))
	}
	if v.Error != "" {
		add("%s", v.Error)
	}
	for _, c := range v.Conflicts {
		add("%s: %s stands there, of %s", c.Key, c.What, c.Who)
	}
	for _, k := range v.Contested {
		add("%s is changed again and again by someone else", k)
	}
	for _, p := range v.Pending {
		if p.Refused {
			add("%s: %s", p.ID, p.Reason)
		}
	}
	for _, p := range v.Peers {
		if !p.Established() {
			add("BGP session with %s is %s%s", p.Addr, p.State, because(p.Error))
		}
	}
	switch {
	case v.Resting:
		v.Verdict = "resting"
	case len(v.Reasons) > 0:
		v.Verdict = "DEGRADED"
	case v.Config == "":
		v.Verdict = "no configuration"
	default:
		v.Verdict = "in sync"
	}
}

func because(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

func (v statusView) write(w io.Writer) {
	if v.Node != "" {
		var nets []string
		for _, n := range v.Networks {
			nets = append(nets, fmt.Sprintf("network %s, %s", n.Name, n.Mode))
		}
		fmt.Fprintf(w, "%s: %s. Config %.7s\n", v.Node, strings.Join(nets, "; "), v.Config)
	}
	switch v.Verdict {
	case "in sync":
		fmt.Fprintln(w, "In sync: the host matches the configuration.")
	case "resting":
		fmt.Fprintln(w, "Resting since netd destroy: netd apply ends it.")
	case "no configuration":
		fmt.Fprintln(w, "No configuration is in force.")
	default:
		fmt.Fprintln(w, "DEGRADED:")
		for _, r := range v.Reasons {
			fmt.Fprintf(w, "  %s\n", strings.ReplaceAll(r, "\n", "\n    "))
		}
	}
	for _, p := range v.Pending {
		if !p.Refused {
			fmt.Fprintf(w, "Pending: %s (%s)\n", strings.TrimPrefix(string(p.ID), "file/"), p.Reason)
		}
	}
	if v.Daemon {
		fmt.Fprintf(w, "Daemon: pid %d, version %s, up %s\n", v.PID, v.Version, time.Since(v.Since).Round(time.Second))
	}
	if len(v.Peers) > 0 {
		fmt.Fprintf(w, "\nBGP sessions (speaker %s):\n", v.Speaker)
		for _, p := range v.Peers {
			fmt.Fprintf(w, "  %-15s  %-12s %s%s\n", p.Addr, p.State, time.Since(p.Since).Round(time.Second), because(p.Error))
		}
	}
	if len(v.Repairs) > 0 {
		fmt.Fprint(w, "\nLast repairs:\n")
		for _, r := range v.Repairs {
			fmt.Fprintf(w, "  %s  %s  %s\n", r.At.Format(time.TimeOnly), r.Key, r.Differed)
		}
	}
}

func (a *app) statusCmd() *cobra.Command {
	var asJSON, follow bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "One screen, one verdict: in sync or not",
		Long: `Whether this host matches the configuration, with BGP sessions, what is pending and the last repairs. Without a daemon the
kernel is compared, and the exit code is 69.

Exits 0 where all is well, 3 where something is degraded, 69 without a daemon.`,
		Example: "  netd status\n  netd status -w",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				v, err := a.statusNow(cmd.Context())
				if err != nil {
					return err
				}
				if asJSON {
					err = printJSON(a.out, v)
				} else {
					v.write(a.out)
				}
				switch {
				case err != nil:
					return err
				case follow:
					select {
					case <-cmd.Context().Done():
						return nil
					case <-time.After(time.Second):
						fmt.Fprintln(a.out)
						continue
					}
				case !v.Daemon:
					fmt.Fprintln(a.talk, "netd: no daemon runs; this is what the kernel holds. BGP is unattended.")
					return &exit{code: exitNoDaemon}
				case v.Verdict != "in sync":
					return &exit{code: exitDegraded}
				}
				return nil
			}
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVarP(&follow, "watch", "w", false, "again every second")
	return cmd
}

func (a *app) statusNow(ctx context.Context) (statusView, error) {
	c, err := dialDaemon(ctx, a.runDir)
	if err != nil {
		return statusView{}, err
	}
	if c != nil {
		var v statusView
		err = c.do(ctx, "GET", "/v1/status", request{}, &v)
		return v, err
	}
	v := statusView{SchemaVersion: 1, Version: version}
	p, err := local{a}.plan(ctx, a.config)
	var e *exit
	switch {
	case errors.As(err, &e) && e.code == exitConfig:
		v.ConfigError = "the file has faults (see netd validate)"
	case err != nil:
		return v, err
	}
	v.Node, v.Networks, v.Config, v.Conflicts, v.Pending, v.Notes = p.Node, p.Networks, p.Config, p.Conflicts, p.Pending, p.Notes
	if n := len(p.Changes); n > 0 {
		v.Error = fmt.Sprintf("the host differs from the configuration in %s (see netd plan)", count(n, "object"))
	}
	v.judge()
	return v, nil
}

func (a *app) driftCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:     "drift",
		Short:   "What differs from the configuration right now",
		Long:    "What of netd's objects was changed outside netd and is not repaired, right now. Exits 0 where nothing is, 3 otherwise.",
		Example: "  netd drift",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			c, err := dialDaemon(ctx, a.runDir)
			if err != nil {
				return err
			}
			var v planView
			if c != nil {
				err = c.do(ctx, "POST", "/v1/drift", request{}, &v)
			} else {
				v, err = local{a}.plan(ctx, a.config)
			}
			if err != nil {
				return err
			}
			if asJSON {
				if err := printJSON(a.out, v); err != nil {
					return err
				}
			} else if len(v.Outside) == 0 {
				fmt.Fprintln(a.out, "No drift.")
			} else {
				writeChanges(a.out, v.Outside, false, a.colored(a.out))
			}
			if len(v.Outside) > 0 {
				return &exit{code: exitDegraded}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func (a *app) reloadCmd() *cobra.Command {
	return &cobra.Command{
		Use:     "reload",
		Short:   "Have the daemon read the file now",
		Long:    "Have the daemon read the file now, and wait for its verdict. Exits 0, 69 without a daemon, 78 where the file is bad.",
		Example: "  netd reload",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := dialDaemon(cmd.Context(), a.runDir)
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
			v.write(a.out)
			return nil
		},
	}
}

// kindsOf says which objects each table shows.
var kindsOf = map[string][]string{
	"routes": {"route", "nexthop"},
	"links":  {"link", "addr"},
}

func (a *app) showCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "show",
		Short:   "Tables of what there is: state, routes, links, blocks, peers, workloads",
		Example: "  netd show routes\n  netd show state --json > web-017.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fail(exitUsage, "show what? state, routes, links, blocks, peers or workloads")
		},
	}
	var asJSON bool
	cmd.PersistentFlags().BoolVar(&asJSON, "json", false, "print JSON")
	for _, name := range []string{"state", "routes", "links"} {
		cmd.AddCommand(&cobra.Command{
			Use: name, Short: "What netd owns on this host: " + name, Example: "  netd show " + name, Args: cobra.NoArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				p, err := a.planner(cmd.Context())
				if err != nil {
					return err
				}
				v, err := p.state(cmd.Context())
				if err != nil {
					return err
				}
				return a.showState(v, kindsOf[name], asJSON)
			},
		})
	}
	cmd.AddCommand(&cobra.Command{Use: "blocks", Short: "Every node's blocks", Example: "  netd show blocks", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.showBlocks(asJSON) }})
	cmd.AddCommand(&cobra.Command{Use: "workloads", Short: "The workloads that the file declares", Example: "  netd show workloads", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.showWorkloads(asJSON) }})
	cmd.AddCommand(&cobra.Command{Use: "peers", Short: "The BGP sessions", Example: "  netd show peers", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			v, err := a.statusNow(cmd.Context())
			if err != nil {
				return err
			}
			if !v.Daemon {
				return fail(exitNoDaemon, "no daemon runs: BGP is unattended")
			}
			if asJSON {
				return printJSON(a.out, map[string]any{"schema_version": 1, "peers": v.Peers})
			}
			rows := [][]string{{"PEER", "STATE", "SINCE", "LAST ERROR"}}
			for _, p := range v.Peers {
				rows = append(rows, []string{p.Addr.String(), p.State, p.Since.Format(time.RFC3339), p.Error})
			}
			table(a.out, rows)
			return nil
		}})
	return cmd
}

func (a *app) showState(v stateView, kinds []string, asJSON bool) error {
	if kinds != nil {
		var list []json.RawMessage
		if err := json.Unmarshal(v.Resources, &list); err != nil {
			return err
		}
		kept := []json.RawMessage{}
		for _, one := range list {
			var r struct{ Kind string }
			if err := json.Unmarshal(one, &r); err != nil {
				return err
			}
			if slices.Contains(kinds, r.Kind) {
				kept = append(kept, one)
			}
		}
		var err error
		if v.Resources, err = json.Marshal(kept); err != nil {
			return err
		}
	}
	if asJSON {
		return printJSON(a.out, v)
	}
	state, err := readRecorded(v.Resources)
	if err != nil {
		return err
	}
	rows := [][]string{{"KIND", "NAME", "WHAT"}}
	for _, k := range state.Keys() {
		rows = append(rows, []string{k.Kind, k.Name, reconcile.Describe(state[k])})
	}
	table(a.out, rows)
	return nil
}

func (a *app) showBlocks(asJSON bool) error {
	_, c, err := a.load(a.config)
	if err != nil {
		return err
	}
	type row struct {
		Node    string `json:"node"`
		Address string `json:"address"`
		Block   string `json:"block"`
		Network string `json:"network"`
	}
	list := []row{}
	rows := [][]string{{"NODE", "ADDRESS", "BLOCK", "NETWORK"}}
	for _, n := range c.Nodes {
		for _, b := range n.Blocks {
			net, _ := c.NetworkOf(b)
			list = append(list, row{n.Name, n.Address.String(), b.String(), net.Name})
			rows = append(rows, []string{n.Name, n.Address.String(), b.String(), net.Name})
		}
	}
	if asJSON {
		return printJSON(a.out, map[string]any{"schema_version": 1, "blocks": list})
	}
	table(a.out, rows)
	return nil
}

func (a *app) showWorkloads(asJSON bool) error {
	_, c, err := a.load(a.config)
	if err != nil {
		return err
	}
	type row struct {
		Name    string `json:"name"`
		Node    string `json:"node"`
		Address string `json:"address"`
		Network string `json:"network"`
		Netns   string `json:"netns,omitempty"`
	}
	list := []row{}
	rows := [][]string{{"WORKLOAD", "NODE", "ADDRESS", "NETWORK", "CONTAINER"}}
	for _, w := range c.Workloads {
		var addrs []string
		for _, x := range w.Addresses {
			addrs = append(addrs, x.String())
		}
		list = append(list, row{w.Name, w.Node, strings.Join(addrs, ","), w.Network, w.Netns})
		rows = append(rows, []string{w.Name, w.Node, strings.Join(addrs, ","), w.Network, w.Netns + w.Docker + w.Containerd})
	}
	if asJSON {
		return printJSON(a.out, map[string]any{"schema_version": 1, "workloads": list})
	}
	table(a.out, rows)
	return nil
}

// table prints rows in columns; the first row is the head.
func table(w io.Writer, rows [][]string) {
	width := make([]int, len(rows[0]))
	for _, r := range rows {
		for i, c := range r {
			width[i] = max(width[i], min(len([]rune(c)), widest))
		}
	}
	for _, r := range rows {
		var b strings.Builder
		for i, c := range r {
			fmt.Fprintf(&b, "%-*s  ", width[i], c)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
}
