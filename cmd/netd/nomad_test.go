package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2/hclsimple"

	"netd/testenv/containerd"
	"netd/testenv/netns"
)

// chained is a list of plugins and who calls it, in the way of libcni.
type chained struct {
	h    *labHost
	c    *containerd.Host
	bin  string
	list struct {
		CNIVersion, Name string
		Plugins          []map[string]any
	}
	mappings []any
	prev     map[string]any // what the last ADD answered
}

// call has the list's plugins do something, in their order, or for DEL in the other: each is given what the one before it answered.
func (x *chained) call(t *testing.T, command string, env ...string) {
	t.Helper()
	plugins := slices.Clone(x.list.Plugins)
	if command == "DEL" {
		slices.Reverse(plugins)
	}
	for _, plugin := range plugins {
		if command == "CHECK" && plugin["type"] == "portmap" {
			continue // Debian's (1.1.1) asks for its IPv6 chain where there is no IPv6 address
		}
		conf := maps.Clone(plugin)
		conf["cniVersion"], conf["name"] = x.list.CNIVersion, x.list.Name
		if x.prev != nil {
			conf["prevResult"] = x.prev
		}
		if able, _ := conf["capabilities"].(map[string]any); able["portMappings"] == true {
			conf["runtimeConfig"] = map[string]any{"portMappings": x.mappings}
		}
		delete(conf, "capabilities")
		stdin, err := json.Marshal(conf)
		if err != nil {
			t.Fatal(err)
		}
		cmd := x.c.Command(filepath.Join(x.bin, plugin["type"].(string)))
		cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "CNI_COMMAND=" + command, "CNI_PATH=" + x.bin}, env...)
		var out bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &out
		if err = x.h.Start(cmd); err == nil {
			err = cmd.Wait()
		}
		if err == nil && command == "ADD" {
			x.prev = nil
			err = json.Unmarshal(out.Bytes(), &x.prev)
		}
		if err != nil {
			t.Fatalf("%s of %s: %v: %s", command, plugin["type"], err, &out)
		}
	}
}

// TestNomadJob runs the job of the page as Nomad's client does (client/allocrunner/networking_cni.go): it finds the list of the job's
// name in cni_config_dir, and calls its plugins in cni_path, with the job's ports as port mappings.
func TestNomadJob(t *testing.T) {
	page, err := os.ReadFile("../../docs/how-to/attach-containers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```nomad\n")
	text, after, _ := strings.Cut(text, "```")
	var job struct {
		Group struct {
			Name    string `hcl:"name,label"`
			Network struct {
				Mode string `hcl:"mode"`
				Port struct {
					Label string `hcl:"label,label"`
					To    int    `hcl:"to"`
				} `hcl:"port,block"`
			} `hcl:"network,block"`
		} `hcl:"group,block"`
	}
	if err := hclsimple.Decode("job.hcl", []byte(text), nil, &job); err != nil {
		t.Fatal(err)
	}
	network := job.Group.Network
	name, ok := strings.CutPrefix(network.Mode, "cni/")
	if !ok || network.Port.To == 0 {
		t.Fatalf("the page's job: %+v", job)
	}
	setting := func(key string) string { // of the client's configuration, as the page has it
		_, value, ok := strings.Cut(after, "`"+key+" = \"")
		if !ok {
			t.Fatalf("the page does not give %s", key)
		}
		value, _, _ = strings.Cut(value, "\"")
		return value
	}
	bin, dir := setting("cni_path"), setting("cni_config_dir")

	l, hosts := newContainerdLab(t)
	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	h, c, far := l.hosts[0], hosts[0], l.hosts[1]
	h.Run(t, "sysctl -qw net.ipv4.ip_forward=1") // as Nomad's page on CNI asks for; portmap stands on it
	files := strings.Fields(c.Run("sh", "-c", "ls "+dir+"/*.conflist"))
	slices.Sort(files)
	x := &chained{h: h, c: c, bin: bin}
	for _, file := range files {
		if json.Unmarshal([]byte(c.Run("cat", file)), &x.list) == nil && x.list.Name == name {
			break
		}
	}
	if x.list.Name != name {
		t.Fatalf("no list %q in %v", name, files)
	}
	const alloc = "5fc98185-17ff-26bc-a802-0c74fa471c99"
	c.Run("ip", "netns", "add", alloc)
	box := c.Namespace("/run/netns/" + alloc)
	const on = 25000 // dynamic ports are 20000 to 32000
	for _, proto := range []string{"tcp", "udp"} {
		x.mappings = append(x.mappings, map[string]any{"hostPort": on, "containerPort": network.Port.To, "protocol": proto})
	}
	env := []string{"CNI_CONTAINERID=" + alloc, "CNI_NETNS=/var/run/netns/" + alloc, "CNI_IFNAME=eth0",
		"CNI_ARGS=IgnoreUnknown=true;NOMAD_ALLOC_ID=" + alloc + ";NOMAD_GROUP_NAME=" + job.Group.Name + ";NOMAD_JOB_ID=shop;NOMAD_NAMESPACE=default;NOMAD_REGION=global"}
	x.call(t, "ADD", env...)
	x.call(t, "CHECK", env...)
	out := c.Run("ip", "-n", alloc, "-o", "-4", "addr", "show", "dev", "eth0")
	_, addr, _ := strings.Cut(out, "inet ")
	addr, _, ok = strings.Cut(addr, "/")
	if !ok {
		t.Fatal(out)
	}
	echoes(t, box, fmt.Sprintf(":%d", network.Port.To))
	for _, x := range []struct {
		from *netns.NS
		to   string
	}{{far.NS, fmt.Sprintf("%s:%d", addr, network.Port.To)}, {far.NS, fmt.Sprintf("192.168.170.137:%d", on)}} {
		l.wait(x.from.Name+" to "+x.to, func() string {
			if err := dials(t, x.from, x.to).asks(); err != nil {
				return err.Error()
			}
			return ""
		})
	}
	x.call(t, "DEL", env...)
	c.Run("ip", "netns", "del", alloc)
	h.inSync()
	if out := h.must(0, "show", "workloads"); strings.Contains(out, alloc) {
		t.Errorf("after the job:\n%s", out)
	}
}
