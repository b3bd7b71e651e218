package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/kernel"
	"netd/reconcile/probe"
)

// testView is what `test --json` prints.
type testView struct {
	SchemaVersion int          `json:"schema_version"`
	Verdict       string       `json:"verdict"` // "ok", "DEGRADED"
	Targets       []targetView `json:"targets"`
}

// targetView is one address that was asked.
type targetView struct {
	Name     string     `json:"name"`
	Kind     string     `json:"kind"` // "node", "tunnel", "workload", "address"
	Address  netip.Addr `json:"address"`
	Result   string     `json:"result"` // "ok", "lossy", "lost", "narrow"; "pending" of a container that does not run here
	Sent     int        `json:"sent"`
	Received int        `json:"received"`
	RTT      float64    `json:"rtt,omitempty"`      // seconds, the mean
	PathMTU  int        `json:"path_mtu,omitempty"` // bytes
	Link     string     `json:"link,omitempty"`     // by which packets to it leave
	LinkMTU  int        `json:"link_mtu,omitempty"` // bytes
	Reason   string     `json:"reason,omitempty"`

	from netip.Addr
}

func (v targetView) bad() bool { return v.Result != "ok" && v.Result != "pending" }

func (v targetView) row() []string {
	loss, rtt, mtu, result := "", "", "", v.Result
	if v.Sent > 0 {
		loss = fmt.Sprintf("%d %%", 100*(v.Sent-v.Received)/v.Sent)
	}
	if v.RTT > 0 {
		rtt = fmt.Sprintf("%.3f ms", v.RTT*1000)
	}
	if v.PathMTU > 0 {
		mtu = fmt.Sprint(v.PathMTU)
	}
	if v.Reason != "" {
		result += ": " + v.Reason
	}
	return []string{v.Name, v.Kind, v.Address.String(), loss, rtt, mtu, result}
}

func (a *app) testCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "test [ADDRESS...]",
		Short: "Ping every node and workload: loss, RTT, path MTU",
		Long: `Ping from this host, all at once: each other node's address, its end of each tunnel, and every workload of the file or
attached here. A path that carries smaller packets than the link they leave by is named. With ADDRESSes, only these.

Exits 0 where all is well, 3 where something is lost, lossy or narrow.`,
		Example: "  netd test\n  netd test 10.10.194.134\n  netd test --json",
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			v := testView{SchemaVersion: 1, Verdict: "ok", Targets: []targetView{}}
			for _, arg := range args {
				addr, err := netip.ParseAddr(arg)
				if err != nil {
					return fail(exitUsage, "%s is no address: give addresses, such as 10.10.194.134, or none for all nodes and workloads", arg)
				}
				v.Targets = append(v.Targets, targetView{Name: arg, Kind: "address", Address: addr})
			}
			if len(args) == 0 {
				var err error
				if v.Targets, err = a.targets(ctx); err != nil {
					return err
				}
			}
			done := a.waiting("the answers")
			err := measure(ctx, v.Targets)
			if done(); err != nil {
				return err
			}
			if slices.ContainsFunc(v.Targets, targetView.bad) {
				v.Verdict = "DEGRADED"
			}
			if asJSON {
				err = printJSON(a.out, v)
			} else {
				rows := [][]string{{"TARGET", "KIND", "ADDRESS", "LOSS", "RTT", "MTU", "RESULT"}}
				for _, t := range v.Targets {
					rows = append(rows, t.row())
				}
				table(a.page(a.out), rows)
			}
			if err == nil && v.Verdict != "ok" {
				return &exit{code: exitDegraded}
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

// targets are all addresses that this host should reach.
func (a *app) targets(ctx context.Context) ([]targetView, error) {
	if os.Geteuid() != 0 {
		return nil, fail(exitNoPerm, "test looks at what is attached here")
	}
	_, c, err := a.load(a.config)
	if err != nil {
		return nil, err
	}
	here, _, err := a.attachedHere(ctx, c)
	if err != nil {
		return nil, err
	}
	node, known := c.Node(here.Node)
	if !known {
		return nil, fail(exitConfig, "this host is none of the file's nodes: give --node where it cannot be told by its address")
	}
	out := nodeTargets(c, node)
	for _, w := range append(here.Workloads, elsewhere(c, node)...) {
		for _, addr := range splitAddresses(w.Address) {
			t := targetView{Name: w.Name, Kind: "workload", Address: addr}
			if w.Node == node.Name && w.HostEnd == "" {
				t.Result, t.Reason = "pending", "it is not attached"
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// nodeTargets are the other nodes' addresses, which are asked from this node's own, and their ends of the tunnels.
func nodeTargets(c *config.Config, self config.Node) []targetView {
	out := []targetView{}
	for _, n := range c.Nodes {
		if n.Name == self.Name {
			continue
		}
		for _, x := range [][2]netip.Prefix{{n.Address, self.Address}, {n.Address6, self.Address6}} {
			if to, from := x[0], x[1]; to.IsValid() && from.IsValid() {
				out = append(out, targetView{Name: n.Name, Kind: "node", Address: to.Addr(), from: from.Addr()})
			}
		}
		for _, network := range c.Networks {
			for _, v6 := range []bool{false, true} {
				if end, ok := c.Tunnel(n, network.Name, v6); ok && network.Mode != config.ModeBGP {
					out = append(out, targetView{Name: n.Name, Kind: "tunnel", Address: end})
				}
			}
		}
	}
	return out
}

// elsewhere are the workloads that the file declares on other nodes.
func elsewhere(c *config.Config, self config.Node) (out []workloadView) {
	for _, w := range c.Workloads {
		if w.Node != self.Name {
			out = append(out, declaredView(w))
		}
	}
	return out
}

// measure fills in what is found of each target.
func measure(ctx context.Context, list []targetView) error {
	var asked []int
	var addrs []netip.Addr
	for i, t := range list {
		if t.Result == "" {
			asked, addrs = append(asked, i), append(addrs, t.Address)
		}
	}
	links, err := kernel.LinksTo(addrs)
	if err != nil {
		return err
	}
	targets := make([]probe.Target, len(asked))
	for i, at := range asked {
		list[at].Link, list[at].LinkMTU = links[i].Name, min(links[i].MTU, 65535) // lo's is more than a packet can be
		targets[i] = probe.Target{Addr: addrs[i], From: list[at].from, MTU: list[at].LinkMTU}
	}
	results, err := probe.Ping(ctx, targets, probe.Options{})
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EPERM) {
		return &exit{exitNoPerm, err}
	}
	if err != nil {
		return err
	}
	for i, at := range asked {
		list[at].judge(results[i])
	}
	return nil
}

func (v *targetView) judge(r probe.Result) {
	v.Sent, v.Received, v.RTT, v.PathMTU = r.Sent, r.Received, r.RTT.Seconds(), r.MTU
	if r.Err != nil {
		v.Reason = r.Err.Error()
	}
	switch {
	case r.Received == 0:
		v.Result = "lost"
	case r.Received < r.Sent:
		v.Result = "lossy"
	case r.MTU < v.LinkMTU:
		v.Result, v.Reason = "narrow", fmt.Sprintf("the path carries %d bytes, %s %d", r.MTU, v.Link, v.LinkMTU)
	default:
		v.Result = "ok"
	}
}
