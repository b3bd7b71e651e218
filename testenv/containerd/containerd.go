// Package containerd gives a test's host a real containerd of its own: with its default paths, as in production, in a mount
// namespace of the host's, where /run, /opt, /usr/lib/cni, /etc/cni and containerd's folders are its own.
//
//	host: network namespace ── mount and host name namespace: containerd, its shims, ctr, nerdctl, netd
//	                              └── containers
package containerd

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/testenv/netns"
)

// Image is what every host has: busybox and nothing else.
const Image = "docker.io/library/busybox:lab"

// busybox is Debian's static one.
const busybox = "/bin/busybox"

// Host is a host with containerd.
type Host struct {
	t      testing.TB
	ns     *netns.NS
	holder *exec.Cmd // its namespaces
	daemon *exec.Cmd
	log    *bytes.Buffer
	dir    string
}

// New makes a host of a network namespace, starts containerd there and gives it Image. All of it ends with the test.
func New(t testing.TB, ns *netns.NS) *Host {
	t.Helper()
	for _, tool := range []string{"containerd", "ctr", "runc", busybox, "/usr/lib/cni/ptp"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("needs %s (testenv/deps.sh)", tool)
		}
	}
	h := &Host{t: t, ns: ns, dir: t.TempDir()}
	// The layer below is the machine's; nothing of it is written to.
	script := `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/etc/upper /run/etc/work /run/netns
mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
rm -rf /etc/cni /etc/netd.hcl
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin /etc/cni/net.d
cp /usr/lib/cni/* /opt/cni/bin
mount --bind /opt/cni/bin /usr/lib/cni
mount -t sysfs sysfs /sys
if grep -q '^[1-9]' /proc/self/cgroup; then
	mount -t tmpfs tmpfs /sys/fs/cgroup
	grep '^[1-9]' /proc/self/cgroup | while IFS=: read n of path; do
		mkdir "/sys/fs/cgroup/${of#name=}"
		mount -t cgroup -o "$of" cgroup "/sys/fs/cgroup/${of#name=}"
	done
else
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount -t tmpfs tmpfs /var/lib
hostname ` + ns.Name + `
echo ready
exec sleep infinity`
	h.holder = exec.Command("unshare", "-m", "-u", "sh", "-c", script)
	var said bytes.Buffer
	h.holder.Stderr = &said
	out, err := h.holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Start(h.holder); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.end)
	if b := make([]byte, 6); !ready(out.Read(b)) {
		t.Fatalf("preparing the host %s: %s", ns.Name, said.String())
	}
	h.Start()
	if err := os.WriteFile(h.ImageFile(), imageTar(t), 0o644); err != nil {
		t.Fatal(err)
	}
	h.Run("ctr", "images", "import", "--snapshotter", "native", h.ImageFile())
	return h
}

// ImageFile is Image as a file.
func (h *Host) ImageFile() string { return filepath.Join(h.dir, "image.tar") }

// Dir is a folder of the host's own, outside of what its namespaces change.
func (h *Host) Dir() string { return h.dir }

// Name is the host's name, NS its network namespace.
func (h *Host) Name() string  { return h.ns.Name }
func (h *Host) NS() *netns.NS { return h.ns }

func ready(n int, err error) bool { return n == 6 && err == nil }

// Enter is the command line that runs a command on the host: it is to be started in its network namespace.
func (h *Host) Enter() []string {
	return []string{"nsenter", "-t", strconv.Itoa(h.holder.Process.Pid), "-m", "-u", "--"}
}

// Namespace is a network namespace that was made on the host, by its path there.
func (h *Host) Namespace(path string) *netns.NS {
	return netns.Open(fmt.Sprintf("/proc/%d/root%s", h.holder.Process.Pid, path))
}

// Command is a command on the host.
func (h *Host) Command(args ...string) *exec.Cmd {
	line := append(h.Enter(), args...)
	return exec.Command(line[0], line[1:]...)
}

// Output runs a command on the host.
func (h *Host) Output(args ...string) (string, error) {
	cmd := h.Command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := h.ns.Start(cmd); err != nil {
		return "", err
	}
	err := cmd.Wait()
	return out.String(), err
}

