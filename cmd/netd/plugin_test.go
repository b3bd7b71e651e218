package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"netd/testenv/docker"
)

// newPluginLab is two hosts with a dockerd each and netd as its plugin. The file's network has a reserved address.
func newPluginLab(t *testing.T, mode string, args ...string) (*twoHosts, []*docker.Host) {
	l, hosts := newDockerLab(t, func(file string) string {
		if mode == "vxlan6" {
			return strings.NewReplacer(`"10.10.0.0/16"`, `"10.10.0.0/16", "fd00:10::/48"`, `"10.10.40.128/26"`, `"10.10.40.128/26", "fd00:10:0:1::/64"`,
				`"10.10.194.128/26"`, `"10.10.194.128/26", "fd00:10:0:2::/64"`).Replace(file)
		}
		return strings.Replace(file, `"vxlan"`, `"`+mode+`"`+"\n  reserved = [\"10.10.40.131\"]", 1)
	}, args...)
	for _, h := range l.hosts {
		h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
		h.start()
	}
	for _, h := range l.hosts {
		if out := h.must(0, "docker", "install"); out != "lab\n" {
			t.Errorf("docker install: %s", out)
		}
	}
	return l, hosts
}

// runs starts a container that sleeps, and returns its address in a network as Docker tells it.
func runs(t *testing.T, d *docker.Host, name, network string, more ...string) string {
	t.Helper()
	d.Docker(append(append([]string{"run", "-d", "--network", network, "--name", name}, more...), docker.Image, "/bin/sleep", "1000")...)
	return addressIn(t, d, name, network)
}

// addressIn is a container's address in a network as Docker tells it.
func addressIn(t *testing.T, d *docker.Host, container, network string) string {
	t.Helper()
	var out struct {
		IPAddress, Gateway string
		IPPrefixLen        int
	}
	text := d.Docker("inspect", "-f", `{{json (index .NetworkSettings.Networks "`+network+`")}}`, container)
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if out.IPPrefixLen != 32 && network != "bridge" {
		t.Errorf("%s: inspect tells %s", container, text)
	}
	return out.IPAddress
}

// refusedBy runs docker, which has to fail with these words.
func refusedBy(t *testing.T, d *docker.Host, words string, args ...string) {
	t.Helper()
	if out, err := d.TryDocker(args...); err == nil || !strings.Contains(out, words) {
		t.Errorf("docker %s: %v: %s\nwant %q", strings.Join(args, " "), err, out, words)
	}
}

// taken waits until this many addresses of a host's block are taken by Docker, none where it is not named, and nothing is to be done.
func (h *labHost) taken(by string) {
	h.lab.t.Helper()
	h.lab.wait(h.Name+": "+by, func() string {
		out, _ := h.netd("show", "blocks")
		if !strings.Contains(out, by) || !strings.Contains(by, "by docker") && strings.Contains(out, "by docker") {
			return out
		}
		return ""
	})
	h.inSync()
}

// streams sends bytes from a container to an address, where a container listens.
func (l *twoHosts) streams(from *docker.Host, client string, to *docker.Host, server, addr string) {
	l.t.Helper()
	to.Docker("exec", "-d", server, "sh", "-c", "nc -l -p 8080 >/got")
	const text = "0123456789abcdef"
	l.wait("the stream from "+client, func() string {
		if out, err := from.TryDocker("exec", client, "sh", "-c", "echo "+text+" | nc -w 1 "+addr+" 8080"); err != nil {
			return out
		}
		if out, err := to.TryDocker("exec", server, "cat", "/got"); err != nil || !strings.Contains(out, text) {
			return out
		}
		return ""
	})
}

// TestDockerPlugin has Docker on two hosts run containers on netd's network: what they reach, what Docker and netd tell of them,
// what is refused, and that nothing of them stays.
func TestDockerPlugin(t *testing.T) {
	for _, mode := range []string{"vxlan", "bgp"} {
		t.Run(mode, func(t *testing.T) {
			l, hosts := newPluginLab(t, mode)
			d := hosts[0]
			a, b := runs(t, d, "web-0", "lab"), runs(t, hosts[1], "web-1", "lab")
			if a != "10.10.40.130" || b != "10.10.194.129" { // after the tunnel's, and the declared one
				t.Errorf("addresses %s, %s", a, b)
			}
			l.reaches(d, "web-0", b)
			l.reaches(hosts[1], "web-1", a)
			l.streams(d, "web-0", hosts[1], "web-1", b)
			l.streams(hosts[1], "web-1", d, "web-0", a)
			for _, h := range l.hosts {
				h.taken("1 by docker")
			}
			if mode == "vxlan" {
				l.dockerCases(d, l.hosts[0])
			}
			for i, d := range hosts {
				d.Docker("rm", "-f", fmt.Sprint("web-", i))
				l.hosts[i].taken("1 by file (1 pending)") // and none by docker
				if out := l.hosts[i].Run(t, "ip -br link show group 142 type veth"); out != "" {
					t.Errorf("links stay:\n%s", out)
				}
				d.Docker("network", "rm", "lab")
			}
		})
	}
}

