package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"netd/testenv/containerd"
	"netd/testenv/docker"
	"netd/testenv/netns"
	"netd/testenv/stream"
)

// tenant is a container of some runtime that stays.
type tenant struct {
	runtime string
	ns      *netns.NS
	addr    netip.Addr
}

// exchanges sends bytes over TCP and has them back.
func (a tenant) exchanges(b tenant) error {
	const size = 64 << 10
	return b.ns.Do(func() error {
		l, err := net.Listen("tcp", netip.AddrPortFrom(b.addr, 8080).String())
		if err != nil {
			return err
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			_, _ = io.Copy(c, io.LimitReader(c, size))
		}()
		return a.ns.Do(func() error {
			d := net.Dialer{Timeout: 6 * time.Second, LocalAddr: &net.TCPAddr{IP: a.addr.AsSlice()}}
			c, err := d.Dial("tcp", l.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(10 * time.Second))
			sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
			go func() { _, _ = c.Write(sent) }()
			got := make([]byte, size)
			if _, err := io.ReadFull(c, got); err != nil {
				return err
			}
			if !bytes.Equal(got, sent) {
				return fmt.Errorf("other bytes came back than were sent")
			}
			return nil
		})
	})
}

// runtimesLab is two hosts with a container of each runtime on each, which stay: one by Docker's driver, one of Docker's
// that the file declares, one by `ctr run --cni`, and a namespace that the file declares.
func runtimesLab(t *testing.T, mode string) (*twoHosts, []*docker.Host, [][]tenant) {
	l, hosts := newDockerLab(t, func(file string) string {
		return strings.Replace(file, `"vxlan"`, `"`+mode+`"`, 1) + `
workload "declared-0" {
  node    = "baihl-master"
  address = "10.10.40.135"
  docker  = "declared-0"
}
workload "declared-1" {
  node    = "baihl-node"
  address = "10.10.194.135"
  docker  = "declared-1"
}
workload "passing" {
  node    = "baihl-node"
  address = "10.10.194.136"
  docker  = "passing"
}
`
	})
	var stay [][]tenant
	for i, d := range hosts {
		h := l.hosts[i]
		h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
		h.installCNI(d.Host)
		plain := []string{"nginx-master", "nginx-node"}[i]
		d.Run("ip", "netns", "add", plain)
		h.start()
		h.must(0, "docker", "install")
		of := func(pid string) *netns.NS { return netns.Open("/proc/" + pid + "/ns/net") }
		dockers := func(name, network string) *netns.NS {
			d.Docker("run", "-d", "--network", network, "--name", name, docker.Image, "/bin/sleep", "1000")
			return of(d.Docker("inspect", "-f", "{{.State.Pid}}", name))
		}
		id := fmt.Sprint("task-", i)
		d.Run("ctr", "run", "-d", "--cni", "--snapshotter", "native", containerd.Image, id, "/bin/sleep", "1000")
		tasks := strings.Fields(d.Run("ctr", "task", "ls"))
		var pid string
		for j, f := range tasks[:len(tasks)-1] {
			if f == id {
				pid = tasks[j+1]
			}
		}
		here := []tenant{
			{runtime: "the Docker driver", ns: dockers(fmt.Sprint("driver-", i), "lab")},
			{runtime: "docker = of the file", ns: dockers(fmt.Sprint("declared-", i), "none")},
			{runtime: "ctr --cni", ns: of(pid)},
			{runtime: "a plain namespace", ns: d.Namespace("/run/netns/" + plain)},
		}
		for j := range here {
			x := &here[j]
			l.wait(x.runtime+" has an address", func() string {
				out, err := x.ns.Output("ip", "-o", "-4", "addr", "show", "dev", "eth0")
				_, after, ok := strings.Cut(out, "inet ")
				if err != nil || !ok {
					return fmt.Sprint(out, err)
				}
				x.addr = netip.MustParsePrefix(strings.Fields(after)[0]).Addr()
				return ""
			})
		}
		stay = append(stay, here)
	}
	l.settled()
	return l, hosts, stay
}

// allPairs has each tenant of a host ping each of the other's, and TCP begun by either.
func (l *twoHosts) allPairs(stay [][]tenant) {
	l.t.Helper()
	for _, a := range stay[0] {
		for _, b := range stay[1] {
			for _, way := range [][2]tenant{{a, b}, {b, a}} {
				if out, err := way[0].ns.Output("ping", "-c2", "-i0.02", "-W5", way[1].addr.String()); err != nil {
					l.t.Errorf("%s pings %s: %v: %s", way[0].runtime, way[1].runtime, err, out)
				}
				if err := way[0].exchanges(way[1]); err != nil {
					l.t.Errorf("TCP from %s to %s: %v", way[0].runtime, way[1].runtime, err)
				}
			}
		}
	}
}

