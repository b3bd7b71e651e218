package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"netd/reconcile/doctor"
)

// ownFiles gives a host a mount namespace of its own, for the test's life: /run is empty, /sys is the host's, and of the folders
// named, each has a copy that the test may change. The lines of a shell run first in there.
func (h *labHost) ownFiles(lines string, folders ...string) {
	t := h.lab.t
	t.Helper()
	var copies strings.Builder
	for _, f := range folders {
		fmt.Fprintf(&copies, "mkdir -p /run/own%[1]s\n[ ! -d %[1]s ] || cp -a %[1]s/. /run/own%[1]s\nmount --bind /run/own%[1]s %[1]s\n", f)
	}
	script := "set -e\nmount --make-rprivate /\nmount -t tmpfs tmpfs /run\nmount -t sysfs -o ro sysfs /sys\n" + copies.String() + lines + "\necho ready\nexec sleep infinity"
	holder := exec.Command("unshare", "-m", "sh", "-c", script)
	var wrong said
	holder.Stderr = &wrong
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.runs(holder)
	if n, _ := out.Read(make([]byte, 6)); n != 6 {
		t.Fatalf("preparing the host's files: %s", &wrong)
	}
	h.enter = []string{"nsenter", "-t", strconv.Itoa(holder.Process.Pid), "-m", "--"}
	t.Cleanup(func() { h.enter = nil })
}

