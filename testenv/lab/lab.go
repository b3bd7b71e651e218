// Package lab has every node of a configuration as network namespaces on one machine, on a wire of its own, with netd in
// each:
//
//	namespace of the wire: bridge
//	   │        │
//	 eth0     eth0        a node: its own network, mount, process and host name namespaces,
//	 node     node        a private /run with the namespaces of its workloads, and netd run as a child
//
// Nothing of the machine's own namespaces is changed but one folder, Dir, in which each process that holds a part of the lab
// writes itself down before it does anything else. Ending these ends all that they hold, whatever became of who began it.
package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// Dir is where a lab is written down.
const Dir = "/run/netd-lab"

// Where netd keeps its things on a node: /run is each node's own.
const (
	stateDir = "/run/netd-state"
	runDir   = "/run/netd"
)

// restart is how long after its end netd is started again on a node, as netd.service has it.
const restart = time.Second

// Node is a host of a lab, as it is wanted.
type Node struct {
	Name      string
	Addresses []string // with their prefix lengths
	Interface string
	Netns     map[string]string // workload → path
}

// Lab is a lab that is up.
type Lab struct {
	File  string  `json:"file"`
	Wire  holder  `json:"wire"`
	Hosts []*Host `json:"hosts"`
}

// Host is a node of a lab that is up.
type Host struct {
	holder
	Name  string            `json:"name"`
	Netns map[string]string `json:"netns"`
}

// holder is a process that holds namespaces. Its start time tells it from a later one with its number.
type holder struct {
	PID     int    `json:"pid"`
	Started string `json:"started"`
}

func startOf(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := bytes.Cut(b, []byte(") ")) // the name may hold blanks
	fields := strings.Fields(string(after))
	if len(fields) < 20 {
		return ""
	}
	return fields[19]
}

func (h holder) lives() bool { return h.Started != "" && startOf(h.PID) == h.Started }

// end kills the first process of a namespace, which takes all others along, and waits until the kernel is done with it: it
// removes what the namespaces held while the process ends.
func (h holder) end() {
	if h.lives() {
		_ = unix.Kill(h.PID, unix.SIGKILL)
	}
	for range 3000 { // half a minute, on a busy machine
		if !h.lives() || zombie(h.PID) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// zombie reports whether a process is dead and only its parent has not asked for it yet.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, after, _ := bytes.Cut(b, []byte(") "))
	return err == nil && bytes.HasPrefix(after, []byte("Z"))
}

func file() string { return filepath.Join(Dir, "lab.json") }

// lockFile is locked for as long as a process of the lab lives, from its first moment on: each inherits the open file
// (flock(2)). Before a holder has registered itself, that is all that tells of it.
func lockFile() string { return filepath.Join(Dir, "lock") }

// lockFD is the lock in a holder, behind the pipe that says that it is ready.
const lockFD = 4

// register writes the calling process down among those that hold the lab. /proc is still the machine's, so that it tells
// the number that the machine knows the process by.
func register(name string) error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(self)
	if err != nil {
		return err
	}
	b, err := json.Marshal(holder{pid, startOf(pid)})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(Dir, name+".holder"), b, 0o600)
}

// ErrPart is a lab that is not whole: whoever brought it up was killed.
var ErrPart = errors.New("the lab is up in part, since who brought it up was ended: netd lab down takes it down")

// Open returns the lab that is up; fs.ErrNotExist where none is, ErrPart where a part of one is.
func Open() (*Lab, error) {
	if _, err := os.Stat(Dir); err != nil {
		return nil, fmt.Errorf("looking for the lab: %w", err)
	}
	b, err := os.ReadFile(file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrPart
	} else if err != nil {
		return nil, fmt.Errorf("looking for the lab: %w", err)
	}
	var l Lab
	if err := json.Unmarshal(b, &l); err != nil {
		return nil, fmt.Errorf("reading %s: %w", file(), err)
	}
	return &l, nil
}

