package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"sync"
	"time"
)

// Found is what is known of a container.
type Found struct {
	Netns string // path of its network namespace; empty: it does not run
	ID    string // which namespace that is, as Identify tells
	Err   error  // why Docker cannot be asked: whether it runs is unknown
}

// Follower knows where containers are. Find answers from what it knows; Run keeps that up to date.
type Follower struct {
	client   *Client
	identify func(path string) (string, error)
	changed  func()

	mu    sync.Mutex
	known map[string]Found
	heard bool          // events come: what is known holds
	mute  error         // why Docker was silent when it was asked last; nil: it was not
	hurry func()        // ends the stream of events, so that all is asked anew; nil: there is none
	asked chan struct{} // has room for one: there is something to follow
}

// Pauses of the follower.
const (
	patience = 2 * time.Second        // Docker answers in milliseconds; the host's repairs do not wait for one that hangs
	again    = 200 * time.Millisecond // until it is asked anew after its socket went
)

// NewFollower follows the containers of the Docker at socket. identify tells network namespaces apart, and changed is called
// whenever a container that was asked for is another than before.
func NewFollower(socket string, identify func(path string) (string, error), changed func()) *Follower {
	return &Follower{client: Open(socket), identify: identify, changed: changed, known: map[string]Found{}, asked: make(chan struct{}, 1)}
}

// Find tells where a container is. Docker is asked where it is not known, which a Docker that hangs can delay once.
func (f *Follower) Find(ctx context.Context, name string) Found {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case f.asked <- struct{}{}:
	default:
	}
	found, ok := f.known[name]
	if ok && (f.heard || found.Netns != "") {
		return found
	}
	if found = (Found{Err: f.mute}); f.mute == nil {
		f.mu.Unlock()
		found = f.ask(ctx, name)
		f.mu.Lock()
	}
	f.keep(name, found)
	return found
}

// keep remembers an answer. A Docker that is there and does not answer is asked by Run from then on.
func (f *Follower) keep(name string, found Found) {
	f.known[name] = found
	if found.Err != nil && !Away(found.Err) {
		f.mute = found.Err
		if f.hurry != nil {
			f.hurry()
		}
	}
}

// Keep forgets all but the containers of these names.
func (f *Follower) Keep(names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.known {
		if !slices.Contains(names, name) {
			delete(f.known, name)
		}
	}
}

func (f *Follower) ask(ctx context.Context, name string) Found {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	c, err := f.client.Inspect(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !Away(err), err == nil && (!c.State.Running || c.State.Pid <= 0):
		return Found{}
	case err != nil:
		return Found{Err: err}
	}
	found := Found{Netns: fmt.Sprintf("/proc/%d/ns/net", c.State.Pid)}
	// The process may be gone and its number another's: from here on it is the namespace that counts.
	if found.ID, err = f.identify(found.Netns); errors.Is(err, fs.ErrNotExist) {
		return Found{}
	}
	return found
}

// Away reports whether an error is that nobody listens at the socket.
func Away(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// Run follows Docker's events until ctx ends, and connects again when they end.
func (f *Follower) Run(ctx context.Context) {
	defer f.client.Close()
	for {
		select { // a host without a container to follow does not ask for events
		case <-ctx.Done():
			return
		case <-f.asked:
		}
		for ctx.Err() == nil && f.follows() {
			f.listen(ctx)
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
	}
}

func (f *Follower) follows() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.known) > 0
}

// listen follows one stream of events.
func (f *Follower) listen(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	state := func(heard bool, hurry func()) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.heard, f.hurry, f.mute = heard, hurry, nil
	}
	_ = f.client.Events(ctx, []string{"start", "die", "rename", "destroy"}, func() {
		state(true, cancel)
		f.renew(ctx, func(string) bool { return true })
	}, func(e Event) { f.renew(ctx, e.of) })
	state(false, nil)
}

// renew asks anew for the containers that were asked for before and that which chooses.
func (f *Follower) renew(ctx context.Context, which func(name string) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for name := range f.known {
		if which(name) {
			names = append(names, name)
		}
	}
	news := false
	for _, name := range names {
		f.mu.Unlock()
		now := f.ask(ctx, name)
		f.mu.Lock()
		old, ok := f.known[name]
		if !ok || now.Err != nil && old.Netns != "" { // what was found holds while Docker is silent
			now = old
		}
		if ok {
			f.keep(name, now)
			news = news || old.Netns != now.Netns || old.ID != now.ID || (old.Err == nil) != (now.Err == nil)
		}
	}
	if news {
		f.changed()
	}
}
