package speaker

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

const (
	serveEnv    = "NETD_TEST_SPEAKER" // this process is a speaker, of the version that it holds
	testVersion = "test"
)

func TestMain(m *testing.M) {
	if version := os.Getenv(serveEnv); version != "" {
		if d, err := time.ParseDuration(os.Getenv(limitEnv)); err == nil {
			limitFirst = d
		}
		if d, err := time.ParseDuration(os.Getenv(staleEnv)); err == nil {
			staleMost = d
		}
		if n, err := strconv.ParseUint(os.Getenv(freeEnv), 10, 64); err == nil {
			backlogFree = n
		}
		err := Serve(context.Background(), ServeOptions{Version: version, LogFile: os.Stderr, Log: func(level, msg string, fields map[string]any) {
			fmt.Fprintln(os.Stderr, time.Now().Format("15:04:05.000"), level, msg, fields)
		}})
		if err != nil {
			fmt.Fprintln(os.Stderr, "speaker:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	netns.Main(m)
}

// host is a namespace on the wire, with a speaker of its own.
type host struct {
	t       testing.TB
	name    string
	addr    netip.Addr
	blocks  []netip.Prefix
	ns      *netns.NS
	run     string
	env     []string // of the speaker
	secrets Secrets
	process *Process
	client  *Client
	engine  *reconcile.Engine
}

// newHosts makes n hosts on one bridge, the first with 192.168.170.137 and 10.10.1.0/24, and so on.
func newHosts(t testing.TB, n int) []*host {
	t.Helper()
	netns.Need(t)
	netns.Run(t, "ip link add wire type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del wire") })
	netns.Run(t, "ip link set wire up")
	hosts := make([]*host, n)
	for i := range hosts {
		h := &host{t: t, name: fmt.Sprintf("h%d", i+1), addr: netip.AddrFrom4([4]byte{192, 168, 170, byte(137 + i)}), run: t.TempDir(),
			blocks: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 10, byte(i + 1), 0}), 24)}}
		if err := os.Chmod(h.run, 0o755); err != nil {
			t.Fatal(err)
		}
		h.ns = netns.New(t, h.name)
		netns.Run(t, fmt.Sprintf("ip link add w%d type veth peer name eth0 netns %s", i, h.name))
		t.Cleanup(func() { netns.Run(t, fmt.Sprintf("ip link del w%d", i)) }) // its namespace goes some time later
		netns.Run(t, fmt.Sprintf("ip link set w%d master wire up", i))
		h.ns.Run(t, "ip link set eth0 up")
		h.ns.Run(t, fmt.Sprintf("ip addr add %s/24 dev eth0", h.addr))
		hosts[i] = h
	}
	return hosts
}

func (h *host) options() StartOptions {
	return StartOptions{RunDir: h.run, Args: []string{}, Env: append([]string{serveEnv + "=" + testVersion}, h.env...), Version: testVersion,
		Log: func(level, msg string, fields map[string]any) { h.t.Logf("%s: %s %s %v", h.name, level, msg, fields) }}
}

// start starts the host's speaker and a client that watches it.
func (h *host) start() {
	h.t.Helper()
	h.launch()
	ctx, cancel := context.WithCancel(context.Background())
	h.client = Open(h.options().Dir(), h.secrets)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.client.Watch(ctx)
	}()
	h.engine = &reconcile.Engine{Kinds: h.client.Kinds()}
	h.t.Cleanup(func() {
		cancel()
		<-done
		h.client.Close()
		if h.t.Failed() {
			log, _ := os.ReadFile(h.options().LogFile())
			h.t.Logf("log of %s's speaker:\n%s", h.name, log)
		}
	})
	h.wait("its own speaker", func() bool { return h.client.Snapshot().Known })
}

// launch starts the process alone.
func (h *host) launch() {
	h.t.Helper()
	var p *Process
	err := h.ns.Do(func() (err error) {
		p, err = Start(context.Background(), h.options())
		return err
	})
	if err != nil {
		log, _ := os.ReadFile(h.options().LogFile())
		h.t.Fatalf("%v\n%s", err, log)
	}
	h.process = p
	h.t.Cleanup(func() { h.end(p) })
}