// churn starts containers of every runtime on both hosts and ends them, and returns how many: by hand of CNI most, since a
// Docker takes a second for each.
func (l *twoHosts) churn(hosts []*docker.Host, stay [][]tenant, each int) int {
	var wait sync.WaitGroup
	var mu sync.Mutex
	done := 0
	// times runs a step again and again on its own goroutine; the step ends with a container that came and went.
	times := func(n int, what string, step func(i int) (string, error)) {
		wait.Go(func() {
			for i := range n {
				if out, err := step(i); err != nil {
					l.t.Errorf("%s, number %d: %v: %s", what, i, err, out)
					return
				}
				mu.Lock()
				done++
				mu.Unlock()
			}
		})
	}
	for i, d := range hosts {
		far := stay[1-i][0].addr.String()
		run := func(args ...string) (string, error) { return d.Output(args...) }
		times(each/12, "docker run --network lab -p", func(int) (string, error) {
			return run(docker.CLI, "run", "--rm", "--network", "lab", "-p", "8080:80", "-p", "8080:80/udp", docker.Image, "/bin/ping", "-c1", "-W10", far)
		})
		times(each/12, "ctr run --cni", func(n int) (string, error) {
			return run("ctr", "run", "--rm", "--cni", "--snapshotter", "native", containerd.Image, fmt.Sprintf("brief-%d-%d", i, n), "/bin/ping", "-c1", "-W10", far)
		})
		if i == 1 {
			times(each/24, "docker = of the file", func(int) (string, error) {
				return run(docker.CLI, "run", "--rm", "--network", "none", "--name", "passing", docker.Image, "/bin/sh", "-c",
					"until ping -c1 -W1 "+far+"; do sleep 0.1; done")
			})
		}
		for worker := range 2 {
			left := (each - 2*(each/12) - i*(each/24) + worker) / 2
			times(left, "CNI ADD and DEL", func(n int) (string, error) {
				name := fmt.Sprintf("brief-%d-%d", worker, n)
				call := func(command string) (string, error) {
					c := l.hosts[i].cniCommand(pluginCall{command: command, id: name, netns: "/run/netns/" + name})
					cmd := d.Command("/opt/cni/bin/netd-cni")
					cmd.Env, cmd.Stdin = c.Env, c.Stdin
					return l.hosts[i].outputOf(cmd)
				}
				steps := []func() (string, error){
					func() (string, error) { return run("ip", "netns", "add", name) },
					func() (string, error) { return call("ADD") },
					func() (string, error) { return run("ip", "netns", "exec", name, "ping", "-c1", "-W10", far) },
					func() (string, error) { return call("DEL") },
					func() (string, error) { return run("ip", "netns", "del", name) },
				}
				for _, step := range steps {
					if out, err := step(); err != nil {
						return out, err
					}
				}
				return "", nil
			})
		}
	}
	wait.Wait()
	return done
}

// outputOf runs a command on the host, from any goroutine.
func (h *labHost) outputOf(cmd *exec.Cmd) (string, error) {
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// TestChurn has containers of all runtimes on two hosts reach each other, every one every other and over TCP both ways; then
// 200 containers come and go, each of which reaches the other host, while a stream of a thousand packets a second runs each
// way between two that stay. Not one packet of it is lost.
func TestChurn(t *testing.T) {
	for _, mode := range []string{"vxlan", "bgp"} {
		t.Run(mode, func(t *testing.T) {
			l, hosts, stay := runtimesLab(t, mode)
			l.allPairs(stay)
			each := 100 // on each host
			if mode == "bgp" {
				each = 24 // what is asked of the mode is whether the routes bear it
			}
			there := stream.Start(t, stay[0][0].ns, stay[0][0].addr, stay[1][2].ns, stay[1][2].addr, time.Millisecond)
			back := stream.Start(t, stay[1][3].ns, stay[1][3].addr, stay[0][1].ns, stay[0][1].addr, time.Millisecond)
			there.Flowing(t)
			back.Flowing(t)
			began := time.Now()
			if n := l.churn(hosts, stay, each); n != 2*each {
				t.Errorf("%d of %d containers came and went", n, 2*each)
			}
			took := time.Since(began)
			for _, s := range []*stream.Stream{there, back} {
				r := s.Stop()
				t.Logf("%d containers in %v: %s", 2*each, took.Round(time.Millisecond), r)
				if r.Lost+r.Refused > 0 || r.Sent < 500 {
					t.Errorf("the stream: %s", r)
				}
			}
			l.allPairs(stay)
			for i, h := range l.hosts {
				h.taken(fmt.Sprintf("1 by cni, 1 by docker, %d by file", 2+i)) // those that stay, and what the file keeps for one
				if out := h.Run(t, "nft list ruleset"); strings.Contains(out, "publish") {
					t.Errorf("%s publishes:\n%s", h.Name, out)
				}
				if out := strings.Count(h.Run(t, "ip -o link show group 142 type veth"), "\n"); out != 4 {
					t.Errorf("%s has %d veth:\n%s", h.Name, out, h.Run(t, "ip -o link show group 142"))
				}
			}
		})
	}
}
