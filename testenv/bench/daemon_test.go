package bench

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// daemon is a netd run on a host.
type daemon struct {
	*host
	cmd *exec.Cmd
	log bytes.Buffer
}

// start starts a daemon and returns how long it took until it said by sd_notify that it is ready. It ends with the benchmark.
func (h *host) start(b testing.TB) (*daemon, time.Duration) {
	b.Helper()
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: h.file("notify"), Net: "unixgram"})
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(h.file("notify"))
	defer socket.Close()
	_ = socket.SetReadDeadline(time.Now().Add(time.Minute))
	d := &daemon{host: h, cmd: h.command(b, "run")}
	d.cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+h.file("notify"))
	d.cmd.Stderr = &d.log
	began := time.Now()
	if err := h.Start(d.cmd); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(d.stop)
	word := make([]byte, 256)
	n, err := socket.Read(word)
	took := time.Since(began)
	if err != nil || !strings.Contains(string(word[:n]), "READY=1") {
		d.stop()
		b.Fatalf("the daemon said %q, %v:\n%s", word[:n], err, d.log.Bytes())
	}
	return d, took
}

func (d *daemon) stop() {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Signal(syscall.SIGTERM)
		_ = d.cmd.Wait()
	}
}

// open is a netlink socket in a namespace, which hears of changes in groups.
func open(b testing.TB, ns *netns.NS, groups uint32) *wire {
	b.Helper()
	var w *wire
	if err := ns.Do(func() (err error) { w, err = openWire(groups); return err }); err != nil {
		b.Fatal(err)
	}
	_ = unix.SetsockoptTimeval(w.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 120})
	return w
}

// The multicast groups of changes (include/uapi/linux/rtnetlink.h), as the mask that bind takes.
const (
	routeChanges   = 1 << (unix.RTNLGRP_IPV4_ROUTE - 1)
	neighChanges   = 1 << (unix.RTNLGRP_NEIGH - 1)
	nexthopChanges = 1 << (unix.RTNLGRP_NEXTHOP - 1)
)

// heldRoute is what a route message says, as far as it is needed to make the route again.
type heldRoute struct {
	dst  netip.Prefix
	nhid uint32
	via  netip.Addr
	oif  int
}

func parseRoute(body []byte) heldRoute {
	var r heldRoute
	for b := body[unix.SizeofRtMsg:]; len(b) >= 4; {
		n := int(native.Uint16(b))
		switch v := b[4:n]; native.Uint16(b[2:]) {
		case unix.RTA_DST:
			r.dst = netip.PrefixFrom(netip.AddrFrom4([4]byte(v)), int(body[1]))
		case unix.RTA_GATEWAY:
			r.via = netip.AddrFrom4([4]byte(v))
		case unix.RTA_OIF:
			r.oif = int(native.Uint32(v))
		case 30: // RTA_NH_ID
			r.nhid = native.Uint32(v)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	if r.nhid != 0 { // the message spells out what the next hop object says
		r.via, r.oif = netip.Addr{}, 0
	}
	return r
}

// appears waits until the kernel tells of a route of netd's to dst.
func (w *wire) appears(b testing.TB, dst netip.Prefix) {
	b.Helper()
	for found := false; !found; {
		err := w.receive(func(typ uint16, body []byte) error {
			found = found || typ == unix.RTM_NEWROUTE && body[5] == 142 && parseRoute(body).dst == dst
			return nil
		})
		if err != nil {
			b.Fatalf("waiting for the route to %s: %v", dst, err)
		}
	}
}

// remove deletes routes, without a word between.
func (w *wire) remove(b testing.TB, dsts ...netip.Prefix) {
	b.Helper()
	err := w.send(len(dsts), 512, false, func(m []byte, flags uint16, seq uint32, i int) []byte {
		m = route(m, unix.RTM_DELROUTE, flags, seq, dsts[i], netip.Addr{}, 0, 0)
		m[len(m)-8-unix.SizeofRtMsg+6] = unix.RT_SCOPE_NOWHERE
		return m
	})
	if err != nil {
		b.Fatal(err)
	}
}

// BenchmarkDaemon is the daemon with 2, 200 and 10,000 nodes: its start, its rest, and how soon what others delete is back.
func BenchmarkDaemon(b *testing.B) {
	netns.Need(b)
	b.Run("two", func(b *testing.B) {
		h := newHost(b, fileOf(2))
		var fresh []time.Duration
		for range 7 {
			d, took := h.start(b)
			fresh = append(fresh, took)
			d.stop()
			timed(b, h.NS, h.command(b, "destroy", "-y"))
			timed(b, h.NS, h.command(b, "apply", "-y")) // ends the rest that destroy begins
			h.Run(b, "ip link del vxlan.netd")          // and what is not there is made by the daemon
		}
		within("daemon: ready after its start, 2 nodes, vxlan", median(fresh), 200*time.Millisecond)
		// The daemon watches each folder on the way to its file, and others write in those of a temporary one.
		dir, err := os.MkdirTemp("/run", "bench")
		if err != nil {
			b.Fatal(err)
		}
		h.dir = dir
		if err := os.WriteFile(h.file("netd.hcl"), fileOf(2), 0o644); err != nil {
			b.Fatal(err)
		}
		d, _ := h.start(b)
		idle(b, d.cmd.Process.Pid)
	})
	b.Run("repair", func(b *testing.B) {
		h := newHost(b, fileOf(201))
		h.start(b)
		hear, say := open(b, h.NS, routeChanges), open(b, h.NS, 0)
		defer hear.close()
		defer say.close()
		var took []time.Duration
		for i := 1; i <= 200; i++ {
			began := time.Now()
			say.remove(b, nodeBlock(i))
			hear.appears(b, nodeBlock(i))
			took = append(took, time.Since(began))
			time.Sleep(10 * time.Millisecond) // each a deletion of its own
		}
		within("repair: a deleted route of 200 is back, p50", quantile(took, 0.5), 10*time.Millisecond)
		within("repair: a deleted route of 200 is back, p99", quantile(took, 0.99), 100*time.Millisecond)
	})
	b.Run("flush", flushed)
	b.Run("strangers", strangers)
	for _, n := range []int{1_000, 10_000} {
		b.Run("node"+strconv.Itoa(n), func(b *testing.B) { oneMore(b, n) })
	}
}

// worked is the processor time that the daemon has had, in steps of 10 ms.
func (d *daemon) worked() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest) // from the third field on: utime and stime are the 14th and 15th
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}

