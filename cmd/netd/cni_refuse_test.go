package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestCNIRefused gives the plugin what it must not take, with a daemon and without one: each is an error of the
// specification's code that names what is wrong, and nothing of it is on the host afterwards.
func TestCNIRefused(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	box, other := netns.New(t, "box"), netns.New(t, "other")
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 600)
	good := pluginCall{command: "ADD", id: "c1", netns: box.Path()}
	with := func(change func(*pluginCall)) pluginCall {
		c := good
		change(&c)
		return c
	}
	conf := func(key string, value any) pluginCall {
		return with(func(c *pluginCall) { c.conf = map[string]any{key: value} })
	}
	kept := h.add(pluginCall{id: "kept", netns: other.Path()})
	cases := []struct {
		code int
		says string
		c    pluginCall
	}{
		{4, "CNI_CONTAINERID is missing", with(func(c *pluginCall) { c.id = "" })},
		{4, `the CNI_CONTAINERID "../../etc/passwd" has a '.' at place 1`, with(func(c *pluginCall) { c.id = "../../etc/passwd" })},
		{4, `has a '/' at place 3`, with(func(c *pluginCall) { c.id = "c1/../x" })},
		{4, "CNI_CONTAINERID", with(func(c *pluginCall) { c.id = "контейнер" })},
		{4, "600 bytes", with(func(c *pluginCall) { c.id = long })},
		{4, "CNI_NETNS is missing", with(func(c *pluginCall) { c.netns = "" })},
		{4, "CNI_IFNAME", with(func(c *pluginCall) { c.ifname = "sixteencharacters" })},
		{4, "CNI_IFNAME", with(func(c *pluginCall) { c.ifname = "a/b" })},
		{4, "CNI_IFNAME", with(func(c *pluginCall) { c.ifname = ".." })},
		{4, "CNI_COMMAND", with(func(c *pluginCall) { c.command = "REMOVE" })},
		{4, "netd knows no COLOUR", with(func(c *pluginCall) { c.args = "COLOUR=red" })},
		{4, "no KEY=VALUE", with(func(c *pluginCall) { c.args = "IgnoreUnknown" })},
		{4, `"10.10.40" is no address`, with(func(c *pluginCall) { c.args = "IP=10.10.40" })},
		{4, "MAC", with(func(c *pluginCall) { c.args = "MAC=02:00" })},
		{7, `log_level "loud" is none of debug, info`, conf("log_level", "loud")},
		{8, "no such file", with(func(c *pluginCall) { c.netns = "/run/netns/nowhere" })},
		{8, "is no network namespace", with(func(c *pluginCall) { c.netns = file })},
		{8, "another kind", with(func(c *pluginCall) { c.netns = "/proc/self/ns/mnt" })},
		{8, "the host's own", with(func(c *pluginCall) { c.netns = h.Path() })},
		{6, "reading the configuration", with(func(c *pluginCall) { c.raw = `{"cniVersion": ` })},
		{6, "1048576 bytes", with(func(c *pluginCall) { c.raw = strings.Repeat(" ", 1<<20+1) })},
		{1, `cniVersion "0.2.0"`, with(func(c *pluginCall) { c.version = "0.2.0" })},
		{1, `cniVersion "9.9.9"`, with(func(c *pluginCall) { c.version = "9.9.9" })},
		{1, "GC needs a configuration of cniVersion 1.1.0", with(func(c *pluginCall) { c.command, c.version = "GC", "1.0.0" })},
		{1, "CHECK needs a configuration of cniVersion 0.4.0", with(func(c *pluginCall) { c.command, c.version = "CHECK", "0.3.1" })},
		{7, "has no name", conf("name", "")},
		{7, `no network "lib"`, conf("network", "lib")},
		{7, "first plugin", conf("prevResult", map[string]any{})},
		{7, "the MTU 100", conf("mtu", 100)},
		{7, "in no block", conf("runtimeConfig", map[string]any{"ips": []string{"10.99.0.1/32"}})},
		{7, "is the tunnel's", conf("runtimeConfig", map[string]any{"ips": []string{"10.10.40.128"}})},
		{7, "is file/nginx-master's", conf("runtimeConfig", map[string]any{"ips": []string{"10.10.40.129"}})},
		{7, "is cni/kept/eth0's", conf("runtimeConfig", map[string]any{"ips": []string{h.address(kept)}})},
		{7, "multicast", conf("runtimeConfig", map[string]any{"mac": "01:00:00:00:00:01"})},
		{7, "00:00:00:00:00:00", conf("runtimeConfig", map[string]any{"mac": "00:00:00:00:00:00"})},
		{4, "00:00:00:00:00:00", with(func(c *pluginCall) { c.args = "MAC=00:00:00:00:00:00" })},
		{7, "ee:ee:ee:ee:ee:ee is the gateway's", conf("runtimeConfig", map[string]any{"mac": "ee:ee:ee:ee:ee:ee"})},
		{7, "eth0 of this namespace is cni/kept/eth0's", with(func(c *pluginCall) { c.netns = other.Path() })},
		{7, `in network "lab" already, by eth0 of cni/kept/eth0`, with(func(c *pluginCall) { c.netns, c.ifname = other.Path(), "eth1" })},
		{7, "CHECK needs the prevResult", with(func(c *pluginCall) { c.command = "CHECK" })},
		{3, "not attached", with(func(c *pluginCall) { c.command, c.conf = "CHECK", map[string]any{"prevResult": kept.raw} })},
	}
	for _, daemon := range []string{"with a daemon", "without one"} {
		for _, x := range cases {
			if says := h.refused(x.code, x.c); !strings.Contains(says, x.says) {
				t.Errorf("%s, %s: it says %q, want %q", daemon, x.says, says, x.says)
			}
		}
		if out := box.Run(t, "ip -o link"); strings.Contains(out, "eth0") {
			t.Errorf("%s: an interface in the container:\n%s", daemon, out)
		}
		h.inSync()
		h.stop(15)
	}
	h.del(pluginCall{id: "kept"})

	// A foreign interface in the container stays as it is, and its place is not taken.
	box.Run(t, "ip link add eth0 type veth peer name far")
	if says := h.refused(999, good); !strings.Contains(says, "eth0 exists already") {
		t.Errorf("a foreign eth0: %q", says)
	}
	if out := box.Run(t, "ip -o link show eth0"); !strings.Contains(out, "far") {
		t.Errorf("the foreign eth0: %s", out)
	}
	h.must(0, "plan", "--detailed-exitcode")
}

