package speaker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/grpc"
)

// Names in the speaker's folder.
const (
	apiSocket   = "speaker.sock" // gobgp's gRPC API
	pathsSocket = "paths.sock"   // wire.go
)

// ServeOptions is what the process needs to know.
type ServeOptions struct {
	Dir     string   // folder of the sockets; empty: descriptor 3 is open on it
	Version string   // netd's, for those who connect
	Log     LogFunc  // required
	LogFile *os.File // where Log writes to, if this process is to keep it short; may be nil
}

// LogSize is the size in bytes below which a speaker keeps its log.
const LogSize = 1 << 20

// Serve is the process of `netd speaker`. It changes the working directory, the umask and the name of the process, so that
// it is for a process of its own. It returns when ctx ends (without a word to the neighbours, who keep the routes of a
// speaker that restarts), when a client asked it to stop (nil, the sessions closed), or with the error that ended it.
func Serve(ctx context.Context, o ServeOptions) error {
	unlock, err := settle(o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	return serve(ctx, "", o)
}

// serve is Serve in a process that is at home already, or where several things are. dir is where the sockets are.
func serve(ctx context.Context, dir string, o ServeOptions) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	apiSocket, pathsSocket := filepath.Join(dir, apiSocket), filepath.Join(dir, pathsSocket)

	fatal := make(chan error, 8)
	p := &process{version: o.Version, instance: rand.Text(), rib: newRIB(), quit: make(chan struct{})}
	logger := bounded(o.Log, o.LogFile)
	p.sessions = newSessions(ctx, p.rib, logger, fatal)
	remedies := make(chan func(), 1024)
	p.sessions.bgp = server.NewBgpServer(
		server.GrpcListenAddress("unix://"+apiSocket),
		server.GrpcOption([]grpc.ServerOption{grpc.UnaryInterceptor(p.sessions.unary), grpc.StreamInterceptor(p.sessions.stream)}),
		server.TimingHookOption(p.sessions),
		server.LoggerOption(&gobgpLog{log: logger, fatal: fatal, update: p.sessions.announced, state: p.sessions.changesState, limited: p.sessions.limits.listen, heard: func(peer netip.Addr, words string, then remedy) {
			p.sessions.failed(peer, words, true)
			if then != none {
				select { // gobgp holds a lock of its own here: this must not wait
				case remedies <- func() { p.sessions.remedy(peer, then) }:
				default:
				}
			}
		}}),
	)
	if p.sessions.acceptAt, err = acceptChannel(p.sessions.bgp); err != nil {
		return err
	}
	p.sessions.api.Lock()     // its API answers from here on
	go p.sessions.bgp.Serve() // gobgp offers no way to end it: it ends with the process
	err = p.sessions.watch(ctx)
	p.sessions.api.Unlock()
	if err != nil {
		return err
	}
	var tasks sync.WaitGroup
	defer func() {
		cancel()
		tasks.Wait()
		p.sessions.close()
	}()
	tasks.Add(1)
	go func() {
		defer tasks.Done()
		for {
			select {
			case <-ctx.Done():
				return
			case do := <-remedies:
				do()
			}
		}
	}()
	tasks.Add(1)
	go func() {
		defer tasks.Done()
		if err := p.sessions.clock(ctx); err != nil {
			logger("warn", err.Error(), nil)
		}
	}()
	tasks.Add(1)
	go func() {
		defer tasks.Done()
		p.sessions.backlogs(ctx)
	}()
	if err := answers(ctx, apiSocket, fatal); err != nil {
		return fmt.Errorf("serving gobgp's API: %w", err)
	}
	l, err := net.Listen("unix", pathsSocket)
	if err != nil {
		return fmt.Errorf("listening on %s: %w", pathsSocket, err)
	}
	logger("info", "speaker ready", map[string]any{"pid": os.Getpid()}) // before anyone is answered, who may end it
	tasks.Add(1)
	go func() {
		defer tasks.Done()
		if err := p.accept(ctx, l); err != nil && ctx.Err() == nil {
			fatal <- fmt.Errorf("accepting on %s: %w", pathsSocket, err)
		}
	}()
	select {
	case <-ctx.Done():
	case <-p.quit:
	case err = <-fatal:
	}
	_ = l.Close()
	return err
}

// process is what connections to paths.sock share.
type process struct {
	version  string
	instance string
	rib      *rib
	sessions *sessions
	quit     chan struct{} // closed when a client asked for the end
	quitOnce sync.Once
}

// stop closes all sessions with a CEASE.
func (p *process) stop(ctx context.Context) error {
	done := make(chan error, 1)
	go func() { // it takes no context: it ends with the process
		p.sessions.list.Lock() // who looks at gobgp's neighbours looks at a map
		defer p.sessions.list.Unlock()
		done <- p.sessions.bgp.StopBgp(ctx, &api.StopBgpRequest{})
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("closing the sessions: %w", ctx.Err())
	}
}

// answers waits until someone can connect to a socket.
func answers(ctx context.Context, path string, fatal <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		c, err := net.Dial("unix", path)
		if err == nil {
			return c.Close()
		}
		select {
		case err := <-fatal:
			return err
		default:
		}
		if werr := wait(ctx, 2*time.Millisecond); werr != nil {
			return errors.Join(err, werr)
		}
	}
}

// bounded keeps a log file short. It looks at its size now and then.
func bounded(log LogFunc, f *os.File) LogFunc {
	if f == nil {
		return log
	}
	var lines atomic.Uint64
	var mu sync.Mutex
	return func(level, msg string, fields map[string]any) {
		log(level, msg, fields)
		if lines.Add(1)%256 == 1 && mu.TryLock() {
			defer mu.Unlock()
			if err := bound(f, LogSize); err != nil {
				log("warn", err.Error(), nil)
			}
		}
	}
}
