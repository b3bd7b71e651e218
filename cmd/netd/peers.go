package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
)

// peerView is a neighbour as `show peers` prints it.
type peerView struct {
	ASN uint32 `json:"asn,omitempty"`
	speaker.Neighbour
	Received   int `json:"received"`
	Accepted   int `json:"accepted"`
	Rejected   int `json:"rejected"`
	Advertised int `json:"advertised"`
}

// peersView is `show peers --json`.
type peersView struct {
	SchemaVersion int        `json:"schema_version"`
	Peers         []peerView `json:"peers"`
}

// routeView is a path of a BGP table, with the verdict on it.
type routeView struct {
	speaker.Route
	From   string `json:"from,omitempty"`   // the name of who told it
	Reason string `json:"reason,omitempty"` // why it is not taken
	Text   string `json:"attributes"`
}

// routesView is `show peers NAME --routes … --json` and `show routes --bgp --json`.
type routesView struct {
	SchemaVersion int         `json:"schema_version"`
	Peer          string      `json:"peer,omitempty"`
	Which         string      `json:"which"`
	Down          []string    `json:"down,omitempty"` // of the peer's sessions: which are not up, and why
	Routes        []routeView `json:"routes"`
}

// Which routes of a neighbour are shown.
var whichRoutes = []string{"received", "accepted", "rejected", "advertised"}

// looker asks a speaker on behalf of those who look. Large tables take their time, so that it does not run on the loop.
type looker struct {
	client *speaker.Client
	config *config.Config
	node   config.Node
	peers  []speaker.Neighbour
	judge  func(object.BestPath) desired.Verdict
}

// looker takes from the loop what it needs.
func (d *daemonState) looker(ctx context.Context) (*looker, error) {
	var l *looker
	var ferr error
	if err := d.call(ctx, func(ctx context.Context) {
		if d.client == nil || d.config == nil || !d.named {
			return
		}
		l = &looker{client: d.client, config: d.config, node: d.node}
		var facts desired.Facts
		facts.Host, ferr = d.host.kernel.Host(ctx)
		l.judge = desired.Judge(d.config, d.node, facts)
	}); err != nil || ferr != nil {
		return nil, errors.Join(err, ferr)
	}
	if l == nil {
		return nil, nil
	}
	var heard bool
	if l.peers, heard = l.client.Neighbours(); !heard {
		return nil, fail(exitDegraded, "no BGP speaker answers (netd status says why)")
	}
	return l, nil
}

// sorted divides what a neighbour told into what was taken and what was not, with the reason.
func (l *looker) sorted(received []speaker.Route, taken map[speakerPath]bool) []routeView {
	out := make([]routeView, 0, len(received))
	for _, r := range received {
		v := l.view(r)
		v.Reason = l.reason(r, taken[speakerPath{r.Peer, r.Prefix}])
		out = append(out, v)
	}
	return out
}

// reason is why a route that a neighbour told is not taken, "" where it is. Loops come first: the speaker looks for them
// before it asks any list.
func (l *looker) reason(r speaker.Route, taken bool) string {
	if why := l.ownAS(r); why != "" {
		return why
	}
	if why := l.judge(r.BestPath()).Why; why != "" || taken {
		return why
	}
	if why := l.reflected(r); why != "" {
		return why
	}
	return "the speaker does not take it"
}

// ownAS says that a route went through this node's AS, if so.
func (l *looker) ownAS(r speaker.Route) string {
	if slices.Contains(r.ASPath, l.node.ASN) {
		return fmt.Sprintf("a loop: this node's AS %d is in its path", l.node.ASN)
	}
	return ""
}

// reflected says that a route went through this node by way of reflectors, if so.
func (l *looker) reflected(r speaker.Route) string {
	switch cluster := l.node.RouteReflector; {
	case r.Originator == l.node.RouterID.String():
		return "a loop: this node is its originator (RFC 4456 §8)"
	case cluster.IsValid() && slices.Contains(r.Clusters, cluster.String()):
		return fmt.Sprintf("a loop: this node's cluster %s is in its path (RFC 4456 §8)", cluster)
	}
	return ""
}

// speakerPath is a path of the speaker's table.
type speakerPath struct {
	peer   netip.Addr
	prefix netip.Prefix
}

func takenOf(table []speaker.Route) map[speakerPath]bool {
	out := make(map[speakerPath]bool, len(table))
	for _, r := range table {
		out[speakerPath{r.Peer, r.Prefix}] = true
	}
	return out
}

func (l *looker) view(r speaker.Route) routeView {
	v := routeView{Route: r, Text: r.Attributes(), From: "this node"}
	if r.Peer.IsValid() {
		v.From = l.nameOf(r.Peer)
	}
	return v
}