// Run runs a command on the host; the test fails if it does.
func (h *Host) Run(args ...string) string {
	h.t.Helper()
	out, err := h.Output(args...)
	if err != nil {
		h.t.Fatalf("%s: %s: %v: %s\n%s", h.ns.Name, strings.Join(args, " "), err, out, h.log)
	}
	return out
}

// Start starts containerd.
func (h *Host) Start() {
	h.t.Helper()
	config := filepath.Join(h.dir, "config.toml")
	text := "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n"
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	h.daemon, h.log = h.Command("containerd", "-c", config), &bytes.Buffer{}
	h.daemon.Stderr = h.log
	if err := h.ns.Start(h.daemon); err != nil {
		h.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute) // a busy machine, not a slow containerd
	for {
		out, err := h.Output("ctr", "version")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("containerd does not answer: %s\n%s", out, h.log)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stop ends containerd; the containers go on.
func (h *Host) Stop() {
	if h.daemon == nil {
		return
	}
	_ = h.daemon.Process.Kill()
	_ = h.daemon.Wait()
	h.daemon = nil
}

// Off ends everything that runs on the host at once and empties its /run, as a loss of power does. What is on its disk stays.
func (h *Host) Off() {
	h.t.Helper()
	h.Stop()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", h.holder.Process.Pid))
	if err != nil {
		h.t.Fatal(err)
	}
	for pids := family(own); len(pids) > 1; pids = family(own) { // until each is gone, and with it what it has open
		for _, pid := range pids {
			if pid != h.holder.Process.Pid {
				_ = unix.Kill(pid, unix.SIGKILL)
			}
		}
		time.Sleep(time.Millisecond)
	}
	h.Run("sh", "-c", `awk '$5 ~ "^/(run|var/lib)/." { print $5 }' /proc/self/mountinfo | sort -r | xargs -r umount -l
rm -rf /run/docker* /run/containerd /run/netd /run/runc /run/netns/*`)
}

// end ends everything of the host: what is in its mount namespace, and what came from that.
func (h *Host) end() {
	h.Stop()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", h.holder.Process.Pid))
	if err == nil {
		for _, pid := range family(own) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
	}
	_ = h.holder.Process.Kill()
	_ = h.holder.Wait()
}

// family are the processes in a mount namespace and their descendants, which have mount namespaces of their own.
func family(mnt string) []int {
	parent := map[int]int{}
	var all []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		b, err := os.ReadFile(dir + "/stat")
		if err != nil {
			continue
		}
		_, after, _ := bytes.Cut(b, []byte(") "))
		if f := strings.Fields(string(after)); len(f) > 1 {
			parent[pid], _ = strconv.Atoi(f[1])
		}
		if link, err := os.Readlink(dir + "/ns/mnt"); err == nil && link == mnt {
			all = append(all, pid)
		}
	}
	for i := 0; i < len(all); i++ {
		for pid, of := range parent {
			if of == all[i] && !slices.Contains(all, pid) {
				all = append(all, pid)
			}
		}
	}
	return all
}

// imageTar is Image as `docker save` would write it.
func imageTar(t testing.TB) []byte {
	t.Helper()
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	add(t, w, "bin/busybox", program, "")
	for _, name := range []string{"sh", "sleep", "ping", "ip", "nc", "cat"} {
		add(t, w, "bin/"+name, nil, "busybox")
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Cmd": []string{"/bin/sh"}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}}})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{Image}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		t.Fatal(err)
	}
	var image bytes.Buffer
	w = tar.NewWriter(&image)
	add(t, w, "manifest.json", manifest, "")
	add(t, w, "config.json", config, "")
	add(t, w, "layer.tar", layer.Bytes(), "")
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return image.Bytes()
}

func add(t testing.TB, w *tar.Writer, name string, b []byte, link string) {
	t.Helper()
	head := &tar.Header{Name: name, Mode: 0o755, Size: int64(len(b)), Typeflag: tar.TypeReg}
	if link != "" {
		head.Typeflag, head.Linkname = tar.TypeSymlink, link
	}
	if err := w.WriteHeader(head); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}
