package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"netd/testenv/console"
	"netd/testenv/containerd"
	"netd/testenv/docker"
)

// shell types the commands of a page on a host that has dockerd and containerd, as root, with this netd and its file at /etc/netd.hcl.
// Who types them is asked by apply and destroy, and says yes; looks at status -w for some seconds, and ends a daemon, or a speaker, once
// it answers.
func (h *labHost) shell(d *containerd.Host) console.Shell {
	h.lab.t.Helper()
	dir := h.lab.t.TempDir()
	for name, text := range map[string]string{
		"netd": fmt.Sprintf(`limit=
export NETD_TEST_PROGRAM=1 NETD_STATE_DIR=%[1]s/state NETD_RUN_DIR=%[1]s/run NETD_COLOR=never
case $1 in
apply | destroy) set -- "$@" -y ;;
run | speaker)
	answers() {
		[ "$command" = run ] || { [ -S /run/netd/speaker/paths.sock ]; return; }
		%[1]s/bin/netd status >/dev/null 2>&1
		[ $? != 69 ]
	}
	command=$1
	%[1]s/bin/netd "$@" &
	until answers; do kill -0 $! || break; sleep 0.05; done
	kill $!
	wait $!
	exit ;;
status) [ "$2" != -w ] || limit="timeout --foreground --preserve-status -s INT 4" ;;
esac
exec $limit %[1]s/bin/netd "$@"`, h.dir),
		"sudo": `exec "$@"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			h.lab.t.Fatal(err)
		}
	}
	enter := append([]string{"nsenter", "--net=" + h.Path(), "--"}, d.Enter()...)
	path := "PATH=" + dir + ":" + filepath.Dir(docker.CLI) + ":/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
	return console.Shell{Enter: append(enter, "env", "-C", dir, path, "CONTAINERD_SNAPSHOTTER=native"), Dir: dir, Env: os.Environ(), Limit: 3 * time.Minute}
}

// TestPages runs the commands of the pages on containers, those that find out what is wrong, and the examples of netd's help, on a
// host with dockerd and containerd beside another one.
func TestPages(t *testing.T) {
	l, hosts := newDockerLab(t, func(file string) string { return file })
	h, d := l.hosts[0], hosts[0]
	h.installCNI(d.Host)
	d.Run("ln", "-s", filepath.Join(h.dir, "run"), "/run/netd") // the plugin is told no folders
	shell := h.shell(d.Host)
	reads := func(file string) { // the host's file is this from now on
		t.Helper()
		for _, path := range []string{filepath.Join(shell.Dir, "netd.hcl"), filepath.Join(shell.Dir, "draft.hcl")} {
			if err := os.WriteFile(path, []byte(file), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		d.Run("sh", "-c", "mkdir -p /etc/netd.d && cp "+shell.Dir+"/netd.hcl /etc/netd.d/ && cp "+shell.Dir+"/netd.hcl /etc/netd.new && mv /etc/netd.new /etc/netd.hcl")
	}
	types := func(command string) {
		t.Helper()
		if out, err := shell.Run(t, command); err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	// The images of the pages: what is in them sleeps.
	d.Docker("create", "--name", "made", docker.Image)
	for _, image := range []string{"nginx", "postgres"} {
		d.Docker("commit", "-c", `CMD ["/bin/sleep", "1000"]`, "made", image)
	}
	d.Docker("rm", "made")
	types("docker save nginx -o nginx.tar && ctr images import --snapshotter native nginx.tar")

	// By hand, without a daemon.
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, file, _ := strings.Cut(string(readme), "```hcl\n")
	file, _, _ = strings.Cut(file, "```")
	reads(file)
	types("netd fmt -w /etc/netd.d")
	types("ip netns add nginx-master")
	h.file = "/etc/netd.hcl"
	shell.Check(t, *update, "README.md", "netd")
	types("ip route del 10.10.194.128/26")
	shell.Check(t, *update, "README.md", "What it looks like")
	if err := os.WriteFile(filepath.Join(shell.Dir, "baihl-node.json"), []byte(l.hosts[1].must(0, "show", "state", "--json")), 0o644); err != nil {
		t.Fatal(err)
	}
	shell.Check(t, *update, "docs/reference.md", "netd apply [flags]", "netd plan [flags]", "netd validate [FILE] [flags]", "netd fmt [PATH]... [flags]", "netd version [flags]",
		"netd run [flags]")
	types("mkdir -p /run/netd/speaker") // as the unit has systemd do
	shell.Check(t, *update, "docs/reference.md", "netd speaker [flags]")
	types("rm -r /run/netd/speaker")

	h.runArgs = []string{"--docker-socket", "/run/docker/plugins/netd.sock"}
	h.start()
	hosts[1].Run("ip", "netns", "add", "nginx-node")
	l.hosts[1].start()
	l.settled()
	// First: with each network that dockerd makes it takes its chain out of FORWARD for a moment, and netd's rules move there and back.
	shell.Check(t, *update, "docs/how-to/docker.md", "Docker's firewall")
	shell.Check(t, *update, "docs/how-to/attach-containers.md", "Attach containers: nerdctl, ctr, Nomad, plain namespaces", "ctr", "Plain network namespaces", "Which is where")
	shell.Check(t, *update, "docs/how-to/troubleshooting.md", "Find out what is wrong")
	shell.Check(t, *update, "docs/reference.md", "netd doctor [flags]", "netd drift [flags]", "netd reload [flags]", "netd show", "netd show blocks", "netd show links",
		"netd show state", "netd show workloads", "netd status [flags]", "netd test [ADDRESS...] [flags]", "netd cni install [flags]", "netd cni uninstall [flags]", "netd cni")
	types("ctr task kill -s KILL web; until ctr container rm web; do :; done; ip netns del web")

	l.wait("those that are gone to be forgotten", func() string {
		if out := h.must(0, "show", "workloads"); strings.Contains(out, "  cni  ") {
			return out
		}
		return ""
	})

	shell.Check(t, *update, "docs/how-to/docker.md", "Docker's network driver")
	shell.Check(t, *update, "docs/reference.md", "netd docker", "netd docker install [flags]")
	types("docker rm -f web db")
	page, err := os.ReadFile("../../docs/how-to/docker.md")
	if err != nil {
		t.Fatal(err)
	}
	_, composed, _ := strings.Cut(string(page), "```yaml\n")
	composed, _, _ = strings.Cut(composed, "```")
	for name, text := range map[string]string{
		"compose.yaml": composed,
		"docker":       "#!/bin/sh\n[ \"$1\" != compose ] || { shift; exec docker-compose \"$@\"; }\nexec " + docker.CLI + " \"$@\"\n", // Debian's compose is the one of before
	} {
		if err := os.WriteFile(filepath.Join(shell.Dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	shell.Check(t, *update, "docs/how-to/docker.md", "Compose")
	_, workload, _ := strings.Cut(string(page), "```hcl\n")
	workload, _, _ = strings.Cut(workload, "```")
	before, _, _ := strings.Cut(file, "workload ")
	reads(before + workload)
	types("netd reload")
	shell.Check(t, *update, "docs/how-to/docker.md", "Containers that the file names")
	l.wait("the declared container has its address", func() string {
		out, err := d.TryDocker("exec", "web", "ip", "-o", "-4", "addr", "show", "dev", "eth0")
		if err != nil || !strings.Contains(out, "10.10.40.129") {
			return out
		}
		return ""
	})
	shell.Check(t, *update, "docs/reference.md", "netd destroy [flags]")
}

// typesNerdctl types what the page has of nerdctl on a host with containerd.
func (h *labHost) typesNerdctl(c *containerd.Host, program string) {
	t := h.lab.t
	t.Helper()
	shell := h.shell(c)
	if err := os.WriteFile(filepath.Join(shell.Dir, "nerdctl"), []byte("#!/bin/sh\nexec "+program+" --cgroup-manager cgroupfs \"$@\"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	shell.Check(t, *update, "docs/how-to/attach-containers.md", "nerdctl")
}
