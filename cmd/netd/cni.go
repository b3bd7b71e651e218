package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/store"
	"netd/reconcile/workload"
	"netd/reconcile/workload/cni"
)

func (a *app) cniCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cni",
		Short: "The CNI plugin, as netd-cni calls it where no daemon answers",
		Long: `The plugin of the Container Network Interface (versions 0.3.1 to 1.1.0): the environment and standard input are the
runtime's. Runtimes call netd-cni, which has the daemon do the work; where none runs, this does it under the host's lock.`,
		Example: "  netd cni install\n  netd cni uninstall",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.cni(cmd.Context()) },
	}
	cmd.AddCommand(a.cniInstallCmd(), a.cniUninstallCmd())
	return cmd
}

func (a *app) cni(ctx context.Context) error {
	c := cni.Call{Command: os.Getenv("CNI_COMMAND"), ContainerID: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"),
		IfName: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS")}
	if c.Command == "" { // run by hand, or by one who wants to know what it is
		fmt.Fprintf(a.talk, "CNI protocol versions supported: %s\nCNI netd plugin %s\n", strings.Join(cni.Versions, ", "), version)
		return nil
	}
	var err error
	if c.Stdin, err = io.ReadAll(io.LimitReader(a.in, cni.MaxInput+1)); err != nil {
		return err
	}
	out := a.cniAnswer(ctx, c)
	if _, err := a.out.Write(out.Stdout); err != nil {
		return err
	}
	if out.Code != 0 {
		return &exit{code: out.Code}
	}
	return nil
}

// cniAnswer has the daemon answer, and does it in this process where none runs.
func (a *app) cniAnswer(ctx context.Context, c cni.Call) cni.Answer {
	conf, err := cni.ParseConfig(c.Stdin)
	if err != nil || c.Command == "VERSION" {
		return cni.Run(ctx, nil, c) // which says so, or answers alike everywhere
	}
	for _, set := range []struct {
		to   *string
		from string
	}{{&a.config, conf.File}, {&a.node, conf.Node}, {&a.stateDir, conf.StateDir}, {&a.runDir, conf.RunDir}} {
		if set.from != "" {
			*set.to = set.from
		}
	}
	for tries := 1; ; tries++ {
		client, err := a.dialDaemon(ctx)
		if err != nil {
			return cni.Run(ctx, &localAttacher{err: &workload.Problem{Kind: workload.Later, Err: err}}, c)
		}
		if client != nil {
			out, err := a.cniByDaemon(ctx, client, c)
			if err == nil {
				return out
			}
			if tries == 5 { // it died over it, again and again
				return cni.Run(ctx, &localAttacher{err: &workload.Problem{Kind: workload.Later, Err: err}}, c)
			}
			continue // doing it twice changes nothing
		}
		l, err := a.openLocal(ctx)
		if errors.Is(err, errDaemonCame) {
			continue
		}
		if err != nil {
			l = &localAttacher{err: err}
		}
		out := cni.Run(ctx, l, c)
		l.close()
		return out
	}
}

func (a *app) cniByDaemon(ctx context.Context, client *daemonClient, c cni.Call) (out cni.Answer, err error) {
	call := frontCall{Call: c, FD: -1}
	if c.Netns != "" {
		if f, err := os.OpenFile(c.Netns, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			defer f.Close()
			var st unix.Stat_t
			if err := unix.Fstat(int(f.Fd()), &st); err == nil {
				call.FD, call.Dev, call.Ino = int(f.Fd()), uint64(st.Dev), st.Ino
			}
		}
	}
	return out, client.do(ctx, "POST", "/v1/cni", call, &out)
}

// localAttacher does in this process what a daemon would.
type localAttacher struct {
	a    *app
	lock *store.Lock
	host *host
	site workload.Site
	err  error // why it cannot
}

var errDaemonCame = errors.New("a daemon came")

// openLocal waits for the host's lock, which others hold for as long as they write.
func (a *app) openLocal(ctx context.Context) (*localAttacher, error) {
	done := a.waiting("the host's lock")
	lock, err := store.WaitLock(ctx, a.runDir, "lock", "cni")
	if done(); err != nil {
		return nil, err
	}
	l := &localAttacher{a: a, lock: lock}
	var held *store.Held
	if err := store.LookAt(a.runDir, "daemon.lock"); errors.As(err, &held) {
		l.close()
		return nil, errDaemonCame
	}
	if l.host, err = (local{a}).openHost(false); err != nil {
		l.close()
		if errors.As(err, &held) { // another netd, with other folders
			return nil, &workload.Problem{Kind: workload.Later, Err: err}
		}
		return nil, &workload.Problem{Kind: workload.Storage, Err: err}
	}
	_ = l.host.core.Finish(ctx) // of a daemon that ended over it; what is in a request's way still is its error
	if err := l.find(ctx); err != nil {
		l.err = err // a container can be taken away all the same
	}
	return l, nil
}

// find finds the configuration in force: the one that was applied last, else the file.
func (l *localAttacher) find(ctx context.Context) error {
	if l.host.db.Resting() {
		return later("netd rests since netd destroy; netd apply ends that")
	}
	var c *config.Config
	var taken *config.Source // from the file, for the first time
	node := l.a.node
	if b, err := l.host.db.Good(); err == nil {
		src, err := config.Unmarshal(b)
		if err != nil {
			return err
		}
		if c, _ = src.Parse(); c == nil {
			return later("the configuration that was applied last cannot be read any more")
		}
		if node == "" {
			node = l.host.db.Applied().Node
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	} else {
		src, err := l.a.read(l.a.config)
		if err != nil {
			return later(err.Error())
		}
		parsed, ds := parse(src)
		if ds.HasErrors() {
			return later(fmt.Sprintf("%s has faults (see netd validate)", l.a.config))
		}
		if err := refuse(parsed); err != nil {
			return err
		}
		c, taken = parsed, src
	}
	self, _, err := l.host.identify(ctx, c, node)
	if err == nil && taken != nil {
		err = keep(l.host.db, taken)
	}
	if err != nil {
		return err
	}
	l.site = workload.Site{Config: c, Node: self}
	l.host.facts, err = l.host.kernel.Host(ctx)
	return err
}

func (l *localAttacher) close() {
	if l.host != nil {
		l.host.close()
	}
	if l.lock != nil {
		l.lock.Release()
	}
}

// base brings the host in order where nobody has since it booted: what containers are attached to is missing.
func (l *localAttacher) base(ctx context.Context) error {
	p, err := l.host.engine.PlanAt(ctx, &reconcile.Want{State: reconcile.State{desired.Base.Key(): desired.Base}}, []reconcile.Key{desired.Base.Key()}, nil, nil)
	if err != nil || p.Empty() {
		return err
	}
	out, err := l.host.apply(ctx, l.site.Config, l.site.Node, agreement{}, nil, nil)
	if err == nil && out.Refused {
		err = refused(out.Plan)
	}
	if err == nil && len(out.Errors) > 0 {
		err = fmt.Errorf("bringing the host in order: %s", strings.Join(out.Errors, "; "))
	}
	return err
}

// Attach implements cni.Attacher, as do the methods that follow.
func (l *localAttacher) Attach(ctx context.Context, r workload.Request) (store.Endpoint, error) {
	if l.err != nil {
		return store.Endpoint{}, l.err
	}
	if err := l.base(ctx); err != nil {
		return store.Endpoint{}, err
	}
	out := l.host.core.Attach(ctx, l.site, []workload.Request{r})[0]
	return out.Endpoint, out.Err
}

// Detach implements cni.Attacher.
func (l *localAttacher) Detach(ctx context.Context, ids ...object.Place) error {
	if l.host == nil {
		return l.err
	}
	return errors.Join(l.host.core.Detach(ctx, ids)...)
}

// Check implements cni.Attacher.
func (l *localAttacher) Check(ctx context.Context, id object.Place, open string) (store.Endpoint, error) {
	if l.err != nil {
		return store.Endpoint{}, l.err
	}
	return l.host.core.Check(ctx, l.site, id, open)
}

// Known implements cni.Attacher.
func (l *localAttacher) Known(context.Context) ([]store.Endpoint, error) {
	if l.host == nil {
		return nil, l.err
	}
	return l.host.core.All(), nil
}

// Ready implements cni.Attacher.
func (l *localAttacher) Ready(_ context.Context, network string) error {
	if l.err != nil {
		return l.err
	}
	return l.host.core.Room(l.site, network)
}

const (
	cniPlugin   = "netd-cni"
	cniConflist = "10-netd.conflist"
)

func (a *app) cniInstallCmd() *cobra.Command {
	var bin, conf, network string
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Put netd-cni and its configuration where runtimes look for them",
		Long: `Put the plugin netd-cni and a network configuration list where runtimes look for them, each whole or not at all. Doing it
again replaces them. The list chains portmap after netd where that plugin is there, so that published ports work.`,
		Example: "  netd cni install\n  netd cni install --conf-dir /etc/cni/net.d --bin-dir /usr/lib/cni",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			program, err := os.Executable()
			if err != nil {
				return err
			}
			if program, err = filepath.EvalSymlinks(program); err != nil {
				return err
			}
			dir := filepath.Dir(program)
			plugin, err := os.ReadFile(filepath.Join(dir, cniPlugin))
			if errors.Is(err, fs.ErrNotExist) { // where packages have it
				plugin, err = os.ReadFile(filepath.Join(dir, "../libexec/netd", cniPlugin))
			}
			if err != nil {
				return fail(exitFailed, "the plugin is to be beside netd: %w", err)
			}
			list, err := a.conflist(network, bin)
			if err != nil {
				return err
			}
			for _, f := range []struct {
				path string
				b    []byte
				mode os.FileMode
			}{{filepath.Join(bin, cniPlugin), plugin, 0o755}, {filepath.Join(conf, cniConflist), list, 0o644}} {
				if err := installFile(f.path, f.b, f.mode); err != nil {
					return err
				}
				fmt.Fprintln(a.out, f.path)
			}
			return nil
		},
	}
	cniFlags(cmd, &bin, &conf)
	cmd.Flags().StringVar(&network, "network", "", "the network of the file; needed where it has several")
	return cmd
}

