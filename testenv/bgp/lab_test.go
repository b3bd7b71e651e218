package bgp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// program is netd, built once, and newer the same as of a later version.
var (
	program = sync.OnceValues(func() (string, error) { return build("") })
	newer   = sync.OnceValues(func() (string, error) { return build("-X main.version=newer") })
)

func build(ldflags string) (string, error) {
	dir, err := os.MkdirTemp("/run", "netd") // of the tests' own mount namespace: it goes with them
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "netd")
	if out, err := exec.Command("go", "build", "-ldflags", ldflags, "-o", path, "netd/cmd/netd").CombinedOutput(); err != nil {
		return "", fmt.Errorf("building netd: %w: %s", err, out)
	}
	return path, os.Chmod(dir, 0o755)
}

// lab is hosts on one wire. Labs run side by side: their names differ, their addresses may be the same.
type lab struct {
	t    *testing.T
	id   string
	file string // the configuration of all
	netd string
}

var labs atomic.Int32

// newLab makes a wire. The test runs beside others from here on.
func newLab(t *testing.T, config string) *lab {
	t.Helper()
	t.Parallel()
	netns.Need(t)
	exe, err := program()
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, id: "b" + strconv.Itoa(int(labs.Add(1))), file: filepath.Join(t.TempDir(), "netd.hcl"), netd: exe}
	l.write(config)
	wire := "wire" + l.id
	netns.Run(t, "ip link add "+wire+" type bridge")
	t.Cleanup(func() { netns.Run(t, "ip link del "+wire) })
	netns.Run(t, "ip link set "+wire+" up")
	return l
}

// write is the configuration. LAB in it is what the names of this lab's namespaces begin with.
func (l *lab) write(config string) {
	l.t.Helper()
	tmp := l.file + ".new"
	if err := os.WriteFile(tmp, []byte(strings.ReplaceAll(config, "LAB", l.id)), 0o644); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(tmp, l.file); err != nil {
		l.t.Fatal(err)
	}
}

// host is a namespace on the wire.
type host struct {
	*netns.NS
	lab    *lab
	addr   netip.Addr
	dir    string
	netd   string   // the program
	env    []string // more than this process's, for the daemon
	args   []string // of netd run
	daemon *exec.Cmd
	log    *log
}

// log is what a daemon writes.
type log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) { l.mu.Lock(); defer l.mu.Unlock(); return l.b.Write(b) }
func (l *log) String() string              { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

// host puts a host on the wire, by an address with its length.
func (l *lab) host(name, address string) *host {
	l.t.Helper()
	p := netip.MustParsePrefix(address)
	h := &host{NS: netns.New(l.t, l.id+"-"+name), lab: l, addr: p.Addr(), dir: l.t.TempDir(), netd: l.netd, log: &log{}}
	if err := os.Chmod(h.dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	port := l.id + "-" + name
	netns.Run(l.t, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %s", port, h.Name))
	netns.Run(l.t, fmt.Sprintf("ip link set %s master wire%s up", port, l.id))
	h.Run(l.t, "ip addr add "+address+" dev eth0")
	h.Run(l.t, "ip link set eth0 up")
	return h
}

// container makes the namespace /run/netns/<lab>-<name>, which a workload of the file names.
func (l *lab) container(name string) *netns.NS { return netns.New(l.t, l.id+"-"+name) }

func (h *host) run() string   { return filepath.Join(h.dir, "run") }
func (h *host) state() string { return filepath.Join(h.dir, "state") }

func (h *host) command(args ...string) *exec.Cmd {
	return exec.Command(h.netd, append([]string{"-c", h.lab.file, "--state-dir", h.state(), "--run-dir", h.run(), "--color", "never"}, args...)...)
}

// waits is what netd says where something takes longer than 2 s.
var waits = regexp.MustCompile(`(?m)^netd: waiting for .*\n`)

// ask runs netd on the host and returns what it printed, but for what it waits for, and its exit code.
func (h *host) ask(args ...string) (string, int) {
	h.lab.t.Helper()
	cmd := h.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		h.lab.t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) }) // its goroutines are in the output
	defer stuck.Stop()
	if err := cmd.Wait(); err != nil && cmd.ProcessState == nil {
		h.lab.t.Fatal(err)
	}
	return waits.ReplaceAllString(out.String(), ""), cmd.ProcessState.ExitCode()
}

func (h *host) must(args ...string) string {
	h.lab.t.Helper()
	out, code := h.ask(args...)
	if code != 0 {
		h.lab.t.Fatalf("%s: netd %s: exit code %d:\n%s\n%s", h.Name, strings.Join(args, " "), code, out, h.log)
	}
	return out
}

