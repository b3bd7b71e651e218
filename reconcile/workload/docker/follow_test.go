package docker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// engine is a Docker of a test's own.
type engine struct {
	t      *testing.T
	socket string
	server *http.Server

	mu      sync.Mutex
	pids    map[string]int    // by name; 0: it is there and does not run
	ids     map[string]string // by name, of those that have another than "id-of-" and the name
	silent  chan struct{}     // not nil: no container is told of until it is closed
	streams []chan string
}

func newEngine(t *testing.T) *engine {
	e := &engine{t: t, socket: filepath.Join(t.TempDir(), "docker.sock"), pids: map[string]int{}}
	e.start()
	t.Cleanup(func() { _ = e.server.Close() })
	return e
}

func (e *engine) start() {
	e.t.Helper()
	l, err := net.Listen("unix", e.socket)
	if err != nil {
		e.t.Fatal(err)
	}
	e.server = &http.Server{Handler: e}
	go func(s *http.Server) { _ = s.Serve(l) }(e.server)
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/events" {
		stream := make(chan string, 10)
		e.mu.Lock()
		e.streams = append(e.streams, stream)
		e.mu.Unlock()
		w.(http.Flusher).Flush()
		for {
			select {
			case text := <-stream:
				fmt.Fprintln(w, text)
				w.(http.Flusher).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}
	e.mu.Lock()
	silent := e.silent
	e.mu.Unlock()
	if silent != nil {
		select {
		case <-silent:
		case <-r.Context().Done():
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.URL.Path == "/containers/json" {
		list := []any{}
		for name := range e.pids {
			if strings.Contains(r.URL.Query().Get("filters"), "^/"+name+"$") {
				list = append(list, map[string]any{"Id": e.id(name), "Names": []string{"/" + name}})
			}
		}
		_ = json.NewEncoder(w).Encode(list)
		return
	}
	name := strings.TrimSuffix(strings.TrimPrefix(r.URL.Path, "/containers/"), "/json")
	pid, ok := e.pids[name]
	if !ok { // as Docker does: one whose id begins so
		var meant []string
		for other := range e.pids {
			if strings.HasPrefix(e.id(other), name) {
				meant = append(meant, other)
			}
		}
		switch len(meant) {
		case 0:
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
			return
		case 1:
			name, pid = meant[0], e.pids[meant[0]]
		default:
			http.Error(w, `{"message":"multiple IDs found with provided prefix: `+name+`"}`, http.StatusInternalServerError)
			return
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"Id": e.id(name), "Name": "/" + name, "State": map[string]any{"Running": pid > 0, "Pid": pid}})
}

func (e *engine) id(name string) string { return cmp.Or(e.ids[name], "id-of-"+name) }

// set changes what runs, and tells so.
func (e *engine) set(action, name string, pid int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pids[name] = pid
	for _, s := range e.streams {
		s <- fmt.Sprintf(`{"Type":"container","Action":%q,"Actor":{"ID":"id-of-%s","Attributes":{"name":%q}}}`, action, name, name)
	}
}

// following is a follower of an engine, and what it tells.
func following(t *testing.T, e *engine) (f *Follower, news chan struct{}) {
	t.Helper()
	news = make(chan struct{}, 100)
	f = NewFollower(e.socket, func(path string) (string, error) { return "ns of " + path, nil }, func() { news <- struct{}{} })
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Add(1)
	go func() { defer done.Done(); f.Run(ctx) }()
	t.Cleanup(func() { cancel(); done.Wait() })
	return f, news
}

// until waits for news until the follower says that.
func until(t *testing.T, f *Follower, news chan struct{}, name, netns string) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		got := f.Find(context.Background(), name)
		if got.Netns == netns && got.Err == nil {
			return
		}
		select {
		case <-news:
		case <-deadline:
			t.Fatalf("%s is at %+v, want %q", name, got, netns)
		}
	}
}

// heard waits until the follower listens to events.
func heard(t *testing.T, f *Follower) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		f.mu.Lock()
		ok := f.heard
		f.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("no stream of events")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestFollower(t *testing.T) {
	e := newEngine(t)
	e.pids["web"] = 7
	f, news := following(t, e)
	until(t, f, news, "web", "/proc/7/ns/net") // there at start
	until(t, f, news, "other", "")
	heard(t, f)
	e.set("die", "web", 0)
	until(t, f, news, "web", "")
	e.set("start", "web", 8)
	until(t, f, news, "web", "/proc/8/ns/net")
	e.set("start", "other", 9)
	until(t, f, news, "other", "/proc/9/ns/net")

	// Docker goes away: what was found stays. It comes back, and what changed meanwhile is learned.
	_ = e.server.Close()
	for deadline := time.Now().Add(time.Minute); ; {
		f.mu.Lock()
		gone := !f.heard
		f.mu.Unlock()
		if gone {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the end of the stream is not seen")
		}
		time.Sleep(time.Millisecond)
	}
	if got := f.Find(context.Background(), "web"); got.Netns != "/proc/8/ns/net" {
		t.Errorf("without Docker: %+v", got)
	}
	if got := f.Find(context.Background(), "third"); got.Err == nil || !Away(got.Err) {
		t.Errorf("one that is asked for without Docker: %+v, want unknown", got)
	}
	e.mu.Lock()
	e.pids["web"], e.pids["third"] = 10, 11
	e.mu.Unlock()
	e.start()
	until(t, f, news, "web", "/proc/10/ns/net")
	until(t, f, news, "third", "/proc/11/ns/net")
}

// TestSilent: a Docker that listens and does not answer holds up the first question alone, and is heard when it speaks again.
func TestSilent(t *testing.T) {
	e := newEngine(t)
	e.pids["a"], e.pids["b"] = 1, 2
	silent := make(chan struct{})
	e.silent = silent
	f, news := following(t, e)
	began := time.Now()
	for _, name := range []string{"a", "b", "c", "d"} {
		if got := f.Find(context.Background(), name); !errors.Is(got.Err, context.DeadlineExceeded) {
			t.Errorf("%s: %+v, want unknown", name, got)
		}
	}
	if took := time.Since(began); took > 2*patience {
		t.Errorf("four questions took %v; a pass would wait for as long", took)
	}
	e.mu.Lock()
	e.silent = nil
	e.mu.Unlock()
	close(silent)
	until(t, f, news, "a", "/proc/1/ns/net")
	until(t, f, news, "b", "/proc/2/ns/net")
}

// TestSocketGone: without a Docker nothing is known to be absent.
func TestSocketGone(t *testing.T) {
	f := NewFollower(filepath.Join(t.TempDir(), "none.sock"), nil, func() {})
	if got := f.Find(context.Background(), "web"); got.Err == nil || got.Netns != "" {
		t.Errorf("%+v", got)
	}
}

// TestShortNames: a name that ids begin with too ("db") is the name's alone, as long as there is no such container as well.
func TestShortNames(t *testing.T) {
	e := newEngine(t)
	long := "db0123456789abcdef" + strings.Repeat("0", 46)
	e.ids = map[string]string{"web": long}
	e.pids["web"] = 7
	c := Open(e.socket)
	defer c.Close()
	finds := func(name, want string) {
		t.Helper()
		got, err := c.Inspect(t.Context(), name)
		if got.Name != want || err != nil != (want == "") || want == "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is %q, %v; want %q", name, got.Name, err, want)
		}
	}
	finds("web", "/web")
	finds(long, "/web")
	finds(long[:12], "/web") // as docker ps has it
	finds("db", "")
	finds("no-id", "")
	e.mu.Lock()
	e.ids["shop"], e.pids["shop"] = "db9"+long[3:], 8
	e.mu.Unlock()
	finds("db", "") // Docker says of an inspection that it means several
	e.mu.Lock()
	e.pids["db"] = 9
	e.mu.Unlock()
	finds("db", "/db")
}