// end kills a process that may be gone already.
func (h *host) end(p *Process) {
	select {
	case <-p.Done:
		return
	default:
	}
	_ = unix.Kill(p.PID, unix.SIGKILL)
	<-p.Done
}

// want is the state of a full mesh as desired builds it: the lower address listens.
func (h *host) want(all []*host) reconcile.Want {
	var w reconcile.Want
	w.Put(object.BGP{ASN: 64512, RouterID: h.addr, Listen: h.addr.String(), Port: 179, Multipath: true, Refuse: true}, reconcile.Cause{})
	for _, b := range h.blocks {
		w.Put(object.Path{Prefix: b, NextHop: h.addr, To: object.ToNodes}, reconcile.Cause{})
	}
	for _, o := range all {
		if o != h {
			w.Put(h.peer(o), reconcile.Cause{})
		}
	}
	return w
}

func (h *host) peer(o *host) object.Peer {
	p := object.Peer{Addr: o.addr, ASN: 64512, Local: h.addr, Port: 179, Opens: object.Listens, TTLSecurity: true, HoldTime: 9 * time.Second,
		Keepalive: 3 * time.Second, GracefulRestart: 2 * time.Minute, Up: true, Import: object.PrefixList(o.blocks), NextHops: o.addr.String()}
	if o.addr.Less(h.addr) {
		p.Opens = object.Dials
	}
	return p
}

func (h *host) converge(w reconcile.Want) reconcile.Plan {
	h.t.Helper()
	plan, _, err := h.engine.Converge(context.Background(), w, nil, nil)
	if err != nil {
		h.t.Fatalf("%s: %v", h.name, err)
	}
	return plan
}

// wait waits until something holds.
func (h *host) wait(what string, holds func() bool) {
	h.t.Helper()
	h.within(time.Minute, what, holds)
}

func (h *host) within(d time.Duration, what string, holds func() bool) {
	h.t.Helper()
	deadline := time.Now().Add(d)
	for !holds() {
		if time.Now().After(deadline) {
			ns, known := h.client.Neighbours()
			h.t.Fatalf("%s: waited %s for %s\nknown %v, neighbours %+v\npaths %+v", h.name, d, what, known, ns, h.client.Snapshot().Paths)
		}
		select {
		case <-h.client.Pokes():
		case <-time.After(time.Millisecond):
		}
	}
}

// learned are the pairs that the host's speaker has, as text.
func (h *host) learned() string {
	var b strings.Builder
	for _, p := range h.client.Snapshot().Paths {
		fmt.Fprintf(&b, "%s via %s from %s\n", p.Prefix, p.NextHop, p.Peer)
	}
	return b.String()
}

// of is what hosts give when all is well.
func of(hosts ...*host) string {
	var b strings.Builder
	for _, o := range hosts {
		for _, p := range o.blocks {
			fmt.Fprintf(&b, "%s via %s from %s\n", p, o.addr, o.addr)
		}
	}
	return b.String()
}

func text(p reconcile.Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		b.WriteString(c.Op.Symbol() + " " + c.Key.String() + "  " + c.Text() + "\n")
	}
	return b.String()
}

// TestMesh brings three hosts up: each learns the others' blocks, and a second pass finds nothing to do.
func TestMesh(t *testing.T) {
	hosts := newHosts(t, 3)
	for _, h := range hosts {
		h.start()
	}
	for _, h := range hosts {
		h.converge(h.want(hosts))
	}
	for i, h := range hosts {
		others := append(append([]*host{}, hosts[:i]...), hosts[i+1:]...)
		h.wait("the others' blocks", func() bool { return h.learned() == of(others...) })
		h.wait("all neighbours synced", func() bool {
			ns, _ := h.client.Neighbours()
			return len(ns) == 2 && ns[0].Synced && ns[1].Synced && ns[0].Established() && ns[1].Established()
		})
		if plan := h.converge(h.want(hosts)); !plan.Empty() {
			t.Errorf("%s: the second plan is not empty:\n%s", h.name, text(plan))
		}
	}
	for _, h := range hosts {
		st, err := os.Stat(filepath.Join(h.options().Dir(), apiSocket))
		if err != nil {
			t.Fatal(err)
		}
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s is open to others: %v", apiSocket, st.Mode())
		}
	}
}
