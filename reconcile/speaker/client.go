package speaker

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"netd/reconcile"
)

// ErrNotRunning is the error of everything that needs a speaker where none answers.
var ErrNotRunning = errors.New("no BGP speaker runs")

// Client is what the rest of netd says to a speaker, and hears from it.
type Client struct {
	dir     string
	secrets Secrets
	pokes   chan struct{}

	mu       sync.Mutex
	instance string // of the speaker that conn speaks to
	conn     *grpc.ClientConn
	view     view
	anew     bool      // more than paths changed since Anew was asked
	most     int       // paths that it may tell; see Allow
	trouble  error     // why it was not listened to
	troubled time.Time // when that was

	reads sync.Mutex // held while a kind reads
	last  *reading
}

// Open returns a client of the speaker whose sockets are in dir, whether it runs or not. Watch connects it.
func Open(dir string, secrets Secrets) *Client {
	return &Client{dir: dir, secrets: secrets, pokes: make(chan struct{}, 1), view: newView(pathsMost), most: pathsMost}
}

// Dial returns a client of a running speaker: its kinds can be used at once, and Read asks for what it knows. The error is
// ErrNotRunning where nobody answers.
func Dial(ctx context.Context, dir string, secrets Secrets) (*Client, error) {
	c := Open(dir, secrets)
	link, err := c.link(ctx)
	if err != nil {
		return nil, err
	}
	defer link.close()
	if err := c.connect(link.hello); err != nil {
		return nil, err
	}
	return c, nil
}

// Close gives the connection up. The speaker does not notice.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// Kinds are the speaker's, in their order: a speaker that restarts gracefully has to announce everything before it has
// neighbours, or they would take its first End-of-RIB for a withdrawal of the rest.
func (c *Client) Kinds() []reconcile.Kind {
	return []reconcile.Kind{bgpKind{c}, pathKind{c}, peerKind{c}}
}

// Stop closes all sessions with a CEASE and ends the speaker. That none runs is success. One that does not end in time is
// killed; the note says so, and what its neighbours make of it.
func (c *Client) Stop(ctx context.Context) (note string, err error) {
	asked, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	if err = c.end(asked, opStop); err == nil || ctx.Err() != nil {
		return "", err
	}
	kerr := killListener(c.dir) // it may have ended meanwhile
	if gerr := c.gone(ctx); gerr != nil {
		return "", errors.Join(err, kerr, gerr)
	}
	return fmt.Sprintf("the speaker was ended before it had closed all sessions (%v): a neighbour that heard no CEASE keeps its routes until the hold time or the restart time is over", err), nil
}

// stopWithin is how long a speaker may take to close its sessions, which with a table of 100,000 prefixes is seconds.
const stopWithin = 20 * time.Second

// end asks the speaker for its end and waits for it.
func (c *Client) end(ctx context.Context, op string) error {
	l, err := c.link(ctx)
	if errors.Is(err, ErrNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := l.ask(op); err != nil {
		return fmt.Errorf("stopping the speaker: %w", err)
	}
	for { // its socket goes with it
		again, err := c.link(ctx)
		if errors.Is(err, ErrNotRunning) {
			return nil
		}
		if err == nil {
			other := again.hello.Instance != l.hello.Instance
			again.close()
			if other {
				return nil
			}
		}
		if werr := wait(ctx, 2*time.Millisecond); werr != nil {
			return fmt.Errorf("waiting for the speaker to end: %w", werr)
		}
	}
}

// rpcTimeout bounds every request: a speaker that hangs must not hang the daemon.
const rpcTimeout = 10 * time.Second

// gobgp returns the API of the speaker that runs now.
func (c *Client) gobgp() (api.GobgpApiClient, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == nil {
		return nil, ErrNotRunning
	}
	return api.NewGobgpApiClient(c.conn), nil
}

// connect turns to the speaker that said hello. gRPC backs off for seconds from a socket that was gone for a moment, so
// that each speaker gets a connection of its own.
func (c *Client) connect(h hello) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		if c.instance == h.Instance {
			return nil
		}
		_ = c.conn.Close()
		c.conn = nil
	}
	path := filepath.Join(c.dir, apiSocket)
	conn, err := grpc.NewClient("passthrough:///"+apiSocket, append(legibly(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}))...)
	if err != nil {
		return fmt.Errorf("connecting to the speaker: %w", err)
	}
	c.conn, c.instance = conn, h.Instance
	return nil
}

// disconnect notes that the speaker is gone.
func (c *Client) disconnect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// link is a connection to paths.sock, after the hello.
type link struct {
	conn  net.Conn
	r     *bufio.Reader
	hello hello
	stop  func() bool
}

// link connects to paths.sock. It ends with ctx.
func (c *Client) link(ctx context.Context) (*link, error) { return openLink(ctx, c.dir) }

func openLink(ctx context.Context, dir string) (*link, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(dir, pathsSocket))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
			return nil, ErrNotRunning
		}
		return nil, fmt.Errorf("connecting to the speaker: %w", err)
	}
	l := &link{conn: conn, r: bufio.NewReaderSize(conn, 64<<10)}
	l.stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		l.close()
		return nil, fmt.Errorf("connecting to the speaker: %w", err)
	}
	err = readJSON(l.r, frameHello, &l.hello)
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err == nil && l.hello.Protocol != protocolVersion {
		err = &VersionError{Have: l.hello.Version}
	}
	if err != nil {
		l.close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return nil, fmt.Errorf("connecting to the speaker: %w", err)
	}
	return l, nil
}

// VersionError is the error of a speaker that is another netd's.
type VersionError struct{ Have string }

func (e *VersionError) Error() string {
	return "the speaker that runs is netd " + printable(e.Have) + "'s"
}

func (l *link) close() {
	l.stop()
	_ = l.conn.Close()
}

func (l *link) ask(op string) (answer, error) {
	var a answer
	if err := writeJSON(l.conn, frameRequest, request{Op: op}); err != nil {
		return a, err
	}
	if err := readJSON(l.r, frameAnswer, &a); err != nil {
		return a, err
	}
	if a.Error != "" {
		return a, errors.New(printable(a.Error))
	}
	return a, nil
}

// local are the prefixes that the speaker announces, as far as it has heard of itself: a moment late.
func (c *Client) local(ctx context.Context) ([]netip.Prefix, error) {
	l, err := c.link(ctx)
	if err != nil {
		return nil, err
	}
	defer l.close()
	a, err := l.ask(opLocal)
	return a.Local, err
}

// fresh reports whether the speaker restarts: see sessions.fresh.
func (c *Client) fresh(ctx context.Context) (bool, error) {
	l, err := c.link(ctx)
	if err != nil {
		return false, err
	}
	defer l.close()
	return l.hello.Fresh, nil
}