// TestCNISpec goes through what the specification and runtimes have besides: each version's result, VERSION, the bare
// binary, STATUS, GC, capabilities and arguments, CHECK after a reboot.
func TestCNISpec(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	box := netns.New(t, "box")

	bare := h.cniCommand(pluginCall{})
	out, err := bare.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "CNI netd plugin unknown") {
		t.Errorf("bare: %v: %s", err, out)
	}
	if out, code := h.cni(pluginCall{command: "VERSION"}); code != 0 || !strings.Contains(out, `"supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]`) {
		t.Errorf("VERSION: %d, %s", code, out)
	}
	if out, code := h.cni(pluginCall{command: "STATUS"}); code != 0 || out != "" {
		t.Errorf("STATUS: %d, %s", code, out)
	}

	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		c := pluginCall{id: "c1", netns: box.Path(), version: version}
		a := h.add(c)
		if a.CNIVersion != version || a.IPs[0].Address != "10.10.40.130/32" || a.IPs[0].Gateway != "169.254.1.1" {
			t.Errorf("%s: %+v", version, a)
		}
		if old := version < "1"; old != (a.raw["ips"].([]any)[0].(map[string]any)["version"] == "4") {
			t.Errorf("%s: %v", version, a.raw)
		}
		h.del(c)
	}

	want := pluginCall{id: "c2", netns: box.Path(), conf: map[string]any{"mtu": 1400, "runtimeConfig": map[string]any{"ips": []string{"10.10.40.150/24"}, "mac": "02:11:22:33:44:55"}},
		args: "IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.10.40.150"}
	if a := h.add(want); h.address(a) != "10.10.40.150" || a.Interfaces[1].Mac != "02:11:22:33:44:55" {
		t.Errorf("capabilities: %+v", a)
	}
	if out := box.Run(t, "ip link show eth0"); !strings.Contains(out, "mtu 1400") || !strings.Contains(out, "02:11:22:33:44:55") {
		t.Errorf("the interface:\n%s", out)
	}

	// Two whose ids differ only where no name of a link reaches are two, with names of people's scripts.
	for i, end := range []string{"a", "b"} {
		ns := netns.New(t, "alike"+end)
		alike := pluginCall{id: strings.Repeat("0123456789abcdef", 4)[:63] + end, netns: ns.Path(), args: "IgnoreUnknown=1;K8S_POD_NAME=контейнер-" + end}
		if a := h.add(alike); h.address(a) != fmt.Sprintf("10.10.40.13%d", 1+i) || a.Interfaces[0].Name != linkOf(alike.id) {
			t.Errorf("%s: %+v", alike.id, a)
		}
		h.Run(t, fmt.Sprintf("ping -c1 -w20 10.10.40.13%d", 1+i))
		if out := h.must(0, "show", "workloads"); !strings.Contains(out, "контейнер-"+end) {
			t.Errorf("show workloads:\n%s", out)
		}
		defer h.del(alike)
	}

	// GC takes what the runtime does not know any more, of this network alone.
	third, fourth := netns.New(t, "third"), netns.New(t, "fourth")
	h.add(pluginCall{id: "c3", netns: third.Path()})
	h.add(pluginCall{id: "c4", netns: fourth.Path(), conf: map[string]any{"name": "another"}})
	if out, code := h.cni(pluginCall{command: "GC", conf: map[string]any{"cni.dev/valid-attachments": []map[string]string{{"containerID": "c2", "ifname": "eth0"}}}}); code != 0 {
		t.Errorf("GC: %s", out)
	}
	l.wait("what GC took, and no more", func() string { // the answer does not wait for the kernel
		out, _ := h.Output("ip", "-o", "link")
		for id, there := range map[string]bool{"c2": true, "c3": false, "c4": true} {
			if strings.Contains(out, linkOf(id)) != there {
				return out
			}
		}
		return ""
	})

	// A reboot: the namespace is another one, which CHECK says and ADD takes, with the address of before.
	prev, err := json.Marshal(h.add(want).raw)
	if err != nil {
		t.Fatal(err)
	}
	var prevResult map[string]any
	if err := json.Unmarshal(prev, &prevResult); err != nil {
		t.Fatal(err)
	}
	check := pluginCall{command: "CHECK", id: "c2", netns: box.Path(), conf: map[string]any{"prevResult": prevResult}}
	if out, code := h.cni(check); code != 0 {
		t.Errorf("CHECK: %s", out)
	}
	if err := box.Remove(); err != nil {
		t.Fatal(err)
	}
	again, err := netns.At(box.Path())
	if err != nil {
		t.Fatal(err)
	}
	if says := h.refused(3, check); !strings.Contains(says, "another network namespace") {
		t.Errorf("CHECK after a reboot: %q", says)
	}
	if a := h.add(want); h.address(a) != "10.10.40.150" {
		t.Errorf("ADD after a reboot: %+v", a)
	}
	again.Run(t, "ping -c1 -w20 10.10.40.128")
	if out, code := h.cni(check); code != 0 {
		t.Errorf("CHECK after ADD: %s", out)
	}
	h.stop(15) // else it is repaired before anyone looks
	again.Run(t, "ip route del default")
	if says := h.refused(999, check); !strings.Contains(says, "route @cni/c2/eth0/default is missing") {
		t.Errorf("CHECK without a default route: %q", says)
	}
	h.start()
	h.inSync()

	// What is full says so at once.
	h.must(0, "status")
	longest := time.Duration(0) // that one with an address took
	for i, addr := 0, ""; ; i++ {
		ns, err := netns.At("/run/netns/full" + string(rune('a'+i/26)) + string(rune('a'+i%26)))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ns.Remove() })
		c := pluginCall{id: ns.Name, netns: ns.Path(), command: "ADD"}
		began := time.Now()
		out, code := h.cni(c)
		took := time.Since(began)
		if code == 0 {
			longest = max(longest, took)
			if i > 64 {
				t.Fatal("64 addresses are more than 64 containers have")
			}
			addr = out
			continue
		}
		if took > time.Second+3*longest { // its bar of 50 ms is TestFull's: here a process starts
			t.Errorf("to say that nothing is free took %s (after %s)", took, addr)
		}
		if says := h.refused(11, c); !strings.Contains(says, "10.10.40.128/26 has 64 of 64 addresses in use") || !strings.Contains(says, l.file) {
			t.Errorf("full: %q", says)
		}
		if says := h.refused(50, pluginCall{command: "STATUS"}); !strings.Contains(says, "no free IPv4 address") {
			t.Errorf("STATUS when full: %q", says)
		}
		break
	}
}