// degraded runs netd where it must find something degraded.
func (h *host) degraded(args ...string) string {
	h.lab.t.Helper()
	out, code := h.ask(args...)
	if code != 3 {
		return fmt.Sprintf("exit code %d: %s", code, out)
	}
	return out
}

// start starts the daemon. Everything of netd on the host goes with the test.
func (h *host) start() {
	h.lab.t.Helper()
	first := h.daemon == nil
	h.daemon = h.command(append([]string{"run"}, h.args...)...)
	h.daemon.Stderr, h.daemon.Env = h.log, append(os.Environ(), h.env...)
	if err := h.Start(h.daemon); err != nil {
		h.lab.t.Fatal(err)
	}
	if first {
		h.lab.t.Cleanup(func() {
			if h.lab.t.Failed() {
				speaker, _ := os.ReadFile(filepath.Join(h.run(), "speaker.log"))
				h.lab.t.Logf("%s: the daemon said:\n%s\nthe speaker said:\n%s", h.Name, h.log, speaker)
			}
			h.kill()
			h.must("destroy", "-y")
		})
	}
}

// kill kills the daemon.
func (h *host) kill() {
	if h.daemon.ProcessState == nil {
		_ = h.daemon.Process.Kill()
		_ = h.daemon.Wait()
	}
}

// speaker is the process of the host's speaker, 0 where none runs.
func (h *host) speaker() int {
	pid, _ := strconv.Atoi(strings.TrimPrefix(h.status().Speaker, "pid "))
	return pid
}

// killSpeaker kills the speaker, whoever started it.
func (h *host) killSpeaker() {
	h.lab.t.Helper()
	pid := h.speaker()
	if pid == 0 {
		h.lab.t.Fatalf("%s: no speaker runs", h.Name)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		h.lab.t.Fatal(err)
	}
}

// status is what `status --json` says, as far as labs look at it.
type status struct {
	Verdict string
	Reasons []string
	Speaker string
	// SpeakerError is empty where the speaker holds its sessions.
	SpeakerError string `json:"speaker_error"`
	Peers        []struct {
		Addr    netip.Addr
		State   string
		Since   time.Time
		Synced  bool
		Error   string
		ErrorAt time.Time `json:"error_at"`
	}
}

func (h *host) status() status {
	h.lab.t.Helper()
	out, _ := h.ask("status", "--json")
	var s status
	if err := json.Unmarshal([]byte(out), &s); err != nil { // a daemon that has just started does not answer at once
		s.Verdict = fmt.Sprintf("%v: %s", err, out)
	}
	return s
}

// up waits until the host is in sync and has n sessions, all of them up and with their tables known.
func (h *host) up(n int) { h.lab.t.Helper(); h.upSince(n, time.Time{}) }

// upSince waits for sessions that are younger than a moment.
func (h *host) upSince(n int, after time.Time) {
	h.lab.t.Helper()
	h.lab.wait(h.Name+" in sync", func() string {
		s := h.status()
		up := 0
		for _, p := range s.Peers {
			if p.State == "established" && p.Synced && p.Since.After(after) {
				up++
			}
		}
		if s.Verdict != "in sync" || up != n {
			return fmt.Sprintf("%+v", s)
		}
		return ""
	})
}

// sinceOf is since when the session with a neighbour is as it is.
func (h *host) sinceOf(a netip.Addr) time.Time {
	h.lab.t.Helper()
	for _, p := range h.status().Peers {
		if p.Addr == a {
			return p.Since
		}
	}
	return time.Time{}
}

// routes are the routes of netd in the host's kernel that begin with a prefix.
func (h *host) routes(prefix string) string {
	h.lab.t.Helper()
	return strings.TrimSpace(h.Run(h.lab.t, "ip route show proto 142 "+prefix))
}

// wait waits until nothing is wrong.
func (l *lab) wait(what string, wrong func() string) time.Duration {
	l.t.Helper()
	return l.within(2*time.Minute, what, wrong)
}

func (l *lab) within(d time.Duration, what string, wrong func() string) time.Duration {
	l.t.Helper()
	begin := time.Now()
	for {
		text := wrong()
		if text == "" {
			return time.Since(begin)
		}
		if time.Since(begin) > d {
			l.t.Fatalf("waited %s for %s:\n%s", d, what, text)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// missing is what is wrong where a text lacks a part.
func missing(text, part string) string {
	if strings.Contains(text, part) {
		return ""
	}
	return fmt.Sprintf("no %q in:\n%s", part, text)
}
