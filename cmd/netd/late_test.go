package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/testenv/netns"
)

// TestNotNow gives a daemon a file that is good and that its host cannot have: what was taken before stays in force and is
// repaired, also after a restart, and the new one is taken when the host can have it.
func TestNotNow(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.file = filepath.Join(h.dir, "netd.hcl")
	good := fmt.Sprintf(walkthrough, "vxlan")
	write := func(text string) {
		if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	h.start()
	h.synced()
	write(strings.Replace(good, `"192.168.170.137/24"`, "\"192.168.170.137/24\"\n  interface = \"later0\"", 1))
	told := func(when string) {
		l.wait(when+": status", func() string {
			if out, code := h.netd("status"); code != exitDegraded || !strings.Contains(out, "no link later0") {
				return out
			}
			return ""
		})
		h.Run(t, "ip route del 10.10.194.128/26")
		l.wait(when+": the route is back", func() string { return h.lacks("10.10.194.128/26 via 10.10.194.128 dev vxlan.netd") })
	}
	told("a file that this host cannot have")
	h.stop(9)
	h.start()
	told("after a restart")
	if log := h.log.String(); strings.Contains(log, "waiting for the node's address") { // which is there: nobody is to wait until the daemon is ready
		t.Errorf("it waits:\n%s", log)
	}
	h.Run(t, "ip link add later0 type veth peer name later1")
	h.Run(t, "ip link set later1 up")
	h.Run(t, "ip link set later0 up")
	l.wait("the new file is taken", func() string {
		out := h.Run(t, "ip -d link show vxlan.netd")
		if !strings.Contains(out, "dev later0") {
			return out
		}
		return ""
	})
	h.synced()
}

// TestNoPassword starts a daemon whose password_file is missing: the container network is there, the status names the file,
// and the session's password is read when the file comes.
func TestNoPassword(t *testing.T) {
	l := newLab(t, "bgp")
	h := l.hosts[0]
	h.file = filepath.Join(h.dir, "netd.hcl")
	secret := filepath.Join(h.dir, "secret")
	if err := os.WriteFile(h.file, fmt.Appendf(nil, walkthrough+"bgp {\n  password_file = %q\n}\n", "bgp", secret), 0o644); err != nil {
		t.Fatal(err)
	}
	h.start()
	l.wait("the status names the file", func() string {
		out, _ := h.netd("status")
		if !strings.Contains(out, secret) || !strings.Contains(out, "no such file") {
			return out
		}
		return ""
	})
	l.wait("the container's route", func() string { return h.lacks("10.10.40.129 dev " + vethOfMaster) })
	if err := os.WriteFile(secret, []byte("between us\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.wait("the password is read", func() string {
		if out, _ := h.netd("status"); strings.Contains(out, "no such file") {
			return out
		}
		return ""
	})
}

// TestNamespaceSoon makes a workload's namespace moments after the daemon has read of it: it is attached then, and not when all
// paths, or everything, are looked at again, which is an hour away.
func TestNamespaceSoon(t *testing.T) {
	l := newLab(t, "vxlan")
	h := l.hosts[0]
	h.file = filepath.Join(h.dir, "netd.hcl")
	text := fmt.Sprintf(walkthrough, "vxlan")
	write := func() {
		if err := os.WriteFile(h.file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write()
	h.env = []string{"NETD_TEST_LOOK=1h", "NETD_TEST_RESYNC=1h"}
	h.start()
	h.synced()
	for i, name := range []string{"soon", "later"} {
		text += fmt.Sprintf("workload %q {\n  node    = \"baihl-master\"\n  address = \"10.10.40.%d\"\n  netns   = \"/run/netns/%s\"\n}\n", name, 130+i, name)
		write()
		l.wait("the workload waiting", func() string {
			out, _ := h.netd("status")
			if !strings.Contains(out, name) {
				return out
			}
			return ""
		})
		netns.New(t, name)
		l.wait("the route to it", func() string { return h.lacks(fmt.Sprintf("10.10.40.%d dev ", 130+i)) })
	}
}

const vethOfMaster = "netd0668201186e" // of file/nginx-master

// lacks is the host's routes where none of them contains the text.
func (h *labHost) lacks(text string) string {
	if out := h.Run(h.lab.t, "ip route"); !strings.Contains(out, text) {
		return "no route " + text + " in\n" + out
	}
	return ""
}

// synced waits until a host's daemon says that all is as it should be.
func (h *labHost) synced() {
	h.lab.t.Helper()
	h.lab.wait(h.Name+" is in sync", func() string {
		if out, code := h.netd("status"); code != 0 {
			return out
		}
		return ""
	})
}