func cniFlags(cmd *cobra.Command, bin, conf *string) {
	cmd.Flags().StringVar(bin, "bin-dir", "/opt/cni/bin", "where runtimes look for plugins")
	cmd.Flags().StringVar(conf, "conf-dir", "/etc/cni/net.d", "where runtimes look for configurations")
}

// conflist is the configuration list that runtimes read. Only what differs from netd's defaults is in it.
func (a *app) conflist(network, bin string) ([]byte, error) {
	self := map[string]any{"type": cniPlugin, "capabilities": map[string]bool{"ips": true, "mac": true}}
	for _, set := range [][3]string{
		{"config", a.config, "/etc/netd.hcl"}, {"state_dir", a.stateDir, "/var/lib/netd"}, {"run_dir", a.runDir, "/run/netd"},
		{"node", a.node, ""}, {"network", network, ""},
	} {
		if set[1] != set[2] {
			self[set[0]] = set[1]
		}
	}
	name := network
	if name == "" {
		name = "netd"
	}
	plugins := []any{self}
	if _, err := os.Stat(filepath.Join(bin, "portmap")); err == nil {
		plugins = append(plugins, map[string]any{"type": "portmap", "capabilities": map[string]bool{"portMappings": true}})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", "  ")
	err := e.Encode(map[string]any{"cniVersion": "1.0.0", "name": name, "plugins": plugins})
	return out.Bytes(), err
}

// installFile writes a file whole or not at all, on disk when it returns. The old one, which may be running, stays whole.
func installFile(path string, b []byte, mode os.FileMode) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".netd-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(b)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

func (a *app) cniUninstallCmd() *cobra.Command {
	var bin, conf string
	cmd := &cobra.Command{
		Use:     "uninstall",
		Short:   "Remove netd-cni and its configuration",
		Long:    "Remove what netd cni install put there: the configuration first, so that no runtime starts what is gone. Containers stay attached.",
		Example: "  netd cni uninstall",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			for _, path := range []string{filepath.Join(conf, cniConflist), filepath.Join(bin, cniPlugin)} {
				if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return nil
		},
	}
	cniFlags(cmd, &bin, &conf)
	return cmd
}
