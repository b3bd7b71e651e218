package router

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/netns"
)

// Program is whose router it is.
type Program string

const (
	BIRD Program = "bird"
	FRR  Program = "frr" // zebra and bgpd
)

// Router is a running router. It has its sockets and files in a folder of its own, so that many may run.
type Router struct {
	Program Program

	t      testing.TB
	ns     *netns.NS
	dir    string
	bgp    *process // bird, or bgpd
	zebra  *process
	starts int
}

// process is a child, and what it wrote.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
}

// within is how long a router may take to answer its own command line: a busy machine, not a slow router.
const within = time.Minute

// New starts a router, waits until it answers, and ends it with the test.
func New(t testing.TB, p Program, ns *netns.NS, conf string) *Router {
	t.Helper()
	netns.Need(t)
	dir, err := os.MkdirTemp("", "router") // short: the path of a unix socket has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	r := &Router{Program: p, t: t, ns: ns, dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s in %s said:\n%s", p, ns.Name, r.Log())
		}
		r.Kill()
		r.zebra.end()
		_ = os.RemoveAll(dir)
	})
	r.Write(conf)
	r.Start()
	return r
}

// lend gives the folder to FRR's user, whom its daemons turn into.
func (r *Router) lend() error {
	u, err := user.Lookup("frr")
	if err != nil {
		return fmt.Errorf("FRR is not here, testenv/deps.sh installs it: %w", err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	return errors.Join(err1, err2, os.Chmod(r.dir, 0o755), os.Chown(r.dir, uid, gid))
}

func (r *Router) file(name string) string { return filepath.Join(r.dir, name) }

// Write puts a configuration where the router reads it when it starts.
func (r *Router) Write(conf string) {
	r.t.Helper()
	if r.Program == BIRD {
		conf = "log stderr all;\n" + conf
	}
	for name, text := range map[string]string{"conf": conf, "zebra.conf": "", "vtysh.conf": ""} {
		if err := os.WriteFile(r.file(name), []byte(text), 0o644); err != nil {
			r.t.Fatal(err)
		}
	}
}

// Start starts a router that was killed, with the routes that it left in the kernel.
func (r *Router) Start() {
	r.t.Helper()
	r.starts++
	switch r.Program {
	case BIRD:
		args := []string{"-f", "-c", r.file("conf"), "-s", r.file("ctl"), "-P", r.file("pid")}
		if r.starts > 1 {
			args = append(args, "-R") // graceful restart recovery
		}
		r.bgp = r.run("bird", args...)
	case FRR:
		if r.zebra == nil {
			if err := r.lend(); err != nil {
				r.t.Fatal(err)
			}
			r.zebra = r.run("/usr/lib/frr/zebra", r.frr("zebra.conf", "zebra.pid", "-K", "300")...)
			r.answers("zebra", func() error { _, err := r.ask("zebra", "show version"); return err })
		}
		r.bgp = r.run("/usr/lib/frr/bgpd", r.frr("conf", "bgpd.pid")...)
	default:
		r.t.Fatalf("there is no router %q", r.Program)
	}
	r.answers(string(r.Program), func() error {
		if r.Program == BIRD {
			_, err := r.ask("", "show status")
			return err
		}
		_, err := r.ask("bgpd", "show bgp summary")
		return err
	})
}

// frr are the arguments that give a daemon of FRR's a place of its own. None listens for people.
func (r *Router) frr(conf, pid string, more ...string) []string {
	return append([]string{"-z", r.file("zserv.api"), "-i", r.file(pid), "-f", r.file(conf), "--vty_socket", r.dir, "-P", "0", "--log", "stdout"}, more...)
}

func (r *Router) run(name string, args ...string) *process {
	r.t.Helper()
	if p, err := exec.LookPath(name); err == nil {
		name = p
	} else if _, err := os.Stat("/usr/sbin/" + name); err == nil {
		name = "/usr/sbin/" + name
	} else {
		r.t.Fatalf("%s is not here: testenv/deps.sh installs it", name)
	}
	p := &process{cmd: exec.Command(name, args...), log: r.file(filepath.Base(name) + ".log"), done: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := r.ns.Start(p.cmd); err != nil {
		r.t.Fatalf("starting %s: %v", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait()
	}()
	return p
}

// end kills a process that may be gone already and waits for it.
func (p *process) end() {
	if p == nil {
		return
	}
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
}

// answers waits until a program takes commands.
func (r *Router) answers(what string, ask func() error) {
	r.t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s in %s does not answer: %v\n%s", what, r.ns.Name, err, r.Log())
		}
		select {
		case <-ended(r.bgp):
			r.t.Fatalf("%s in %s ended:\n%s", what, r.ns.Name, r.Log())
		case <-ended(r.zebra):
			r.t.Fatalf("zebra in %s ended:\n%s", r.ns.Name, r.Log())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// ended is closed when a process ended; one that was never started does not.
func ended(p *process) <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.done
}

// Ask has the router's own command line answer: birdc, or vtysh, which takes several commands.
func (r *Router) Ask(commands ...string) string {
	r.t.Helper()
	out, err := r.ask("", commands...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// Type runs a line of a shell where the router is, as who administers it there: birdc, vtysh and frr-reload.py lead to this router.
func (r *Router) Type(line string) (string, error) {
	r.t.Helper()
	bin := r.file("bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		r.t.Fatal(err)
	}
	for name, run := range map[string]string{
		"birdc":         "birdc -s " + r.file("ctl"),
		"vtysh":         "vtysh --vty_socket " + r.dir + " --config_dir " + r.dir,
		"frr-reload.py": "/usr/lib/frr/frr-reload.py --stdout --vty_socket " + r.dir + " --confdir " + r.dir + " --rundir " + r.dir,
	} {
		script := "#!/bin/sh\nPATH=/usr/sbin:/usr/bin:/sbin:/bin exec " + run + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	cmd := exec.Command("bash", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+bin+":/usr/sbin:/usr/bin:/sbin:/bin")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := r.ns.Start(cmd); err != nil {
		r.t.Fatal(err)
	}
	stuck := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	err := cmd.Wait()
	return out.String(), err
}

func (r *Router) ask(daemon string, commands ...string) (string, error) {
	var cmd *exec.Cmd
	if r.Program == BIRD {
		cmd = exec.Command("birdc", "-s", r.file("ctl"))
		cmd.Args = append(cmd.Args, strings.Fields(strings.Join(commands, " "))...)
	} else {
		cmd = exec.Command("vtysh", "--vty_socket", r.dir, "--config_dir", r.dir)
		if daemon != "" {
			cmd.Args = append(cmd.Args, "-d", daemon)
		}
		for _, c := range commands {
			cmd.Args = append(cmd.Args, "-c", c)
		}
	}
	if path, err := exec.LookPath(cmd.Args[0]); err != nil {
		cmd.Path, cmd.Err = "/usr/sbin/"+cmd.Args[0], nil
	} else {
		cmd.Path = path
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
	}
	return string(out), nil
}

// Configure gives BIRD another configuration. FRR has no such thing: it is asked, "configure terminal" and what follows.
func (r *Router) Configure(conf string) {
	r.t.Helper()
	if r.Program != BIRD {
		r.t.Fatalf("%s is configured by Ask", r.Program)
	}
	r.Write(conf)
	if out := r.Ask("configure"); !strings.Contains(out, "Reconfigur") {
		r.t.Fatalf("bird in %s: %s", r.ns.Name, out)
	}
}

// Kill ends BIRD, or FRR's bgpd, without a word to its neighbours. What it put into the kernel stays.
func (r *Router) Kill() { r.bgp.end() }

// Freeze stops the process that holds the sessions: it falls silent, the kernel goes on acknowledging for it.
func (r *Router) Freeze() { r.signal(syscall.SIGSTOP) }

// Thaw lets it go on.
func (r *Router) Thaw() { r.signal(syscall.SIGCONT) }

func (r *Router) signal(s syscall.Signal) {
	r.t.Helper()
	if err := r.bgp.cmd.Process.Signal(s); err != nil {
		r.t.Fatalf("%s in %s: %v", r.Program, r.ns.Name, err)
	}
}

// Log is what the router wrote.
func (r *Router) Log() string {
	var b strings.Builder
	for _, p := range []*process{r.zebra, r.bgp} {
		if p != nil {
			text, _ := os.ReadFile(p.log)
			b.Write(text)
		}
	}
	return b.String()
}
