package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/reconcile/speaker"
	"netd/reconcile/store"
	"netd/reconcile/watch"
)

func (a *app) runCmd() *cobra.Command {
	var external, dockerSocket string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "The daemon: keep the host as the configuration says",
		Long: `Watch the configuration and the kernel, converge, and repair what others change. Ready by sd_notify. SIGTERM ends the
daemon alone: all kernel state stays, and the speaker keeps its sessions.

With --speaker external the BGP speaker is started by someone else (netd-speaker.service). With --docker-socket, or where
netd-docker.socket hands it over, it serves Docker's networks of the driver netd.`,
		Example: "  netd run\n  netd run --log-format json\n  netd run --docker-socket /run/docker/plugins/netd.sock",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if external != "own" && external != "external" {
				return fail(exitUsage, "--speaker %s: want own or external", external)
			}
			return a.daemon(cmd.Context(), external == "external", dockerSocket)
		},
	}
	cmd.Flags().StringVar(&external, "speaker", "own", "who starts the BGP speaker: own or external")
	cmd.Flags().StringVar(&dockerSocket, "docker-socket", "", "where to serve Docker as its network and IPAM plugin; not given: only on a socket that systemd hands over")
	return cmd
}

func (a *app) logger() (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(a.logLevel)
	if err != nil {
		return nil, &exit{exitUsage, fmt.Errorf("--log-level: %w", err)}
	}
	c := zap.NewProductionConfig()
	c.Level = zap.NewAtomicLevelAt(level)
	c.Encoding = a.logFormat
	c.Sampling, c.DisableCaller, c.DisableStacktrace = nil, true, true
	c.OutputPaths, c.ErrorOutputPaths = []string{"stderr"}, []string{"stderr"}
	c.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	c.EncoderConfig.EncodeDuration = zapcore.SecondsDurationEncoder
	l, err := c.Build()
	if err != nil {
		return nil, &exit{exitUsage, err}
	}
	return l, nil
}

// news is something that happened, once or more often since it was looked at. It is made with room for one.
type news chan struct{}

// Set never waits.
func (n news) Set() {
	select {
	case n <- struct{}{}:
	default:
	}
}

// daemonState is one daemon. Its loop goroutine owns the host and the configuration; what others may ask is behind mu.
type daemonState struct {
	a    *app
	log  *zap.Logger
	host *host
	loop reconcile.Loop

	source *config.Source
	config *config.Config
	node   config.Node
	named  bool // node is known
	ids    []string

	fileChanged news
	reading     sync.Mutex
	last        reading     // what was read last; reading is held
	homeless    *reading    // a good configuration that has no place for this host yet, or cannot be carried out yet
	refusal     error       // of the configuration that was read last
	retry       *time.Timer // has the file read again that was refused
	pokes       *reconcile.Pokes
	calls       chan func(context.Context)
	failures    failures // of the loop's goroutine

	attachments *attachments
	freed       freed
	since       time.Time // when the daemon started
	able        news      // a whole pass went well
	unnamed     news      // whose an endpoint of Docker is is not known
	inherited   news      // the default route of a container of Docker's may have gone to another of its endpoints
	renamed     news      // a container of Docker's may have another name
	rerouted    news      // Docker changed a route of a container
	otherPaths  news      // paths is another list
	otherNetns  news      // netns is
	moved       news      // a runtime may be done with a container's end
	leaving     news      // containers were released

	sup      *speaker.Supervisor
	client   *speaker.Client
	slack    speaker.Slack
	facts    *object.Host      // of what compile returned last; nil: it depends on what no fact tells, or there is none
	learning *desired.Learning // of what compile returned last; nil: of that nothing is learned
	stopBGP  context.CancelFunc
	bgpDone  sync.WaitGroup
	extern   bool
	looking  looking

	mu       sync.Mutex
	status   statusView
	rejected map[netip.Addr]*rejectedView // by neighbour
	paths    []string                     // that configuration and workloads come from
	netns    []string
}