// own is the view of one of this host's own routes in the speaker's table: it says whom it is told to.
func (l *looker) own(r speaker.Route) routeView {
	v := l.view(r)
	v.ToldTo = nil
	for _, to := range r.ToldTo {
		if a, err := netip.ParseAddr(to); err == nil {
			name, up := l.toldName(a)
			if !up {
				continue // it will be
			}
			to = name
		}
		v.ToldTo = append(v.ToldTo, to)
	}
	slices.Sort(v.ToldTo)
	words := "told to nobody"
	if len(v.ToldTo) > 0 {
		words = "told to " + strings.Join(v.ToldTo, ", ")
	}
	if v.Text != "" {
		words = v.Text + ", " + words
	}
	v.Text = words
	return v
}

// toldName is the name of a neighbour by an address without a zone, and whether its session is up.
func (l *looker) toldName(a netip.Addr) (name string, up bool) {
	for _, n := range l.peers {
		if n.Addr.WithZone("") == a {
			return l.nameOf(n.Addr), n.Established()
		}
	}
	return a.String(), false
}

func (l *looker) nameOf(a netip.Addr) string {
	if name := desired.NeighbourName(l.config, a); name != "" {
		return name
	}
	return a.String()
}

// looks says of a look at a speaker that has only just started what it means.
func looks(at func(context.Context, request) (any, error)) func(context.Context, request) (any, error) {
	return func(ctx context.Context, r request) (any, error) {
		v, err := at(ctx, r)
		if errors.Is(err, speaker.ErrNotStarted) {
			return v, fail(exitDegraded, "the BGP speaker has only just started, and has no sessions yet")
		}
		return v, err
	}
}

// peers is every neighbour with its counts.
func (d *daemonState) peersNow(ctx context.Context, _ request) (any, error) {
	v := peersView{SchemaVersion: 1, Peers: []peerView{}}
	l, err := d.looker(ctx)
	if err != nil || l == nil {
		return v, err
	}
	counts, err := l.client.Counts(ctx)
	if err != nil {
		return v, err
	}
	table, err := l.client.Routes(ctx, speaker.LocRIB, netip.Addr{})
	if err != nil {
		return v, err
	}
	accepted := map[netip.Addr]int{}
	for _, r := range table {
		if r.Peer.IsValid() && l.judge(r.BestPath()).Why == "" {
			accepted[r.Peer]++
		}
	}
	for _, n := range l.peers {
		c := counts[n.Addr]
		n.Name = l.nameOf(n.Addr)
		p := peerView{ASN: asnOf(l.config, n.Addr), Neighbour: n, Received: c.Received, Accepted: accepted[n.Addr]}
		if n.Established() { // else it is what the speaker would tell
			p.Advertised = c.Advertised
		}
		p.Rejected = max(c.Received-p.Accepted, 0)
		v.Peers = append(v.Peers, p)
	}
	return v, nil
}

func asnOf(c *config.Config, a netip.Addr) uint32 {
	for _, n := range c.Nodes {
		if n.Address.Addr() == a || n.Address6.Addr() == a {
			return n.ASN
		}
	}
	for _, p := range c.Peers {
		if p.Address == a || p.Address == a.WithZone("") {
			return p.ASN
		}
	}
	return 0
}

// routesNow is a neighbour's routes, or the whole table where no neighbour is named.
func (d *daemonState) routesNow(ctx context.Context, r request) (any, error) {
	v := routesView{SchemaVersion: 1, Which: r.Which, Routes: []routeView{}}
	l, err := d.looker(ctx)
	if err != nil {
		return v, err
	}
	if l == nil {
		return v, fail(exitFailed, "the file wants no BGP session on this node")
	}
	if r.Which == string(speaker.LocRIB) {
		table, err := l.client.Routes(ctx, speaker.LocRIB, netip.Addr{})
		for _, x := range table {
			if x.Peer.IsValid() {
				v.Routes = append(v.Routes, l.view(x))
			} else {
				v.Routes = append(v.Routes, l.own(x))
			}
		}
		return v, err
	}
	sessions, err := l.find(r.Peer)
	if err != nil {
		return v, err
	}
	v.Peer = sessions[0].Name
	for _, n := range sessions {
		if !n.Established() {
			v.Down = append(v.Down, fmt.Sprintf("the session with %s is %s%s", n.Who(), n.State, because(n.Error)))
		}
	}
	if r.Which == "advertised" {
		for _, n := range sessions {
			if !n.Established() {
				continue
			}
			table, err := l.client.Routes(ctx, speaker.AdjOut, n.Addr)
			if err != nil {
				return v, err
			}
			for _, x := range table {
				v.Routes = append(v.Routes, l.view(x))
			}
		}
		return v, nil
	}
	table, err := l.client.Routes(ctx, speaker.LocRIB, netip.Addr{})
	if err != nil {
		return v, err
	}
	taken := takenOf(table)
	for _, n := range sessions {
		received, err := l.client.Routes(ctx, speaker.AdjIn, n.Addr)
		if err != nil {
			return v, err
		}
		for _, x := range l.sorted(received, taken) {
			if r.Which == "received" || (r.Which == "accepted") == (x.Reason == "") {
				v.Routes = append(v.Routes, x)
			}
		}
	}
	return v, nil
}