// Up makes a lab. program is netd itself: `program lab hold …` is the process that holds a node.
func Up(ctx context.Context, config string, nodes []Node, program string) (l *Lab, err error) {
	if err := os.Mkdir(Dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			if _, err := Open(); errors.Is(err, ErrPart) {
				return nil, err
			}
			return nil, errors.New("a lab is up already: netd lab down takes it down")
		}
		return nil, err
	}
	l = &Lab{File: config}
	lock, err := os.OpenFile(lockFile(), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	}
	defer func() {
		_ = lock.Close()
		if err != nil {
			err = errors.Join(err, Down())
		}
	}()
	if err != nil {
		return l, fmt.Errorf("locking the lab: %w", err)
	}
	wire, err := l.hold(program, lock, "--name", "wire")
	if err != nil {
		return l, err
	}
	l.Wire = wire
	if err := wire.run("ip", "link", "add", "wire", "type", "bridge"); err != nil {
		return l, err
	}
	if err := wire.run("ip", "link", "set", "wire", "up"); err != nil {
		return l, err
	}
	for i, n := range nodes {
		if ctx.Err() != nil {
			return l, context.Cause(ctx)
		}
		args := []string{"--name", n.Name, "--config", config}
		for _, path := range n.Netns {
			args = append(args, "--netns", path)
		}
		hold, err := l.hold(program, lock, args...)
		if err != nil {
			return l, err
		}
		h := &Host{holder: hold, Name: n.Name, Netns: n.Netns}
		l.Hosts = append(l.Hosts, h)
		port := "port" + strconv.Itoa(i)
		type step struct {
			in   holder
			args []string
		}
		steps := []step{
			{wire, []string{"ip", "link", "add", port, "type", "veth", "peer", "name", n.Interface, "netns", strconv.Itoa(hold.PID)}},
			{wire, []string{"ip", "link", "set", port, "master", "wire", "up"}},
			{hold, []string{"ip", "link", "set", n.Interface, "up"}},
		}
		for _, a := range n.Addresses { // nodad: an IPv6 address can be used at once
			add := []string{"ip", "addr", "add", a, "dev", n.Interface}
			if strings.Contains(a, ":") {
				add = append(add, "nodad")
			}
			steps = append(steps, step{hold, add})
		}
		for _, step := range steps {
			if err := step.in.run(step.args...); err != nil {
				return l, fmt.Errorf("node %s: %w", n.Name, err)
			}
		}
		if err := unix.Kill(hold.PID, unix.SIGUSR1); err != nil { // its link is there: netd may start
			return l, err
		}
	}
	b, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return l, err
	}
	return l, os.WriteFile(file(), b, 0o600)
}