// rests waits until the daemon has done what its start, or an event, left to do.
func (d *daemon) rests(b testing.TB) {
	b.Helper()
	deadline := time.Now().Add(time.Minute)
	for before, since := d.worked(), time.Now(); time.Since(since) < time.Second; time.Sleep(10 * time.Millisecond) {
		if now := d.worked(); now != before {
			before, since = now, time.Now()
		}
		if time.Now().After(deadline) {
			b.Fatal("the daemon does not come to rest")
		}
	}
}

// strangers has others make and remove links on which nothing of netd's stands, and tells what that costs the daemon.
func strangers(b *testing.B) {
	const n = 200
	h := newHost(b, fileOf(2))
	d, _ := h.start(b)
	var add, del bytes.Buffer
	for i := range n {
		fmt.Fprintf(&add, "link add x%d type veth peer name y%d\nlink set x%d up\nlink set y%d up\naddr add 10.200.%d.1/24 dev x%d\n", i, i, i, i, i, i)
		fmt.Fprintf(&del, "link del x%d\n", i)
	}
	d.rests(b)
	began, used := time.Now(), d.worked()
	theirs := time.Duration(0)
	for i, text := range [][]byte{add.Bytes(), del.Bytes()} {
		name := h.file("strangers" + strconv.Itoa(i))
		if err := os.WriteFile(name, text, 0o600); err != nil {
			b.Fatal(err)
		}
		cmd := exec.Command("ip", "-batch", name)
		timed(b, h.NS, cmd)
		theirs += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	}
	took := time.Since(began)
	d.rests(b)
	against(fmt.Sprintf("daemon: %d veth pairs of others come and go in %s: processor time", n, show(took)), d.worked()-used, theirs, "ip -batch", 0)
}

// idle looks at a process that has nothing to do. A wake-up is a voluntary switch of one of its threads.
func idle(b testing.TB, pid int) {
	b.Helper()
	switches := func() (n int) {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		for _, f := range files {
			n += statusOf(f, "voluntary_ctxt_switches")
		}
		return n
	}
	time.Sleep(2 * time.Second) // what its start had still to do
	const windows, each = 6, 4 * time.Second
	quiet, all := 0, 0
	for range windows {
		before := switches()
		time.Sleep(each)
		n := switches() - before
		all += n
		if n == 0 {
			quiet++
		}
	}
	table.add(figure{what: fmt.Sprintf("daemon: idle, windows of %s of %d without a wake-up (%d in all)", each, windows, all), netd: strconv.Itoa(quiet),
		bar: "≥ 3: timers of ≥ 10 s alone", met: quiet >= 3})
	below("daemon: idle, resident", resident(pid), 40, "MB")
}