// dockerCases is what need not be asked in each mode. web-0 runs.
func (l *twoHosts) dockerCases(d *docker.Host, h *labHost) {
	t := l.t
	// The network is there before the first instruction.
	if out := d.Docker("run", "--rm", "--network", "lab", docker.Image, "/bin/ip", "route"); !strings.Contains(out, "default via 169.254.1.1 dev eth0") {
		t.Errorf("the first process finds:\n%s", out)
	}
	// An address of one's choice, and Docker's names.
	if got := runs(t, d, "db", "lab", "--ip", "10.10.40.150"); got != "10.10.40.150" {
		t.Errorf("--ip gives %s", got)
	}
	l.reaches(d, "web-0", "db")
	told := d.Docker("inspect", "-f", "{{with .NetworkSettings.Networks.lab}}{{.MacAddress}} default via {{.Gateway}} dev{{end}}", "db")
	mac, gateway, _ := strings.Cut(told, " ")
	if is := d.Docker("exec", "db", "ip", "-o", "link", "show", "dev", "eth0") + d.Docker("exec", "db", "ip", "route"); !strings.Contains(is, mac) || !strings.Contains(is, gateway) {
		t.Errorf("inspect tells %s, and it has\n%s", told, is)
	}
	l.wait("netd knows names", func() string {
		if out, _ := h.netd("show", "workloads"); !strings.Contains(out, "\ndb ") || !strings.Contains(out, "\nweb-0 ") {
			return out
		}
		return ""
	})
	if out, id := h.must(0, "show", "workloads"), d.Docker("ps", "-q", "-f", "name=db"); len(id) != 12 || !strings.Contains(out, " "+id+" ") {
		t.Errorf("the id of docker ps is %s:\n%s", id, out)
	}
	for _, x := range []struct{ words, args string }{
		{"10.10.40.150 is db (docker/", "run --rm --network lab --ip 10.10.40.150"},
		{"10.10.40.128 is the tunnel's", "run --rm --network lab --ip 10.10.40.128"},
		{"10.10.194.140 is in no block of node \"baihl-master\"", "run --rm --network lab --ip 10.10.194.140"},
		{"say which port of the host leads to 80/tcp", "run --rm --network lab -p 80"},
		{"netd publishes tcp and udp", "run --rm --network lab -p 80:80/sctp"},
		{"publish at 127.0.0.1", "run --rm --network lab -p [::1]:80:80"},
		{`"00:00:00:00:00:00" is no MAC address that a link can have`, "run --rm --network lab --mac-address 00:00:00:00:00:00"},
	} {
		refusedBy(t, d, x.words, append(strings.Fields(x.args), docker.Image, "/bin/sleep", "0")...)
	}
	for _, x := range []struct{ words, args string }{
		{"10.11.0.0/16 is in no pool of the file", "--ipam-driver netd --subnet 10.11.0.0/16"},
		{"holds no address of node", "--ipam-driver netd --subnet 10.10.194.128/26"},
		{"add --ipam-driver netd", ""},
		{"-o mtu: netd knows network=NAME alone", "--ipam-driver netd -o mtu=1400"},
		{"the addresses are those of network \"lab\"", "--ipam-driver netd -o network=other"},
		{"no network \"other\"", "--ipam-driver netd --ipam-opt network=other"},
		{"--ip-range: give one", "--ipam-driver netd --subnet 10.10.0.0/16 --ip-range 10.10.40.128/27"},
		{"--gateway: the gateway is 169.254.1.1", "--ipam-driver netd --subnet 10.10.0.0/16 --gateway 10.10.40.129"},
		{"--aux-address: name", "--ipam-driver netd --subnet 10.10.0.0/16 --aux-address a=10.10.40.160"},
		{"--internal: netd's networks are routed", "--ipam-driver netd --internal"},
		{`--ipv6: node "baihl-master" has no IPv6 block in network "lab": add one to its blocks`, "--ipam-driver netd --subnet 10.10.0.0/16 --ipv6"},
	} {
		refusedBy(t, d, x.words, append(append([]string{"network", "create", "-d", "netd"}, strings.Fields(x.args)...), "refused")...)
	}
	// Installed again, nothing changes; what is there and is another network is not touched.
	id := d.Docker("network", "inspect", "-f", "{{.Id}}", "lab")
	h.must(0, "docker", "install")
	if again := d.Docker("network", "inspect", "-f", "{{.Id}}", "lab"); again != id {
		t.Errorf("installing again made another network")
	}
	if out := h.must(exitFailed, "docker", "install", "--name", "bridge"); !strings.Contains(out, `Docker has a network "bridge" of its own: choose another name`) {
		t.Error(out)
	}
	d.Docker("network", "create", "passing")
	begins := d.Docker("network", "inspect", "-f", "{{.Id}}", "passing")[:3] // which Docker takes for that one
	h.must(0, "docker", "install", "--name", begins)
	d.Docker("network", "rm", begins)
	if out := h.must(exitFailed, "docker", "install", "--name", "passing"); !strings.Contains(out, `Docker has a network "passing" already, of the driver bridge: docker network rm passing`) {
		t.Error(out)
	}
	d.Docker("network", "rm", "passing")
	d.Docker("network", "create", "-d", "netd", "--ipam-driver", "netd", "--subnet", "10.10.40.128/26", "part")
	if out := h.must(exitFailed, "docker", "install", "--name", "part"); !strings.Contains(out, "with the subnets 10.10.40.128/26 where the file has 10.10.0.0/16") {
		t.Error(out)
	}
	d.Docker("network", "rm", "part")
	// Without a subnet, with the name of the file's network, and with a block of this node's alone.
	d.Docker("network", "create", "-d", "netd", "--ipam-driver", "netd", "-o", "network=lab", "plain")
	if got := runs(t, d, "plain", "plain"); got != "10.10.40.133" { // 131 is reserved, 132 was had before
		t.Errorf("without a subnet: %s", got)
	}
	d.Docker("rm", "-f", "plain")
	d.Docker("network", "rm", "plain")

	// What others change comes back: a route in the container, the whole wire.
	d.Run("nsenter", "--net="+d.Docker("inspect", "-f", "{{.NetworkSettings.SandboxKey}}", "db"), "ip", "route", "del", "default")
	l.reaches(d, "db", "10.10.194.129")
	link := strings.Fields(h.Run(t, "ip -o route show 10.10.40.150"))[2]
	h.Run(t, "ip link del "+link)
	l.reaches(d, "db", "10.10.194.129")
	l.reaches(d, "web-0", "db")
	h.taken("2 by docker")

	// Beside a bridge of Docker's, whichever comes first. The container is reached by both, and keeps one default route.
	runs(t, d, "two", "bridge")
	d.Docker("network", "connect", "--ip", "10.10.40.160", "lab", "two")
	l.reaches(d, "web-0", "10.10.40.160")
	l.reaches(d, "two", "10.10.194.129")
	h.taken("3 by docker")
	d.Docker("network", "disconnect", "bridge", "two")
	l.reaches(d, "two", "10.10.194.129")
	h.taken("3 by docker")
	d.Docker("network", "connect", "bridge", "two")
	l.reaches(d, "two", addressIn(t, d, "two", "bridge"))
	l.reaches(d, "two", "10.10.194.129")
	h.taken("3 by docker")
	d.Docker("network", "disconnect", "lab", "two")
	h.taken("2 by docker")
	d.Docker("rm", "-f", "two")

	// Compose, with a network of its own making.
	file := filepath.Join(d.Dir(), "compose.yaml")
	if err := os.WriteFile(file, []byte(composed), 0o644); err != nil {
		t.Fatal(err)
	}
	compose := func(args ...string) { d.Run(append([]string{"docker-compose", "-f", file, "-p", "shop"}, args...)...) }
	compose("up", "-d")
	l.reaches(d, "shop_front_1", "store")
	l.reaches(d, "shop_front_1", "10.10.194.129")
	l.reaches(d, "web-0", "10.10.40.151")
	h.taken("4 by docker")
	compose("restart", "-t", "0", "store")
	l.reaches(d, "shop_front_1", "10.10.40.151")
	compose("down", "-t", "0")
	h.taken("2 by docker")

	// Stopped and started: what was asked for comes back, and nothing of the first time stays.
	d.Docker("restart", "-t", "0", "db")
	if got := addressIn(t, d, "db", "lab"); got != "10.10.40.150" {
		t.Errorf("after a restart: %s", got)
	}
	l.reaches(d, "db", "10.10.194.129")
	h.taken("2 by docker")

	// After destroy the containers are there without a network, and Docker is told why it gets none; apply attaches them again.
	h.must(0, "destroy", "-y")
	refusedBy(t, d, "netd rests since netd destroy; netd apply ends that\n", "network", "create", "-d", "netd", "--ipam-driver", "netd", "--subnet", "10.10.0.0/16", "refused")
	refusedBy(t, d, "netd rests since netd destroy", "run", "--rm", "--network", "lab", docker.Image, "/bin/sleep", "0")
	h.must(0, "apply", "-y")
	l.reaches(d, "db", "10.10.194.129")
	l.reaches(d, "web-0", "db")
	h.taken("2 by docker")
	d.Docker("rm", "-f", "db")
}

