package speaker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// User is whom the speaker runs as where there is such a user.
const User = "netd-speaker"

// nobody is whom it runs as where there is not: the kernel's overflow uid.
const nobody = 65534

// StartOptions say how to start a speaker.
type StartOptions struct {
	RunDir     string   // it gets a folder `speaker` and a file `speaker.log` in here
	Executable string   // empty: this program, even where its file was replaced or removed
	Args       []string // nil: "speaker"
	Env        []string // nil: what the Go runtime and the log read of this process's, and nothing else
	Version    string   // what it has to greet with
	Log        LogFunc  // required
}

// Dir is the folder of the speaker's sockets.
func (o StartOptions) Dir() string { return filepath.Join(o.RunDir, "speaker") }

// LogFile is where a speaker's log goes.
func (o StartOptions) LogFile() string { return filepath.Join(o.RunDir, "speaker.log") }

// Process is a speaker that this process started. It is not killed when this process ends.
type Process struct {
	PID  int
	Done <-chan struct{} // closed when it ended
	err  error
}

// Err is how it ended, after Done.
func (p *Process) Err() error { return p.err }

// Start starts a speaker and returns when it answers. It gets no pipe, since a process whose log is a pipe dies of it
// when the reader does; a session of its own, so that no terminal's signals reach it; and no parent-death signal. A
// process of root's gives it another user, whose only privilege is to listen on a port below 1024.
func Start(ctx context.Context, o StartOptions) (*Process, error) {
	cmd, files, err := command(o)
	if err != nil {
		return nil, fmt.Errorf("starting the speaker: %w", err)
	}
	err = confined(cmd.Start)
	for _, f := range files {
		_ = f.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the speaker: %w", err)
	}
	done := make(chan struct{})
	p := &Process{PID: cmd.Process.Pid, Done: done}
	go func() { // lives as long as the speaker; the speaker is meant to outlive us
		p.err = cmd.Wait()
		close(done)
	}()
	if err := p.answers(ctx, o); err != nil {
		_ = cmd.Process.Kill()
		return nil, fmt.Errorf("starting the speaker: %w (its log is %s)", err, o.LogFile())
	}
	return p, nil
}

// answers waits until the very process that was started says hello.
func (p *Process) answers(ctx context.Context, o StartOptions) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		l, err := openLink(ctx, o.Dir())
		if err == nil {
			h := l.hello
			l.close()
			switch {
			case h.PID != p.PID:
				return fmt.Errorf("another speaker, process %d, answers", h.PID)
			case h.Version != o.Version:
				return &VersionError{Have: h.Version}
			}
			return nil
		}
		select {
		case <-p.Done:
			if p.err == nil {
				return errors.New("it ended at once")
			}
			return fmt.Errorf("it ended at once: %w", p.err)
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		}
	}
}

// command prepares the process. The files are to be closed once it was started.
func command(o StartOptions) (*exec.Cmd, []*os.File, error) {
	uid, gid := nobody, nobody
	if u, err := user.Lookup(User); err == nil {
		if n, err := strconv.Atoi(u.Uid); err == nil {
			uid = n
		}
		if n, err := strconv.Atoi(u.Gid); err == nil {
			gid = n
		}
	} else if os.Geteuid() == 0 {
		o.Log("info", "there is no user "+User+": the speaker runs as user "+strconv.Itoa(nobody), nil)
	}
	dir, err := folder(o.Dir(), uid, gid)
	if err != nil {
		return nil, nil, err
	}
	// Readable too, and appended to: the speaker itself keeps its log short.
	log, err := os.OpenFile(o.LogFile(), os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		_ = dir.Close()
		return nil, nil, err
	}
	exe, args := o.Executable, o.Args
	if exe == "" {
		exe = "/proc/self/exe" // the file may have been replaced by an upgrade; this is what runs
	}
	if args == nil {
		args = []string{"speaker"}
	}
	cmd := exec.Command(exe, args...)
	cmd.Args[0] = "netd"
	if cmd.Env = o.Env; cmd.Env == nil {
		cmd.Env = environment()
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{dir} // descriptor 3
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
		cmd.SysProcAttr.AmbientCaps = []uintptr{unix.CAP_NET_BIND_SERVICE}
	}
	return cmd, []*os.File{dir, log}, nil
}

// environment is what a speaker gets of this process's: variables of the configuration may hold what it has no business with.
func environment() []string {
	env := []string{}
	for _, name := range []string{"GODEBUG", "GOGC", "GOMAXPROCS", "GOMEMLIMIT", "GOTRACEBACK", "NETD_LOG_FORMAT", "NETD_LOG_LEVEL", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// folder makes the speaker's folder, its own and nobody else's, and opens it.
func folder(path string, uid, gid int) (*os.File, error) {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	dir := os.NewFile(uintptr(fd), path)
	if os.Geteuid() == 0 {
		if err := dir.Chown(uid, gid); err != nil {
			_ = dir.Close()
			return nil, err
		}
	}
	if err := dir.Chmod(0o700); err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}
