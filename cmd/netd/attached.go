package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
)

// attachedView is what is attached on this host, and how much of its blocks that takes.
type attachedView struct {
	SchemaVersion int            `json:"schema_version"`
	Node          string         `json:"node"`
	Workloads     []workloadView `json:"workloads"`
	Blocks        []usageView    `json:"blocks"`
}

// workloadView is a container: attached on this host, or declared in the file for any.
type workloadView struct {
	Name      string       `json:"name"` // what the file or the runtime calls it
	ID        object.Place `json:"id"`
	Runtime   string       `json:"runtime"` // "file", "cni", "docker"
	Container string       `json:"container,omitempty"`
	Node      string       `json:"node"`
	Address   string       `json:"address"`
	Network   string       `json:"network"`
	Netns     string       `json:"netns,omitempty"`
	Interface string       `json:"interface,omitempty"`
	HostEnd   string       `json:"host_end,omitempty"` // empty: not attached
	Ports     []string     `json:"ports,omitempty"`    // that this host publishes for it: "8080->80/tcp"
	Since     time.Time    `json:"since,omitzero"`
	Sent      uint64       `json:"packets_sent"` // by the container
	Received  uint64       `json:"packets_received"`
}

// usageView is one block of a node of the file; what is used is known of this host's alone.
type usageView struct {
	Node    string       `json:"node"`
	Address string       `json:"address"`
	Block   netip.Prefix `json:"block"`
	Network string       `json:"network"`
	Known   bool         `json:"usage_known"`
	Used    uint64       `json:"used"`
	Free    uint64       `json:"free"`
	Pending int          `json:"pending,omitempty"` // of those used: the file's, whose container does not run
	By      string       `json:"by"`
}

// attachedNow looks at what is attached. c is nil where no configuration is in force.
func (h *host) attachedNow(c *config.Config, node config.Node) (attachedView, error) {
	v := attachedView{SchemaVersion: 1, Node: node.Name, Workloads: []workloadView{}, Blocks: []usageView{}}
	add := func(w workloadView) error {
		link := object.VethName(string(w.ID))
		sent, received, there, err := h.kernel.Packets(link)
		if there {
			w.HostEnd, w.Sent, w.Received = link, sent, received
		}
		v.Workloads = append(v.Workloads, w)
		return err
	}
	if c != nil {
		for _, w := range c.Workloads {
			if w.Node != node.Name {
				continue
			}
			if err := add(declaredView(w)); err != nil {
				return v, err
			}
		}
		for _, u := range h.core.Usage(workload.Site{Config: c, Node: node}) {
			for _, w := range v.Workloads { // the file's alone so far
				for _, a := range splitAddresses(w.Address) {
					if w.HostEnd == "" && u.Block.Contains(a) {
						u.Pending++
					}
				}
			}
			v.Blocks = append(v.Blocks, usageView{Node: node.Name, Block: u.Block, Network: u.Network, Known: true, Used: min(u.Used(), u.Size), Free: u.Free(),
				Pending: u.Pending, By: u.By()})
		}
	}
	for _, e := range h.core.All() {
		w := workloadView{Name: e.Name, ID: e.ID, Runtime: e.Owner, Container: e.Container, Node: node.Name, Address: addresses(e.Addrs()), Network: e.Network,
			Netns: e.Netns, Interface: e.Interface, Since: e.Since}
		if w.Name == "" {
			w.Name = e.Container
		}
		w.Ports = texts(e.Ports)
		if err := add(w); err != nil {
			return v, err
		}
	}
	return v, nil
}

func declaredView(w config.Workload) workloadView {
	return workloadView{Name: w.Name, ID: desired.WorkloadID(w), Runtime: "file", Node: w.Node, Address: addresses(w.Addresses), Network: w.Network,
		Container: w.Docker + w.Containerd, Netns: w.Netns, Interface: w.Interface}
}

func addresses(as []netip.Addr) string {
	var out []string
	for _, a := range as {
		out = append(out, a.String())
	}
	return strings.Join(out, ",")
}