// TestCNITwoNetworks has a container in two networks: one default route, each network reached by its own link, both from
// another host, and each detached by itself.
func TestCNITwoNetworks(t *testing.T) {
	l := newLab(t, "vxlan")
	text := strings.NewReplacer(`["10.10.40.128/26"]`, `["10.10.40.128/26", "10.20.1.0/24"]`, `["10.10.194.128/26"]`, `["10.10.194.128/26", "10.20.2.0/24"]`).Replace(fmt.Sprintf(walkthrough, "vxlan"))
	text += "\nnetwork \"back\" {\n  pools = [\"10.20.0.0/16\"]\n  mode  = \"vxlan\"\n  vxlan {\n    vni  = 4097\n    port = 4790\n  }\n}\n"
	if err := os.WriteFile(l.file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	h := l.hosts[0]
	box := netns.New(t, "box")
	first := pluginCall{id: "c1", netns: box.Path(), conf: map[string]any{"network": "lab"}}
	second := pluginCall{id: "c1", netns: box.Path(), ifname: "eth1", conf: map[string]any{"network": "back"}}
	if says := h.refused(7, pluginCall{command: "ADD", id: "c1", netns: box.Path()}); !strings.Contains(says, "several networks, lab, back: say which one") {
		t.Errorf("no network named: %q", says)
	}
	a, b := h.address(h.add(first)), h.address(h.add(second))
	if b != "10.20.1.1" {
		t.Errorf("the second address: %s", b)
	}
	if out := box.Run(t, "ip route"); strings.Count(out, "default") != 1 || !strings.Contains(out, "10.20.0.0/16 via 169.254.1.1 dev eth1") {
		t.Errorf("routes of two networks:\n%s", out)
	}
	far := netns.New(t, "far")
	fb := l.hosts[1].address(l.hosts[1].add(pluginCall{id: "f1", netns: far.Path(), conf: map[string]any{"network": "back"}}))
	far.Run(t, "ping -c2 -i0.05 -w20 "+b)
	box.Run(t, "ping -c2 -i0.05 -w20 "+fb)
	l.hosts[1].container.Run(t, "ping -c2 -i0.05 -w20 "+a)
	h.Run(t, "ping -c1 -w20 "+a)
	h.Run(t, "ping -c1 -w20 "+b)
	h.inSync()
	h.del(second)
	h.Run(t, "ping -c1 -w20 "+a)
	h.add(second)
	h.Run(t, "ping -c1 -w20 "+b)
	h.del(first)
	h.Run(t, "ping -c1 -w20 "+b)
	h.inSync()
}

// linkOf is the host's end of a container's eth0.
func linkOf(id string) string { return object.VethName("cni/" + id + "/eth0") }

// TestCNIChain runs the reference plugins behind netd, as a runtime chains them: portmap, bandwidth, firewall, tuning.
func TestCNIChain(t *testing.T) {
	const reference = "/usr/lib/cni"
	if _, err := os.Stat(reference + "/portmap"); err != nil {
		netns.Need(t)
		t.Fatal("needs the reference plugins (Debian's containernetworking-plugins)")
	}
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.start()
	h.Run(t, "sysctl -q -w net.ipv4.ip_forward=1")
	box := netns.New(t, "box")
	c := pluginCall{id: "c1", netns: box.Path(), version: "1.0.0"}
	c1 := h.add(c)
	prev := c1.raw
	l.hosts[1].start()
	l.reach()
	times := func() (took [2]time.Duration) { // of 500 kB from the far container, and to it
		began := time.Now()
		l.transfers(l.hosts[1].container, box, h.address(c1))
		took[0], began = time.Since(began), time.Now()
		l.transfers(box, l.hosts[1].container, "10.10.194.134")
		took[1] = time.Since(began)
		return took
	}
	free := times()
	chain := []map[string]any{
		{"type": "portmap", "snat": true, "runtimeConfig": map[string]any{"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}}}},
		{"type": "bandwidth", "ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000},
		{"type": "firewall", "backend": "iptables"},
		{"type": "tuning", "sysctl": map[string]string{"net.ipv4.conf.IFNAME.arp_filter": "1"}},
	}
	call := func(command string, conf map[string]any) map[string]any {
		t.Helper()
		conf["cniVersion"], conf["name"], conf["prevResult"] = "1.0.0", "lab", prev
		stdin, err := json.Marshal(conf)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(filepath.Join(reference, conf["type"].(string)))
		cmd.Stdin = strings.NewReader(string(stdin))
		cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID=c1", "CNI_NETNS="+box.Path(), "CNI_IFNAME=eth0", "CNI_PATH="+reference)
		var out []byte
		if err := h.Do(func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
			t.Fatalf("%s %s: %v: %s", command, conf["type"], err, out)
		}
		var result map[string]any
		_ = json.Unmarshal(out, &result)
		return result
	}
	for _, conf := range chain {
		prev = call("ADD", conf)
	}
	server := exec.Command("socat", "-u", "TCP-LISTEN:80,reuseaddr", "STDOUT")
	var got strings.Builder
	server.Stdout = &got
	if err := box.Start(server); err != nil {
		t.Fatal(err)
	}
	client := exec.Command("socat", "-u", "STDIN", "TCP:192.168.170.137:8080,retry=1000,interval=0.05")
	client.Stdin = strings.NewReader("through the published port")
	if err := l.hosts[1].Start(client); err != nil {
		t.Fatal(err)
	}
	if err := client.Wait(); err != nil {
		t.Errorf("the client: %v", err)
		_ = server.Process.Kill()
	}
	if err := server.Wait(); err != nil || got.String() != "through the published port" {
		t.Errorf("the server: %v, %q", err, got.String())
	}
	if b, _ := box.Output("cat", "/proc/sys/net/ipv4/conf/eth0/arp_filter"); strings.TrimSpace(b) != "1" {
		t.Errorf("tuning: %q", b)
	}
	h.inSync() // what they made is theirs
	// 500 kB at 1 MB/s, of which 100 kB go at once, either way; before the plugin they took some milliseconds.
	limited := times()
	t.Logf("500 kB take %v to the container and %v from it, and %v before the plugin bandwidth", limited[0], limited[1], free)
	for i, took := range limited {
		if took < 350*time.Millisecond || took > 10*time.Second || took < free[i] {
			t.Errorf("the limit of 1 MB/s: they take %v", took)
		}
	}
	// A wire that somebody takes away comes back as netd's: the limits were not netd's, and come with the next ADD.
	h.Run(t, "ip link del "+linkOf("c1"))
	l.wait("the wire", func() string {
		out, _ := box.Output("ip", "link", "show", "dev", "eth0")
		if !strings.Contains(out, ",UP") {
			return out
		}
		return ""
	})
	h.inSync()
	if out := h.Run(t, "tc qdisc show dev "+linkOf("c1")); strings.Contains(out, "tbf") {
		t.Errorf("a limit on a new wire:\n%s", out)
	}
	c.conf = map[string]any{"prevResult": prev}
	c.command = "CHECK"
	if out, code := h.cni(c); code != 0 {
		t.Errorf("CHECK in the chain: %s", out)
	}
	for i := len(chain) - 1; i >= 0; i-- {
		call("DEL", chain[i])
	}
	h.del(c)
	h.inSync()
}