const composed = `services:
  front:
    image: ` + docker.Image + `
    command: /bin/sleep 1000
    networks: [backend]
  store:
    image: ` + docker.Image + `
    command: /bin/sleep 1000
    networks:
      backend:
        ipv4_address: 10.10.40.151
networks:
  backend:
    driver: netd
    ipam:
      driver: netd
      config:
        - subnet: 10.10.0.0/16
version: "3.5"
`

// TestDockerPluginIPv6 gives containers of Docker an address of either family.
func TestDockerPluginIPv6(t *testing.T) {
	l, hosts := newPluginLab(t, "vxlan6")
	for i, d := range hosts {
		runs(t, d, fmt.Sprint("web-", i), "lab")
	}
	for i, d := range hosts {
		v6 := hosts[1-i].Docker("inspect", "-f", "{{.NetworkSettings.Networks.lab.GlobalIPv6Address}}", fmt.Sprint("web-", 1-i))
		if !strings.HasPrefix(v6, "fd00:10:") {
			t.Errorf("inspect tells the IPv6 address %q", v6)
		}
		l.reaches(d, fmt.Sprint("web-", i), v6)
		l.reaches(d, fmt.Sprint("web-", i), addressIn(t, hosts[1-i], fmt.Sprint("web-", 1-i), "lab"))
		l.hosts[i].taken("1 by docker")
	}

	// Whose pools are left out has both families all the same.
	hosts[0].Docker("network", "create", "-d", "netd", "--ipam-driver", "netd", "--ipv6", "plain")
	if out := hosts[0].Docker("run", "--rm", "--network", "plain", docker.Image, "/bin/ip", "addr", "show", "dev", "eth0"); !strings.Contains(out, "inet 10.10.40.") || !strings.Contains(out, "inet6 fd00:10:0:1:") {
		t.Errorf("of a network without subnets:\n%s", out)
	}
	hosts[0].Docker("network", "rm", "plain")

	// A published port is one of both families, unless it says of which; the other's is another container's, if it likes.
	link := strings.Fields(l.hosts[0].Run(t, "ip -o -4 addr show to 192.168.170.137"))[1]
	for i, h := range l.hosts {
		h.Run(t, fmt.Sprintf("ip addr add 2001:db8::%d/64 dev %s nodad", 1+i, link))
	}
	serve := func(name string, ports ...string) {
		t.Helper()
		hosts[0].Docker(append(append([]string{"run", "-d", "--network", "lab", "--name", name}, ports...), docker.Image, "/bin/sh", "-c", "echo "+name+" >/index.html; httpd -f -p 80 -h /")...)
	}
	serve("six", "-p", "8080:80", "-p", "[2001:db8::1]:8081:80", "-p", "[::]:8082:80", "-p", "0.0.0.0:8083:80")
	serve("four", "-p", "0.0.0.0:8082:80")
	refusedBy(t, hosts[0], "port 8082/tcp of this host is published for ", "run", "--rm", "--network", "lab", "-p", "8082:80", docker.Image, "/bin/sleep", "0")
	asked := func(to string) (string, error) {
		return l.hosts[1].Output("wget", "-q", "-T", "1", "-t", "1", "-O", "-", "http://"+to+"/")
	}
	for to, name := range map[string]string{"[2001:db8::1]:8080": "six", "192.168.170.137:8080": "six", "[2001:db8::1]:8081": "six", "[2001:db8::1]:8082": "six",
		"192.168.170.137:8082": "four", "192.168.170.137:8083": "six"} {
		l.wait(to, func() string {
			if out, err := asked(to); err != nil || out != name+"\n" {
				return fmt.Sprint(out, err)
			}
			return ""
		})
	}
	if out := hosts[0].Docker("exec", "six", "sh", "-c", "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 2001:db8::1 8080"); !strings.Contains(out, "six") {
		t.Errorf("the container by its own port: %q", out)
	}
	if out, err := asked("[2001:db8::1]:8083"); err == nil {
		t.Errorf("published at 0.0.0.0, and IPv6 gets %s", out)
	}
	l.hosts[0].inSync()
	l.hosts[0].stop(syscall.SIGTERM)
	l.hosts[0].restored()
}