// splitAddresses is the inverse of addresses.
func splitAddresses(s string) (out []netip.Addr) {
	for one := range strings.SplitSeq(s, ",") {
		if a, err := netip.ParseAddr(one); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// attachedHere is what the daemon says, or this process sees where none runs. ok is false where only the file can be read:
// without rights.
func (a *app) attachedHere(ctx context.Context, c *config.Config) (v attachedView, ok bool, err error) {
	if os.Geteuid() != 0 {
		return v, false, nil
	}
	client, err := a.dialDaemon(ctx)
	if err != nil {
		return v, false, err
	}
	if client != nil {
		err = client.do(ctx, "GET", "/v1/attached", request{}, &v)
		return v, err == nil, err
	}
	h, err := a.openHost(true)
	if err != nil {
		return v, false, err
	}
	defer h.close()
	node, _, err := h.identify(ctx, c, a.node)
	if err != nil {
		return v, false, nil // on a host that is none of the file's, the file is what there is
	}
	v, err = h.attachedNow(c, node)
	return v, err == nil, err
}

// before is the node that this host is to the daemon, or was when it was written to last, empty where that is not known, and whether
// what was made then is to be there.
func (a *app) before(ctx context.Context) (node string, applied bool) {
	client, err := a.dialDaemon(ctx)
	if err != nil {
		return "", false
	}
	if client != nil {
		var v statusView
		err := client.do(ctx, "GET", "/v1/status", request{}, &v)
		return v.Node, err == nil && v.Node != "" && !v.Resting
	}
	db, err := store.Open(a.stateDir, true)
	if err != nil {
		return "", false
	}
	defer db.Close()
	node = db.Applied().Node
	return node, node != "" && !db.Resting()
}

// attachedOnDisk is what the store knows; nothing where it cannot be read, which is said elsewhere.
func (a *app) attachedOnDisk() (es []store.Endpoint) {
	db, err := store.Open(a.stateDir, true)
	if err != nil {
		return nil
	}
	defer db.Close()
	_ = db.View(func(tx store.Tx) error {
		return tx.Endpoints(func(e store.Endpoint) error { es = append(es, e); return nil })
	})
	return es
}

func (d *daemonState) attachedNow(context.Context, request) (attachedView, error) {
	return d.host.attachedNow(d.config, d.node)
}

func (a *app) showBlocks(ctx context.Context, asJSON bool) error {
	_, c, err := a.load(a.config)
	if err != nil {
		return err
	}
	here, known, err := a.attachedHere(ctx, c)
	if err != nil {
		return err
	}
	list := []usageView{}
	rows := [][]string{{"NODE", "ADDRESS", "BLOCK", "NETWORK"}}
	if known {
		rows[0] = append(rows[0], "USED", "FREE", "BY")
	}
	for _, n := range nodesOf(c, config.Node{Name: here.Node}) {
		for _, b := range n.Blocks {
			net, _ := c.NetworkOf(b)
			u := usageView{Node: n.Name, Address: n.Address, Block: b, Network: net.Name}
			row := []string{n.Name, n.Address, b.String(), net.Name}
			for _, x := range here.Blocks {
				if n.ThisHost && x.Block == b {
					x.Address = n.Address
					u = x
					row = append(row, strconv.FormatUint(x.Used, 10), strconv.FormatUint(x.Free, 10), x.By)
				}
			}
			for len(row) < len(rows[0]) {
				row = append(row, "")
			}
			list, rows = append(list, u), append(rows, row)
		}
	}
	if asJSON {
		return printJSON(a.out, map[string]any{"schema_version": 1, "blocks": list})
	}
	table(a.page(a.out), rows)
	return nil
}

func (a *app) showWorkloads(ctx context.Context, asJSON bool) error {
	_, c, err := a.load(a.config)
	if err != nil {
		return err
	}
	here, known, err := a.attachedHere(ctx, c)
	if err != nil {
		return err
	}
	list := here.Workloads
	for _, w := range c.Workloads {
		if !known || w.Node != here.Node {
			list = append(list, declaredView(w))
		}
	}
	if asJSON {
		return printJSON(a.out, map[string]any{"schema_version": 1, "workloads": append([]workloadView{}, list...)})
	}
	rows := [][]string{{"WORKLOAD", "NODE", "ADDRESS", "NETWORK", "CONTAINER"}}
	if known {
		rows[0] = append(rows[0], "RUNTIME", "HOST END", "SINCE", "SENT", "RECEIVED")
	}
	published := slices.ContainsFunc(list, func(w workloadView) bool { return len(w.Ports) > 0 })
	if published {
		rows[0] = append(rows[0], "PORTS")
	}
	for _, w := range list {
		row := []string{w.Name, w.Node, strings.ReplaceAll(w.Address, ",", ", "), w.Network, w.Container}
		switch {
		case w.Container == "":
			row[4] = w.Netns
		case w.Runtime == "docker" && len(w.Container) > 12:
			row[4] = w.Container[:12] // as `docker ps` has it
		}
		if known {
			since, end, sent, received := "", "", "", ""
			if !w.Since.IsZero() {
				since = w.Since.Format(time.RFC3339)
			}
			switch {
			case w.HostEnd != "":
				end, sent, received = w.HostEnd, strconv.FormatUint(w.Sent, 10), strconv.FormatUint(w.Received, 10)
			case w.Node == here.Node:
				end = "not attached"
			}
			row = append(row, w.Runtime, end, since, sent, received)
		}
		if published {
			row = append(row, strings.Join(w.Ports, ", "))
		}
		rows = append(rows, row)
	}
	table(a.page(a.out), rows)
	if known && len(list) == 0 {
		fmt.Fprintln(a.talk, "No workload is attached here, and the file declares none.")
	}
	return nil
}