func resident(pid int) float64 {
	return float64(statusOf(fmt.Sprintf("/proc/%d/status", pid), "VmRSS")) * 1024 / 1e6
}

// statusOf is a number in a status file of proc.
func statusOf(file, name string) int {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			return n
		}
	}
	return 0
}

// flushed deletes 10,000 routes at once and waits until the daemon has put all back, beside what adding them costs.
func flushed(b *testing.B) {
	const n = 10_000
	h := newHost(b, fileOf(n+1))
	d, _ := h.start(b)
	w, say := open(b, h.NS, routeChanges), open(b, h.NS, 0)
	defer w.close()
	defer say.close()
	dsts := make([]netip.Prefix, n)
	for i := range dsts {
		dsts[i] = nodeBlock(i + 1)
	}
	before, err := say.dump()
	if err != nil {
		b.Fatal(err)
	}
	d.rests(b)
	// One flush: a second one would be a fight, which the daemon slows down on purpose.
	began, used := time.Now(), d.worked()
	say.remove(b, dsts...)
	gone := time.Since(began)
	back := 0
	for back < n {
		err := w.receive(func(typ uint16, body []byte) error {
			if typ == unix.RTM_NEWROUTE && body[5] == 142 {
				back++
			}
			return nil
		})
		if err != nil {
			b.Fatalf("%d of %d routes are back: %v", back, n, err)
		}
	}
	repair := time.Since(began)
	used = d.worked() - used
	if now, err := say.dump(); err != nil || now != before {
		b.Fatalf("%d routes, %d before: %v", now, before, err)
	}
	d.stop()
	held := make([]heldRoute, 0, n)
	if err := say.each(func(r heldRoute) {
		if r.nhid != 0 {
			held = append(held, r)
		}
	}); err != nil || len(held) != n {
		b.Fatalf("%d routes by next hop objects: %v", len(held), err)
	}
	var adding []time.Duration
	for range 5 {
		say.remove(b, dsts...)
		began := time.Now()
		err := say.send(n, 512, true, func(m []byte, flags uint16, seq uint32, i int) []byte {
			return route(m, unix.RTM_NEWROUTE, flags|unix.NLM_F_CREATE|unix.NLM_F_EXCL, seq, held[i].dst, held[i].via, held[i].oif, held[i].nhid)
		})
		if err != nil {
			b.Fatal(err)
		}
		adding = append(adding, time.Since(began))
	}
	what := fmt.Sprintf("repair: %d routes flushed in %s, all back", n, show(gone))
	against(what+", from the last deletion on", repair-gone, median(adding), "adding them, answered", 2)
	against(what+", from the first", repair, median(adding), "adding them, answered", 0)
	table.add(figure{what: what + ": the daemon's processor time", netd: show(used), none: true})
}

// oneMore adds a node to a file that a daemon follows, and takes it away: what is touched, and how long after the file was
// written the route is there.
func oneMore(b *testing.B, n int) {
	h := newHost(b, fileOf(n))
	h.start(b)
	hear := open(b, h.NS, routeChanges|neighChanges|nexthopChanges)
	defer hear.close()
	write := func(nodes int) {
		if err := os.WriteFile(h.file("new"), fileOf(nodes), 0o644); err != nil {
			b.Fatal(err)
		}
		if err := os.Rename(h.file("new"), h.file("netd.hcl")); err != nil {
			b.Fatal(err)
		}
	}
	var took []time.Duration
	touched := 0
	for range 5 {
		began := time.Now()
		write(n + 1)
		hear.appears(b, nodeBlock(n))
		took = append(took, time.Since(began))
		write(n)
		touched = 0
		for gone := false; !gone; {
			err := hear.receive(func(typ uint16, body []byte) error {
				switch {
				case typ == unix.RTM_DELROUTE && parseRoute(body).dst == nodeBlock(n):
					touched++
				case typ == unix.RTM_DELNEIGH:
					touched++
				case typ == unix.RTM_DELNEXTHOP:
					touched++
					gone = true // the deepest: what stood on it went before
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	table.add(figure{what: fmt.Sprintf("vxlan: a node more in a file of %d, written to route", n), netd: show(median(took)), bar: "told: most is the file's", none: true})
	table.add(figure{what: fmt.Sprintf("vxlan: objects touched when a node of %d goes", n+1), netd: strconv.Itoa(touched), bar: "≤ 4: route, neighbour, FDB, next hop", met: touched <= 4})
}
