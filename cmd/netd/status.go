package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"netd/reconcile"
	"netd/reconcile/desired"
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
	Nodes         []nodeView           `json:"nodes"`
	Addresses     []blockView          `json:"addresses"` // of this host's blocks
	Config        string               `json:"config"`
	ConfigError   string               `json:"config_error,omitempty"`
	Resting       bool                 `json:"resting"`
	Error         string               `json:"error,omitempty"`      // of the last pass
	LinksDown     []string             `json:"links_down,omitempty"` // by which the other nodes' packets would come
	Unread        []string             `json:"passwords_unread,omitempty"`
	Conflicts     []reconcile.Conflict `json:"conflicts"`
	Contested     []reconcile.Key      `json:"contested"` // objects that someone else keeps changing
	Pending       []workload.Pending   `json:"pending"`
	Notes         []string             `json:"notes"`
	Peers         []sessionView        `json:"peers"`
	Speaker       string               `json:"speaker,omitempty"`
	SpeakerSaid   []string             `json:"speaker_said,omitempty"` // the last lines of one that died
	SpeakerError  string               `json:"speaker_error,omitempty"`
	SpeakerDeaths int                  `json:"speaker_deaths,omitempty"` // in the last minute
	Repairs       []repairView         `json:"repairs"`
	LastPass      time.Time            `json:"last_pass,omitzero"`
	Took          float64              `json:"took"` // seconds
}

// sessionView is a BGP session as `status` has it.
type sessionView struct {
	speaker.Neighbour
	Rejected *rejectedView `json:"rejected,omitempty"` // nil: all that the neighbour told is taken
}

// statusNow is the daemon's status. It runs on the loop's goroutine.
func (d *daemonState) statusNow() statusView {
	d.mu.Lock()
	v := d.status
	v.Repairs, v.Pending = slices.Clone(v.Repairs), slices.Clone(v.Pending)
	rejected := d.rejected
	d.mu.Unlock()
	v.Daemon, v.Since = true, time.Now().Add(-time.Since(d.since)) // the clock may have been set since
	if d.config != nil && d.named {
		v.Nodes, v.Addresses = nodesOf(d.config, d.node), blocksOf(d.config, d.node, v.Pending, d.host.core.All())
	}
	if d.client != nil {
		neighbours, heard := d.client.Neighbours()
		for _, n := range neighbours {
			p := sessionView{Neighbour: n}
			if d.config != nil {
				p.Name = desired.NeighbourName(d.config, n.Addr)
			}
			if n.Established() {
				p.Rejected = rejected[n.Addr]
			}
			v.Peers = append(v.Peers, p)
		}
		st := d.sup.State()
		switch {
		case st.Failing():
			v.SpeakerError, v.SpeakerSaid = fmt.Sprintf("it died %d times in the last minute", st.Deaths), st.Said
		case st.PID != 0 && st.Deaths > 0:
			v.SpeakerSaid = st.Said
		case st.PID == 0 && st.Err != nil:
			v.SpeakerError = st.Err.Error()
		case st.PID == 0:
			v.SpeakerError = "it is being started"
		case d.client.Trouble() != nil:
			v.SpeakerError = d.client.Trouble().Error()
		case !heard:
			v.SpeakerError = "it has not answered yet"
		}
		v.SpeakerDeaths = st.Deaths
		if v.Speaker = "none"; st.PID != 0 {
			v.Speaker = fmt.Sprintf("pid %d", st.PID)
		}
	}
	v.judge()
	return v
}