// find is the sessions with the neighbour of a name, one for each family that two nodes have one in, or the one with an address.
func (l *looker) find(name string) ([]speaker.Neighbour, error) {
	var out []speaker.Neighbour
	var all []peerView
	for _, n := range l.peers {
		if n.Name = l.nameOf(n.Addr); n.Addr.String() == name || n.Name == name {
			out = append(out, n)
		}
		all = append(all, peerView{Neighbour: n})
	}
	if len(out) == 0 {
		return nil, noSession(name, all)
	}
	return out, nil
}

func noSession(with string, all []peerView) error {
	var names []string
	for _, p := range all {
		if !slices.Contains(names, p.Name) { // two nodes may have a session for each family
			names = append(names, p.Name)
		}
	}
	return fail(exitUsage, "no BGP session with %q; there are %s", with, strings.Join(names, ", "))
}

// showPeersCmd is `show peers [NAME --routes …]`.
func (a *app) showPeersCmd(asJSON *bool) *cobra.Command {
	var routes string
	cmd := &cobra.Command{
		Use:   "peers [NAME]",
		Short: "The BGP sessions, and what was told on each",
		Long: `The BGP sessions of this node: state, since when, how many prefixes were received, accepted, rejected and advertised, and the
last error. With a node's or peer's name, or an address, and --routes: the prefixes themselves, each rejected one with the
reason. Exits 69 without a daemon.`,
		Example: "  netd show peers\n  netd show peers tor-a --routes rejected",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case routes != "" && !slices.Contains(whichRoutes, routes):
				return fail(exitUsage, "--routes %s: want %s", routes, strings.Join(whichRoutes, ", "))
			case routes != "" && len(args) == 0:
				return fail(exitUsage, "--routes %s: of which peer? netd show peers NAME --routes %s", routes, routes)
			}
			if routes != "" {
				return a.showRoutes(cmd.Context(), request{Peer: args[0], Which: routes}, *asJSON)
			}
			name := ""
			if len(args) == 1 {
				name = args[0]
			}
			return a.showPeers(cmd.Context(), name, *asJSON)
		},
	}
	cmd.Flags().StringVar(&routes, "routes", "", "the prefixes of one peer: "+strings.Join(whichRoutes, ", "))
	return cmd
}

func (a *app) askSpeaker(ctx context.Context, path string, r request, v any) error {
	c, err := a.dialDaemon(ctx)
	if err != nil {
		return err
	}
	if c == nil {
		return fail(exitNoDaemon, "no daemon runs: BGP is unattended")
	}
	return c.do(ctx, "POST", path, r, v)
}

func (a *app) showPeers(ctx context.Context, name string, asJSON bool) error {
	var v peersView
	if err := a.askSpeaker(ctx, "/v1/peers", request{}, &v); err != nil {
		return err
	}
	if name != "" {
		kept := slices.DeleteFunc(slices.Clone(v.Peers), func(p peerView) bool { return p.Name != name && p.Addr.String() != name })
		if len(kept) == 0 {
			return noSession(name, v.Peers)
		}
		v.Peers = kept
	}
	if asJSON {
		return printJSON(a.out, v)
	}
	if len(v.Peers) == 0 {
		fmt.Fprintln(a.out, "No BGP sessions are wanted.")
		return nil
	}
	rows := [][]string{{"PEER", "ADDRESS", "AS", "STATE", "SINCE", "RECEIVED", "ACCEPTED", "REJECTED", "ADVERTISED", "LAST ERROR"}}
	for _, p := range v.Peers {
		rows = append(rows, []string{p.Name, p.Addr.String(), strconv.FormatUint(uint64(p.ASN), 10), p.State, p.Since.Format(time.RFC3339),
			strconv.Itoa(p.Received), strconv.Itoa(p.Accepted), strconv.Itoa(p.Rejected), strconv.Itoa(p.Advertised), p.LastError()})
	}
	table(a.page(a.out), rows)
	return nil
}

// showRoutes prints one table of BGP's.
func (a *app) showRoutes(ctx context.Context, r request, asJSON bool) error {
	var v routesView
	if err := a.askSpeaker(ctx, "/v1/peers/routes", r, &v); err != nil {
		return err
	}
	if asJSON {
		return printJSON(a.out, v)
	}
	for _, down := range v.Down {
		fmt.Fprintf(a.page(a.talk), "netd: %s\n", down)
	}
	if len(v.Routes) == 0 {
		fmt.Fprintln(a.out, "No routes.")
		return nil
	}
	head := []string{"PREFIX", "NEXT HOP", "FROM", "ATTRIBUTES"}
	if r.Which == "received" || r.Which == "rejected" {
		head = append(head, "REJECTED BECAUSE")
	}
	rows := [][]string{head}
	for _, x := range v.Routes {
		prefix := x.Prefix.String()
		if r.Which == string(speaker.LocRIB) {
			mark := "  " // the others stand below the best
			if x.Best {
				mark = "* "
			}
			prefix = mark + prefix
		}
		hop := ""
		if x.NextHop.IsValid() {
			hop = x.NextHop.String()
		}
		rows = append(rows, []string{prefix, hop, x.From, x.Text, x.Reason}[:len(head)])
	}
	table(a.page(a.out), rows)
	return nil
}