// runs starts a program that runs until the test ends.
func (h *labHost) runs(cmd *exec.Cmd) {
	h.lab.t.Helper()
	if err := h.Start(cmd); err != nil {
		h.lab.t.Fatal(err)
	}
	h.lab.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// within is a command in the host's own mount namespace.
func (h *labHost) within(args ...string) *exec.Cmd {
	line := append(append([]string{}, h.enter...), args...)
	return exec.Command(line[0], line[1:]...)
}

// sh runs lines of a shell among the host's own files.
func (h *labHost) sh(lines string) string {
	h.lab.t.Helper()
	cmd := h.within("sh", "-ec", lines)
	cmd.Env = append(os.Environ(), h.env...)
	out, err := h.outputOf(cmd)
	if err != nil {
		h.lab.t.Fatalf("%s: %v: %s", lines, err, out)
	}
	return out
}

// TestDoctorNetworkd has systemd-networkd itself take routes away and manage netd's link: doctor names both, its commands are
// run, and it does so no more.
func TestDoctorNetworkd(t *testing.T) {
	const program = "/lib/systemd/systemd-networkd"
	needPrograms(t, program, "dbus-daemon")
	l := newLab(t, "vxlan")
	l.destroyed()
	l.apply()
	a := l.hosts[0]
	// There is no systemd: what doctor asks of systemctl, to start networkd again, this does. It ends with its lab: by a number
	// that it wrote, before the namespace is left.
	stand := filepath.Join(t.TempDir(), "bin")
	a.env = append(a.env, "PATH="+stand+":"+os.Getenv("PATH"))
	if err := os.Mkdir(stand, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(stand, "systemctl"), []byte(`#!/bin/sh
[ "$*" = "restart systemd-networkd" ] || { echo "systemctl $*: unknown" >&2; exit 1; }
pid=$(cat /run/networkd.pid)
kill "$pid"
while kill -0 "$pid" 2>/dev/null; do sleep 0.02; done
`+program+` >/run/networkd.log 2>&1 &
echo $! >/run/networkd.pid
`), 0o755); err != nil {
		t.Fatal(err)
	}
	a.ownFiles("mkdir -p /run/dbus /run/systemd/netif/links /run/systemd/netif/leases /run/systemd/netif/lldp\nchown -R systemd-network: /run/systemd/netif\n"+
		"printf '[Match]\\nName=ens33\\n\\n[Network]\\nKeepConfiguration=static\\nLinkLocalAddressing=no\\n' >/etc/systemd/network/50-ens33.network", "/etc/systemd")
	a.runs(a.within("dbus-daemon", "--system", "--nofork", "--nopidfile"))
	l.wait("the bus", func() string {
		out, err := a.outputOf(a.within("test", "-S", "/run/dbus/system_bus_socket"))
		if err != nil {
			return "no socket " + out
		}
		return ""
	})
	if c, _ := a.examined(); c["networkd"].Level != doctor.OK {
		t.Fatalf("before: %+v", c["networkd"])
	}
	a.sh(program + " >/run/networkd.log 2>&1 &\necho $! >/run/networkd.pid")
	t.Cleanup(func() { a.sh("kill $(cat /run/networkd.pid) || true") })
	managed := func(link, want string) {
		t.Helper()
		l.wait("networkd has "+link+" "+want, func() string {
			if out, _ := a.outputOf(a.within("networkctl", "--no-pager", "--no-legend", "list", link)); !strings.Contains(out, " "+want+"\n") {
				return out
			}
			return ""
		})
	}
	managed("ens33", "configured")
	managed("vxlan.netd", "unmanaged")

	// What it does to routes on the underlay's link, as netd's of mode bgp are.
	route := "192.0.2.0/24 via 192.168.170.138 dev ens33 proto 77"
	stays := func() bool {
		a.Run(t, "ip route replace "+route)
		a.sh("networkctl reconfigure ens33")
		managed("ens33", "configured")
		return a.Run(t, "ip route show proto 77") != ""
	}
	if stays() {
		t.Error("networkd left the routes of others alone: there is no fault to be found")
	}
	found, code := a.examined()
	c := found["networkd"]
	if c.Level != doctor.Fail || code != exitDegraded || !strings.Contains(c.Evidence, "without ManageForeignRoutes=no") || c.Safe {
		t.Fatalf("%d: %+v", code, c)
	}
	a.sh(c.Fix)
	managed("ens33", "configured")
	if c, _ := a.examined(); c["networkd"].Level != doctor.OK {
		t.Errorf("after the fix: %+v", c["networkd"])
	}
	if !stays() {
		t.Errorf("after the fix networkd took the route away:\n%s", a.sh("cat /run/networkd.log"))
	}

	// And to netd's own link, whose address is gone then. The package's file comes before another's, unless that has a name for it.
	packaged, err := os.ReadFile("../../packaging/networkd/00-netd.network")
	if err != nil {
		t.Fatal(err)
	}
	const all = "printf '[Match]\\nKind=vxlan\\n\\n[Network]\\nLinkLocalAddressing=no\\n' >/etc/systemd/network/"
	a.sh("cat >/etc/systemd/network/00-netd.network <<'end'\n" + string(packaged) + "end\n" + all + "05-all.network\nnetworkctl reload")
	found, _ = a.examined()
	managed("vxlan.netd", "unmanaged")
	if c := found["networkd"]; c.Level != doctor.OK {
		t.Errorf("beside the package's file: %+v", c)
	}
	a.sh(all + "00-all.network\nnetworkctl reload")
	managed("vxlan.netd", "configured")
	if out, _ := a.netd("drift"); strings.Contains(out, "No drift") {
		t.Errorf("networkd left netd's link as it was: there is no fault to be found\n%s", out)
	}
	found, _ = a.examined()
	if c := found["networkd"]; c.Level != doctor.Fail || c.Evidence != "systemd-networkd manages vxlan.netd by /etc/systemd/network/00-all.network" {
		t.Fatalf("%+v", c)
	}
	if found["networkd"].Safe {
		t.Error("what else is in networkd's files takes effect with this fix, and it is called safe")
	}
	a.sh(found["networkd"].Fix)
	if found, _ = a.examined(); found["networkd"].Level != doctor.OK {
		t.Errorf("after the fix: %+v", found["networkd"])
	}
	managed("vxlan.netd", "unmanaged")
	a.must(0, "apply", "-y")
	a.sh("networkctl reload")
	managed("vxlan.netd", "unmanaged")
	if out := a.must(0, "plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("after the fix:\n%s", out)
	}
}

// needPrograms skips a test where a program of systemd's is missing, as on a host that has another init, and fails it in CI.
func needPrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
}