func (a *app) daemon(ctx context.Context, extern bool, dockerSocket string) error {
	log, err := a.logger()
	if err != nil {
		return err
	}
	a.log = log
	own, err := store.TakeLock(a.runDir, "daemon.lock", "run")
	if err != nil {
		return err
	}
	defer own.Release() // after everything else: who waits for it finds the host free
	h, err := a.openHost(false)
	if err != nil {
		return err
	}
	defer h.close()

	d := &daemonState{a: a, log: log, host: h, pokes: reconcile.NewPokes(), fileChanged: make(news, 1), calls: make(chan func(context.Context)), extern: extern}
	d.attachments = &attachments{d: d}
	d.freed.wake, d.moved, d.unnamed, d.otherPaths = make(news, 1), make(news, 1), make(news, 1), make(news, 1)
	d.able, d.rerouted, d.otherNetns, d.leaving = make(news, 1), make(news, 1), make(news, 1), make(news, 1)
	d.renamed, d.inherited = make(news, 1), make(news, 1)
	d.inherited.Set()
	d.leaving.Set() // a daemon before may have ended over it
	h.wired, h.unwired, h.left, h.core.Freed = d.wired, d.unwired, d.left, d.freed.add
	h.moved = d.pokes.Whole
	d.failures.ended = func(e reconcile.Event) bool {
		return errors.Is(e.Err, kernel.ErrEnded) || e.Change.Want != nil && h.kernel.Ended(e.Change.Want)
	}
	d.status = statusView{SchemaVersion: 1, PID: os.Getpid(), Version: version, Since: time.Now()}
	d.since = d.status.Since
	h.short = h.db.Applied().Short
	// Fronts that came before the daemon wait for the lock in a row, and each lets it go as soon as it sees the daemon.
	h.lock = func() (func(), error) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		lock, err := store.WaitLock(ctx, a.runDir, "lock", "run")
		if err != nil {
			return nil, err
		}
		return lock.Release, nil
	}
	d.loop = reconcile.Loop{Engine: h.engine, Compile: d.compile, Holds: d.holds, Amend: d.amend, Pokes: d.pokes, Calls: d.calls, Lock: h.lock, Resync: resync}
	d.paths = []string{a.config}

	d.reading.Lock() // until the loop runs, nobody is to wait for it with a file in hand
	server, err := d.serve()
	if err != nil {
		return err
	}
	plugin, err := d.servePlugin(dockerSocket)
	if err != nil {
		_ = server.Close()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var tasks sync.WaitGroup
	task := func(f func()) {
		tasks.Add(1)
		go func() { defer tasks.Done(); f() }()
	}
	defer func() {
		cancel()
		_ = server.Close()
		if plugin != nil {
			_ = plugin.Close()
		}
		tasks.Wait()
		d.bgpDone.Wait()
	}()
	trouble := func(err error) { log.Warn("watching", zap.Error(err)) }
	kernel := watch.Kernel{Own: h.kernel.PortIDs(), Wants: d.loop.Wants, Bears: d.loop.Bears, Leads: h.leads, Sends: h.sends, Default: h.leavesBy, PlacesOf: h.kernel.PlacesOf, Filter: filterChains(trouble), Poke: d.pokes.Add, Trouble: trouble}
	if plugin != nil {
		kernel.Moved, kernel.Rerouted = d.mayHaveMoved, d.rerouted.Set
	}
	task(func() { kernel.Follow(ctx) })
	task(func() {
		watch.Paths(ctx, d.watched(&d.netns), d.otherNetns, 5*time.Millisecond, d.pokes.Whole, trouble)
	})
	task(func() { h.docker.Run(ctx) })
	task(func() { d.watchdog(ctx) })
	task(func() { d.flusher(ctx) })
	task(func() { d.leaver(ctx) })
	if plugin != nil {
		task(func() { d.settler(ctx) })
		task(func() { d.namer(ctx) })
		task(func() { d.renamer(ctx) })
		task(func() { d.reviver(ctx) })
	}
	task(func() { d.follow(ctx) })

	if text := h.squatted(); text != "" {
		log.Warn(text)
	}
	log.Info("started", zap.String("version", version), zap.String("config", a.config))
	// A host that boots may get its address later than netd starts: being ready waits for that, for a while.
	ready := sync.OnceFunc(func() { _, _ = daemon.SdNotify(false, daemon.SdNotifyReady) })
	said := false // what it waits for at its start; later on the pass's own words are said
	patience := time.AfterFunc(addressWait, ready)
	defer patience.Stop()
	d.loop.Report = func(r reconcile.Report) {
		d.report(r)
		if !d.waits(r.Err) {
			said = true
			ready()
			return
		}
		if !said {
			said = true
			log.Warn("waiting for the node's address", zap.Duration("at most", addressWait))
			_, _ = daemon.SdNotify(false, "STATUS=waiting for the node's address")
		}
	}
	if err := h.core.Unjoined(ctx); err != nil {
		log.Error("endpoints that Docker never used", zap.Error(err))
	}
	d.accept(ctx, d.read(ctx)) // before the loop runs, its state is this goroutine's
	d.reading.Unlock()
	task(func() { // all that the configuration comes from is known now
		watch.Files(ctx, d.watched(&d.paths), d.otherPaths, d.fileChanged.Set, trouble)
	})
	err = d.loop.Run(ctx)
	if errors.Is(err, context.Canceled) {
		_, _ = daemon.SdNotify(false, daemon.SdNotifyStopping)
		log.Info("stopped; the kernel's state and the sessions stay")
		return nil
	}
	return err
}

// filterChains tells which chains of iptables decide what is forwarded.
func filterChains(trouble func(error)) func() string {
	return func() string {
		v4, v6, err := kernel.FilterChains()
		if err != nil {
			trouble(err)
		}
		return v4 + "," + v6
	}
}

// resync is how long after a look at everything the next one is made that nothing asked for.
var resync = time.Minute

// addressWait is for how long being ready waits for the node's address.
var addressWait = 30 * time.Second

// watched reads a list of paths that the loop writes.
func (d *daemonState) watched(list *[]string) func() []string {
	return func() []string {
		d.mu.Lock()
		defer d.mu.Unlock()
		return slices.Clone(*list)
	}
}

// watchdog tells systemd that the loop still turns.
func (d *daemonState) watchdog(ctx context.Context) {
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil || every == 0 {
		return
	}
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if d.call(ctx, func(context.Context) {}) == nil {
				_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}
}

// call runs f on the loop's goroutine and waits for it. ctx ends the wait for the loop's turn and nothing later: what has
// begun, an apply say, is carried through, whether or not who asked for it is still there, and what f writes is whole when
// call returns.
func (d *daemonState) call(ctx context.Context, f func(context.Context)) error {
	done := make(chan struct{})
	select {
	case d.calls <- func(ctx context.Context) {
		f(ctx)
		close(done)
		runtime.Gosched() // who waits goes on before the loop does, whose next pass takes longer than an answer
	}:
		<-done
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
