// Command netd-cni is what container runtimes run as a CNI plugin. It knows nothing of the protocol: it passes its
// environment and its input to netd's daemon and prints the answer, and where no daemon answers it has netd cni do so. It is
// on the standard library alone, since a runtime starts it for every container and waits.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// maxInput is a byte more than netd reads, so that it sees what is too long.
const maxInput = 1<<20 + 1

// call is what POST /v1/cni takes.
type call struct {
	Command     string `json:"command"`
	ContainerID string `json:"container_id"`
	Netns       string `json:"netns"`
	IfName      string `json:"ifname"`
	Args        string `json:"args"`
	Stdin       []byte `json:"stdin"`
	FD          int    `json:"fd"` // on which the namespace at Netns is open here; -1: none
	Dev         uint64 `json:"dev"`
	Ino         uint64 `json:"ino"`
}

type answer struct {
	Stdout []byte `json:"stdout"`
	Code   int    `json:"code"`
}

func main() { os.Exit(run(os.Stdin, os.Stdout, os.Stderr)) }

func run(in, out, talk *os.File) int {
	c := call{Command: os.Getenv("CNI_COMMAND"), ContainerID: os.Getenv("CNI_CONTAINERID"), Netns: os.Getenv("CNI_NETNS"),
		IfName: os.Getenv("CNI_IFNAME"), Args: os.Getenv("CNI_ARGS"), FD: -1}
	if c.Command == "" || c.Command == "VERSION" {
		return byItself(nil, in, out, talk)
	}
	var err error
	if c.Stdin, err = io.ReadAll(io.LimitReader(in, maxInput)); err != nil {
		return fail(out, 5, "reading standard input", err)
	}
	var conf struct {
		RunDir string `json:"run_dir"`
	}
	_ = json.Unmarshal(c.Stdin, &conf) // netd says what is wrong with it
	if conf.RunDir == "" {
		conf.RunDir = "/run/netd"
	}
	a, err := ask(filepath.Join(conf.RunDir, "netd.sock"), c)
	if err != nil { // no daemon, or it died over it: doing it again changes nothing
		return byItself(c.Stdin, nil, out, talk)
	}
	if _, err := out.Write(a.Stdout); err != nil {
		return 1
	}
	return a.Code
}

// dial connects to the daemon's socket, for 5 seconds at most. Package net would cost this program as much as the answer: it starts
// a poller, and what else it needs for networks.
func dial(socket string) (*os.File, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	err = syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_SNDTIMEO, &syscall.Timeval{Sec: 5})
	for err == nil {
		if err = syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}); err == nil {
			return os.NewFile(uintptr(fd), socket), nil
		}
		if err == syscall.EINTR { // which a time-out makes of a signal
			err = nil
		}
	}
	_ = syscall.Close(fd)
	return nil, err
}

// ask has the daemon answer. The namespace is opened here and stays open until then: the daemon finds it by this process's
// descriptor, whatever paths it sees itself.
func ask(socket string, c call) (a answer, err error) {
	conn, err := dial(socket)
	if err != nil {
		return a, err
	}
	defer conn.Close()
	if c.Netns != "" {
		if fd, err := syscall.Open(c.Netns, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0); err == nil {
			defer syscall.Close(fd)
			var st syscall.Stat_t
			if syscall.Fstat(fd, &st) == nil {
				c.FD, c.Dev, c.Ino = fd, uint64(st.Dev), st.Ino
			}
		}
	}
	body, err := json.Marshal(c)
	if err != nil {
		return a, err
	}
	// HTTP/1.0: the answer ends with the connection. net/http would double this program.
	request := append(fmt.Appendf(nil, "POST /v1/cni HTTP/1.0\r\nContent-Length: %d\r\n\r\n", len(body)), body...)
	if _, err := conn.Write(request); err != nil {
		return a, err
	}
	r := bufio.NewReader(conn)
	status, err := r.ReadString('\n')
	if err != nil {
		return a, err
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return a, err
		}
		if strings.TrimSpace(line) == "" {
			break
		}
	}
	if f := strings.Fields(status); len(f) < 2 || f[1] != strconv.Itoa(200) {
		return a, errors.New("the daemon answers " + strings.TrimSpace(status))
	}
	return a, json.NewDecoder(r).Decode(&a)
}

// byItself runs netd cni, on in or with what was read from it.
func byItself(stdin []byte, in, out, talk *os.File) int {
	program, err := find()
	if err != nil {
		return fail(out, 50, "no daemon of netd answers, and there is no netd to do it without", err)
	}
	if in == nil { // it was read already
		r, w, err := os.Pipe()
		if err != nil {
			return fail(out, 11, "running "+program+" cni", err)
		}
		in = r
		go func() {
			_, _ = w.Write(stdin) // one who does not read it to the end has an answer all the same
			_ = w.Close()
		}()
	}
	child, err := os.StartProcess(program, []string{program, "cni"}, &os.ProcAttr{Files: []*os.File{in, out, talk}})
	if err != nil {
		return fail(out, 11, "running "+program+" cni", err)
	}
	_ = in.Close() // if the child ends, w is told
	state, err := child.Wait()
	switch {
	case err != nil:
		return fail(out, 11, "running "+program+" cni", err)
	case state.ExitCode() >= 0:
		return state.ExitCode()
	default: // a signal ended it
		return fail(out, 11, "running "+program+" cni", errors.New(state.String()))
	}
}

// find looks for netd beside this program and where packages put it: runtimes give plugins a PATH of their own.
func find() (string, error) {
	var tried []string
	if self, err := os.Executable(); err == nil {
		tried = append(tried, filepath.Dir(self))
	}
	tried = append(append(tried, filepath.SplitList(os.Getenv("PATH"))...), "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin")
	for _, dir := range tried {
		path := filepath.Join(dir, "netd")
		if info, err := os.Stat(path); filepath.IsAbs(path) && err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", errors.New("not found in " + strings.Join(tried, ", "))
}

// fail prints an error as the specification says.
func fail(out io.Writer, code int, what string, err error) int {
	b, _ := json.Marshal(map[string]any{"cniVersion": "1.1.0", "code": code, "msg": what + ": " + err.Error()})
	fmt.Fprintf(out, "%s\n", b)
	return 1
}
