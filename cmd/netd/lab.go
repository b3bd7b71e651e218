package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"netd/config"
	"netd/testenv/lab"
)

func (a *app) labCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Try a file on one machine: its hosts as network namespaces",
		Long: `Make every node of a file a network namespace on a wire of its own, with the file's real addresses, namespaces for its
workloads, and netd in each. The file stays the lab's: edit it and watch. Nothing of this machine's own network is touched.
Needs root, ip and nsenter.`,
		Example: "  netd lab up netd.hcl\n  netd lab exec baihl-master netd plan\n  netd lab exec nginx-master ping -c1 10.10.194.134\n  netd lab test\n  netd lab down",
		Args:    noArgs,
		RunE:    func(*cobra.Command, []string) error { return fail(exitUsage, "lab what? up, exec, test or down") },
	}
	up := &cobra.Command{Use: "up FILE", Short: "Bring the file's hosts up",
		Long: "Bring every host of the file up as a network namespace with netd in it, and wait until each is in sync. The file is followed where it\nlies. One lab is up at a time; a second is refused.", Example: "  netd lab up netd.hcl", Args: labArgs(1, 1, "which file? netd lab up FILE"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.labUp(cmd.Context(), args[0]) }}
	down := &cobra.Command{Use: "down", Short: "Take the lab down; nothing stays", Example: "  netd lab down", Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			if os.Geteuid() != 0 {
				return fail(exitNoPerm, "a lab is made of network namespaces")
			}
			done := a.waiting("the lab's processes to end")
			err := lab.Down()
			if done(); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fail(exitFailed, "taking the lab down: %w", err)
			} else if err != nil {
				fmt.Fprintln(a.talk, "No lab is up.")
			}
			return nil
		}}
	run := &cobra.Command{Use: "exec NODE CMD...", Short: "Run a command on a node or in a workload",
		Long: `Run a command on a node or in a workload's namespace; its exit code is this one's. netd there means this netd, and it needs no
flags to find the node's daemon.`,
		Example: "  netd lab exec baihl-master ip route\n  netd lab exec baihl-master netd status\n  netd lab exec nginx-master ping -c1 10.10.194.134",
		Args:    labArgs(2, math.MaxInt, "where, and what? netd lab exec NODE CMD..."), ValidArgsFunction: a.completeLab, RunE: func(_ *cobra.Command, args []string) error {
			l, err := a.lab()
			if err != nil {
				return err
			}
			cmd, err := l.Command(args[0], args[1:]...)
			if err != nil {
				return fail(exitUsage, "%w", err)
			}
			cmd.Stdin, cmd.Stdout, cmd.Stderr = a.in, a.out.file, a.talk
			var e *exec.ExitError
			if err := cmd.Run(); errors.As(err, &e) {
				return &exit{code: e.ExitCode()}
			} else if err != nil {
				return err
			}
			return nil
		}}
	run.Flags().SetInterspersed(false)
	var asJSON bool
	test := &cobra.Command{Use: "test", Short: "Ping between all pairs of workloads",
		Long:    "Ping from every workload of the lab to every other, and print a table. Exits 0 where all answer, 3 otherwise.",
		Example: "  netd lab test", Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.labTest(asJSON) }}
	test.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	var name, file string
	var paths []string
	hold := &cobra.Command{Use: "hold", Hidden: true, Args: noArgs,
		RunE: func(*cobra.Command, []string) error {
			return lab.Hold(name, file, "/proc/self/exe", paths)
		}}
	hold.Flags().StringVar(&name, "name", "", "")
	hold.Flags().StringVarP(&file, "config", "c", "", "")
	hold.Flags().StringArrayVar(&paths, "netns", nil, "")
	cmd.AddCommand(up, run, test, down, hold)
	return cmd
}

// labArgs asks for what is not there, or is too much.
func labArgs(least, most int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return errors.New(what)
		}
		return nil
	}
}

func (a *app) lab() (*lab.Lab, error) {
	if os.Geteuid() != 0 {
		return nil, fail(exitNoPerm, "a lab is made of network namespaces")
	}
	l, err := lab.Open()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fail(exitFailed, "no lab is up: netd lab up FILE makes one")
	}
	return l, err
}

func (a *app) labUp(ctx context.Context, file string) error {
	if os.Geteuid() != 0 {
		return fail(exitNoPerm, "a lab is made of network namespaces")
	}
	for _, tool := range []string{"ip", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fail(exitFailed, "a lab needs %s (Debian's packages iproute2 and util-linux)", tool)
		}
	}
	_, c, err := a.load(file)
	if err != nil {
		return err
	}
	if err := refuse(c); err != nil {
		return err
	}
	path, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path, "/run/") {
		return fail(exitUsage, "%s: every host of the lab has a /run of its own; put the file elsewhere", path)
	}
	if _, err := os.Stat("/proc/sys/net/ipv4/conf/tunl0"); err != nil && usesIPIP(c) {
		return fail(exitFailed, "mode ipip needs the kernel's module ipip, which is not loaded: modprobe ipip, or try mode vxlan or bgp")
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	var nodes []lab.Node
	for _, n := range c.Nodes {
		one := lab.Node{Name: n.Name, Interface: n.Interface, Netns: map[string]string{}}
		for _, addr := range []netip.Prefix{n.Address, n.Address6} {
			if addr.IsValid() {
				one.Addresses = append(one.Addresses, addr.String())
			}
		}
		if one.Interface == "" {
			one.Interface = "ens33"
		}
		for _, w := range c.Workloads {
			if w.Node == n.Name && w.Netns != "" {
				one.Netns[w.Name] = w.Netns
			}
		}
		nodes = append(nodes, one)
	}
	if without := slices.DeleteFunc(slices.Clone(c.Workloads), func(w config.Workload) bool { return w.Netns != "" }); len(without) > 0 {
		fmt.Fprintf(a.talk, "Note: %s not of netns: a lab has no container engine, so they stay pending\n", count(len(without), "workload"))
	}
	outside := map[netip.Addr]bool{}
	for _, p := range c.Peers {
		outside[p.Address] = true
	}
	if len(outside) > 0 {
		fmt.Fprintf(a.talk, "Note: %s: a lab has no routers outside the file; those sessions stay down\n", count(len(c.Peers), "peer"))
	}
	done := a.waiting("the lab's hosts")
	l, err := lab.Up(ctx, path, nodes, program)
	if done(); err != nil {
		return fail(exitFailed, "%w", err)
	}
	for _, n := range nodes {
		done := a.waiting("node " + n.Name + " to be in sync")
		err := a.labSync(ctx, l, n.Name, outside)
		if done(); ctx.Err() != nil {
			defer a.waiting("the lab's processes to end")()
			return fail(exitFailed, "interrupted; %w", errors.Join(context.Cause(ctx), lab.Down()))
		}
		if err != nil {
			return err
		}
	}
	fmt.Fprintf(a.out, "The lab is up: %s, each in sync.\n", count(len(nodes), "node"))
	return nil
}