// hold starts a process that holds namespaces, and waits until they are ready.
func (l *Lab) hold(program string, lock *os.File, args ...string) (holder, error) {
	cmd := exec.Command(program, append([]string{"lab", "hold"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true,
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC}
	log, err := os.OpenFile(filepath.Join(Dir, args[1]+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return holder{}, err
	}
	defer log.Close()
	cmd.Stderr = log
	r, w, err := os.Pipe()
	if err != nil {
		return holder{}, err
	}
	defer r.Close()
	cmd.ExtraFiles = []*os.File{w, lock}
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		return holder{}, fmt.Errorf("starting %s: %w", args[1], err)
	}
	h := holder{cmd.Process.Pid, startOf(cmd.Process.Pid)}
	go func() { _ = cmd.Wait() }()
	if n, _ := r.Read(make([]byte, 1)); n != 1 {
		h.end()
		text, _ := os.ReadFile(log.Name())
		return h, fmt.Errorf("starting %s: %s", args[1], bytes.TrimSpace(text))
	}
	return h, nil
}

// enter is a command in the namespaces of a holder.
func (h holder) enter(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", strconv.Itoa(h.PID), "-n", "-m", "-u", "-p", "-i", "--"}, args...)...)
}

// run runs a command in the network namespace alone: process numbers are the machine's.
func (h holder) run(args ...string) error {
	if out, err := exec.Command("nsenter", append([]string{"-t", strconv.Itoa(h.PID), "-n", "--"}, args...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// Command is a command on a node, or in a workload's namespace.
//
// netd means the one that the lab runs, and it finds the node's configuration and daemon without a flag.
func (l *Lab) Command(where string, args ...string) (*exec.Cmd, error) {
	var nodes, workloads []string
	for _, h := range l.Hosts {
		nodes = append(nodes, h.Name)
		for name := range h.Netns {
			workloads = append(workloads, name)
		}
		path, inside := h.Netns[where]
		if h.Name != where && !inside {
			continue
		}
		if args[0] == "netd" {
			args = append([]string{"/proc/1/exe"}, args[1:]...)
		}
		if inside {
			args = append([]string{"nsenter", "--net=" + path, "--"}, args...)
		}
		cmd := h.enter(args...)
		cmd.Env = append(os.Environ(), "NETD_CONFIG="+l.File, "NETD_NODE="+h.Name, "NETD_STATE_DIR="+stateDir, "NETD_RUN_DIR="+runDir)
		return cmd, nil
	}
	slices.Sort(workloads)
	return nil, fmt.Errorf("the lab has no node or workload %q; its nodes are %s, its workloads %s", where, strings.Join(nodes, ", "), strings.Join(workloads, ", "))
}

// Down ends a lab, or what there is of one, and leaves nothing. Where none is up it is fs.ErrNotExist.
func Down() error {
	lock, err := os.OpenFile(lockFile(), os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) { // none is up, or who brought it up was killed at once, or was an earlier netd
		if _, err := os.ReadDir(Dir); err != nil {
			return fmt.Errorf("looking for the lab: %w", err)
		}
		if err := endAll(); err != nil { // its folder is all that tells of what is left
			return err
		}
		return os.RemoveAll(Dir)
	} else if err != nil {
		return fmt.Errorf("looking for the lab: %w", err)
	}
	defer lock.Close()
	for range 3000 { // half a minute, on a busy machine
		if err := endAll(); err != nil {
			return err
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			return os.RemoveAll(Dir)
		}
		time.Sleep(10 * time.Millisecond) // what has not registered itself yet ends by itself, since nobody reads that it is ready
	}
	return fmt.Errorf("a process of the lab does not end: fuser %s names it", lockFile())
}

// endAll ends the holders that have registered themselves.
func endAll() error {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("looking for the lab: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".holder") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(Dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // whoever else takes the lab down
			continue
		} else if err != nil {
			return err
		}
		var h holder
		if json.Unmarshal(b, &h) == nil { // half a file is of a process that was killed while it wrote
			h.end()
		}
	}
	return nil
}

// Hold is the process that holds one node, or the wire: the first of its process namespace. It prepares the namespaces,
// waits for its link, and keeps netd running, if there is a configuration.
func Hold(name, config, program string, paths []string) error {
	ready := os.NewFile(3, "ready")
	unix.CloseOnExec(lockFD)
	if err := register(name); err != nil {
		return err
	}
	if err := settle(name); err != nil {
		return err
	}
	for _, p := range paths {
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			return err
		}
		if _, err := netns.At(p); err != nil {
			return err
		}
	}
	linked := make(chan os.Signal, 1)
	signal.Notify(linked, unix.SIGUSR1)
	if _, err := ready.Write([]byte{1}); err != nil {
		return err
	}
	_ = ready.Close()
	if config == "" {
		select {}
	}
	<-linked
	for {
		cmd := exec.Command(program, "run", "--config", config, "--node", name, "--state-dir", stateDir, "--run-dir", runDir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return err
		}
		for pid := 0; pid != cmd.Process.Pid; { // the first process reaps whatever loses its parent
			var err error
			if pid, err = unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("waiting for netd: %w", err)
			}
		}
		time.Sleep(restart)
	}
}

func settle(name string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for _, m := range [][2]string{{"tmpfs", "/run"}, {"proc", "/proc"}, {"sysfs", "/sys"}} {
		if err := unix.Mount(m[0], m[1], m[0], 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", m[1], err)
		}
	}
	if err := unix.Sethostname([]byte(name)); err != nil {
		return err
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("lo: %w: %s", err, out)
	}
	return nil
}