func (v *statusView) judge() {
	v.Reasons = []string{}
	v.Networks, v.Nodes, v.Addresses = append([]networkView{}, v.Networks...), append([]nodeView{}, v.Nodes...), append([]blockView{}, v.Addresses...)
	v.Conflicts, v.Contested, v.Pending = append([]reconcile.Conflict{}, v.Conflicts...), append([]reconcile.Key{}, v.Contested...), append([]workload.Pending{}, v.Pending...)
	v.Notes, v.Peers, v.Repairs = append([]string{}, v.Notes...), append([]sessionView{}, v.Peers...), append([]repairView{}, v.Repairs...)
	add := func(format string, args ...any) { v.Reasons = append(v.Reasons, fmt.Sprintf(format, args...)) }
	if v.ConfigError != "" {
		add("the configuration is not taken: %s", strings.TrimSpace(v.ConfigError))
	}
	if v.Error != "" {
		add("%s", v.Error)
	}
	v.Reasons = append(append(v.Reasons, v.LinksDown...), v.Unread...)
	for _, c := range v.Conflicts {
		add("%s", conflict(c))
	}
	for _, k := range v.Contested {
		add("%s is changed again and again by someone else", k)
	}
	for _, p := range v.Pending {
		if p.Refused {
			add("%s: %s", p.ID, p.Reason)
		}
	}
	if v.SpeakerError != "" {
		add("the BGP speaker does not hold its sessions: %s", strings.Join(append([]string{v.SpeakerError}, v.SpeakerSaid...), "\n"))
	}
	for _, p := range v.Peers {
		if !p.Established() {
			add("BGP session with %s is %s%s", p.Who(), p.State, because(p.Error))
		} else if p.Rejected != nil && p.Rejected.Lies > 0 { // nodes have one file, and tell what it gives them
			add("node %s tells what is not its own: %s", p.Name, p.Rejected.words(p.Name))
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

func (v statusView) write(w page) {
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
	for _, n := range v.Notes {
		fmt.Fprintf(w, "Note: %s\n", n)
	}
	writePending(w, v.Pending)
	if v.Daemon {
		fmt.Fprintf(w, "Daemon: pid %d, version %s, up %s\n", v.PID, v.Version, time.Since(v.Since).Round(time.Second))
	} else {
		fmt.Fprintln(w, "No daemon runs (netd run): this is what the kernel holds now. BGP is unattended.")
	}
	writeNodes(w, v.Nodes)
	if len(v.Addresses) > 0 {
		fmt.Fprint(w, "\nAddresses:\n")
		rows := [][]string{}
		for _, b := range v.Addresses {
			rows = append(rows, []string{"  " + b.Block.String(), b.words()})
		}
		table(w, rows)
	}
	if len(v.Peers) > 0 {
		fmt.Fprintf(w, "\nBGP sessions (speaker %s):\n", v.Speaker)
		if v.SpeakerDeaths > 0 && v.SpeakerError == "" {
			fmt.Fprintf(w, "  The speaker died %s in the last minute; it last wrote:\n    %s\n", times(v.SpeakerDeaths), strings.Join(v.SpeakerSaid, "\n    "))
		}
		rows := [][]string{}
		for _, p := range v.Peers {
			rows = append(rows, []string{"  " + p.Who(), p.State, time.Since(p.Since).Round(time.Second).String(), p.LastError()})
		}
		table(w, rows)
		for _, p := range v.Peers {
			if p.Rejected != nil && p.Rejected.Lies == 0 {
				name := cmp.Or(p.Name, p.Addr.String())
				fmt.Fprintf(w, "  %s: %s\n", name, p.Rejected.words(name))
			}
		}
	}
	writeRepairs(w, v.Repairs)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (a *app) statusCmd() *cobra.Command {
	var asJSON, follow bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "One screen, one verdict: in sync or not",
		Long: `Whether this host matches the configuration, with BGP sessions, what is pending and the last repairs. Without a daemon the
kernel is compared, and the exit code is 69.

Exits 0 where all is well, 3 where something is degraded, 69 without a daemon.`,
		Example: "  netd status\n  netd status -w\n  netd status --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for {
				v, err := a.statusNow(cmd.Context())
				if err != nil {
					return err
				}
				switch {
				case asJSON:
					err = printJSON(a.out, v)
				case follow && isTerminal(a.out):
					to := a.page(a.out)
					var screen bytes.Buffer // in one write, so that nothing flickers
					screen.WriteString(clearScreen)
					v.write(page{&screen, to.color, to.width})
					_, err = to.Write(screen.Bytes())
				default:
					v.write(a.page(a.out))
				}
				switch {
				case err != nil:
					return err
				case follow:
					select {
					case <-cmd.Context().Done():
						return nil
					case <-time.After(time.Second):
						if !asJSON && !isTerminal(a.out) {
							fmt.Fprintln(a.out)
						}
						continue
					}
				case !v.Daemon:
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
	c, err := a.dialDaemon(ctx)
	if err != nil {
		return statusView{}, err
	}
	if c != nil {
		var v statusView
		err = c.do(ctx, "GET", "/v1/status", request{}, &v)
		return v, err
	}
	v := statusView{SchemaVersion: 1, Version: version, Speaker: "unattended", Networks: []networkView{}}
	p, conf, err := local{a}.look(ctx, a.config)
	var e *exit
	switch {
	case errors.As(err, &e) && e.code == exitConfig:
		if v.ConfigError = "it has faults (netd validate names them)"; e.err != nil {
			v.ConfigError = e.Error()
		}
	case err != nil:
		return v, err
	}
	if conf != nil {
		if node, ok := conf.Node(p.Node); ok {
			v.Nodes, v.Addresses = nodesOf(conf, node), blocksOf(conf, node, p.Pending, a.attachedOnDisk())
		}
	}
	v.Node, v.Networks, v.Config, v.Conflicts, v.Pending, v.Notes = p.Node, p.Networks, p.Config, p.Conflicts, p.Pending, p.Notes
	if n := len(p.Changes); n > 0 {
		v.Error = fmt.Sprintf("the host differs from the configuration in %s (see netd plan)", count(n, "object"))
	}
	v.judge()
	return v, nil
}