// labSync waits until a node of a lab is in sync, but for its sessions with routers that the lab has not.
func (a *app) labSync(ctx context.Context, l *lab.Lab, node string, outside map[netip.Addr]bool) error {
	for deadline := time.Now().Add(time.Minute); ctx.Err() == nil; time.Sleep(50 * time.Millisecond) {
		cmd, err := l.Command(node, "netd", "status", "--json")
		if err != nil {
			return err
		}
		out, _ := cmd.Output() // its exit code is of all sessions
		var v statusView
		if json.Unmarshal(out, &v) == nil && v.Daemon {
			v.Peers = slices.DeleteFunc(v.Peers, func(p sessionView) bool { return outside[p.Addr] })
			if v.judge(); v.Verdict == "in sync" {
				return nil
			}
		}
		if time.Now().After(deadline) {
			if cmd, err = l.Command(node, "netd", "status"); err == nil {
				out, _ = cmd.CombinedOutput()
			}
			return fail(exitFailed, "node %s is not in sync after a minute:\n%s\nThe lab is left up to look at: netd lab exec %s …, netd lab down", node, out, node)
		}
	}
	return nil
}

func usesIPIP(c *config.Config) bool {
	for _, n := range c.Networks {
		if n.Uses(config.ModeIPIP) {
			return true
		}
	}
	return false
}

// pingView is a line of what `lab test --json` prints.
type pingView struct {
	From    string     `json:"from"`
	To      string     `json:"to"`
	Address netip.Addr `json:"address"`
	OK      bool       `json:"ok"`
	RTT     float64    `json:"rtt,omitempty"` // seconds, the mean
	Result  string     `json:"result"`        // as `test --json` has it
}

func (v pingView) result() string {
	if v.RTT == 0 {
		return v.Result
	}
	return fmt.Sprintf("%s, %.3f ms", v.Result, v.RTT*1000)
}

func (a *app) labTest(asJSON bool) error {
	l, err := a.lab()
	if err != nil {
		return err
	}
	_, c, err := a.load(l.File)
	if err != nil {
		return err
	}
	pings := []pingView{}
	inside := slices.DeleteFunc(c.Workloads, func(w config.Workload) bool { return w.Netns == "" })
	if len(inside) < 2 {
		return fail(exitFailed, "%s has %s with a netns: a ping needs two", l.File, count(len(inside), "workload"))
	}
	defer a.waiting("the answers")()
	for _, from := range inside {
		ask := []string{"netd", "test", "--json"}
		of := len(pings)
		for _, to := range inside {
			for _, addr := range to.Addresses {
				common := slices.ContainsFunc(from.Addresses, func(own netip.Addr) bool { return own.Is4() == addr.Is4() })
				if from.Name != to.Name && common {
					ask, pings = append(ask, addr.String()), append(pings, pingView{From: from.Name, To: to.Name, Address: addr})
				}
			}
		}
		if len(pings) == of {
			continue
		}
		cmd, err := l.Command(from.Name, ask...)
		if err != nil {
			return err
		}
		var e *exec.ExitError
		out, err := cmd.Output()
		if err != nil && !(errors.As(err, &e) && e.ExitCode() == exitDegraded) {
			return fail(exitFailed, "%s: %w", strings.Join(cmd.Args, " "), err)
		}
		var said testView
		if err := json.Unmarshal(out, &said); err != nil || len(said.Targets) != len(pings)-of {
			return fail(exitFailed, "%s: it says %q", strings.Join(cmd.Args, " "), out)
		}
		for i, t := range said.Targets {
			pings[of+i].OK, pings[of+i].RTT, pings[of+i].Result = !t.bad(), t.RTT, t.Result
		}
	}
	if asJSON {
		if err := printJSON(a.out, map[string]any{"schema_version": 1, "pings": pings}); err != nil {
			return err
		}
	} else {
		rows := [][]string{{"FROM", "TO", "ADDRESS", "RESULT"}}
		for _, p := range pings {
			rows = append(rows, []string{p.From, p.To, p.Address.String(), p.result()})
		}
		table(a.page(a.out), rows)
	}
	if slices.ContainsFunc(pings, func(p pingView) bool { return !p.OK }) {
		return &exit{code: exitDegraded}
	}
	return nil
}
