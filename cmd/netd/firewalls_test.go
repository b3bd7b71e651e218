package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"netd/reconcile/doctor"
)

// firewallHost is a host with the firewalls and the NetworkManager of testenv/firewalls.sh: a folder of Debian's, laid over by the test's own, in a
// mount namespace of its own.
type firewallHost struct {
	*labHost
	root  string
	enter []string
}

func newFirewallHost(h *labHost) *firewallHost {
	t := h.lab.t
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := &firewallHost{labHost: h, root: filepath.Join(dir, "root")}
	script := fmt.Sprintf(`set -e
mount --make-rprivate /
mount -t tmpfs tmpfs %[1]s
cd %[1]s && mkdir root upper work
mount -t overlay overlay -o lowerdir=%[2]s/root,upperdir=%[1]s/upper,workdir=%[1]s/work root
mount -t proc proc root/proc
mount --rbind /dev root/dev
mount -t sysfs -o ro sysfs root/sys
mount -t tmpfs tmpfs root/run
mkdir root/run/dbus
for x in %[3]s; do mkdir -p root$x && mount --bind $x root$x; done
echo ready
exec sleep infinity`, dir, os.Getenv("NETD_FIREWALLS"), os.TempDir()+" "+filepath.Dir(exe))
	holder := exec.Command("unshare", "-m", "sh", "-c", script)
	var wrong said
	holder.Stderr = &wrong
	out, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.runs(holder)
	if n, _ := out.Read(make([]byte, 6)); n != 6 {
		t.Fatalf("preparing the firewalls' folder: %s", &wrong)
	}
	f.enter = []string{"nsenter", "-t", strconv.Itoa(holder.Process.Pid), "-m", "--", "chroot", f.root}
	return f
}

func (f *firewallHost) within(args ...string) *exec.Cmd {
	line := append(append([]string{}, f.enter...), args...)
	return exec.Command(line[0], line[1:]...)
}

// sh runs lines of a shell in the firewalls' folder.
func (f *firewallHost) sh(lines string) string {
	f.lab.t.Helper()
	out, err := f.outputOf(f.within("sh", "-ec", lines))
	if err != nil {
		f.lab.t.Fatalf("%s: %v: %s", lines, err, out)
	}
	return out
}

// faults are what doctor says of others' rules.
func (f *firewallHost) faults(flags ...string) (out []checkView) {
	f.lab.t.Helper()
	text, _ := f.netd(append([]string{"doctor", "--json"}, flags...)...)
	var v doctorView
	if err := json.Unmarshal([]byte(text[max(strings.Index(text, "\n{\n")+1, 0):]), &v); err != nil {
		f.lab.t.Fatalf("%v in %s", err, text)
	}
	for _, c := range v.Checks {
		if (c.Name == "firewall" || c.Name == "forward-policy") && c.Level != doctor.OK {
			out = append(out, c)
		}
	}
	return out
}

// flows is empty where containers reach each other, whoever begins. ufw lets pings pass: TCP is what tells.
func (l *twoHosts) flows() string {
	a := tenant{ns: l.hosts[0].container, addr: netip.MustParseAddr("10.10.40.129")}
	b := tenant{ns: l.hosts[1].container, addr: netip.MustParseAddr("10.10.194.134")}
	for _, way := range [][2]tenant{{a, b}, {b, a}} {
		if err := way[0].exchanges(way[1]); err != nil {
			return fmt.Sprintf("from %s to %s: %v\n", way[0].addr, way[1].addr, err)
		}
	}
	return ""
}

// TestFirewalls has Debian's own firewalld and ufw close a host: doctor names them, its commands open it, and it stays open when
// they write their rules anew. `make firewalls` makes their folder and runs this.
func TestFirewalls(t *testing.T) {
	if os.Getenv("NETD_FIREWALLS") == "" {
		t.Skip("needs firewalld and ufw, which make firewalls fetches and runs this with")
	}
	for _, x := range []struct {
		name, reload string
		start        func(f *firewallHost)
	}{
		{"firewalld", "firewall-cmd --reload", func(f *firewallHost) {
			f.runs(f.within("dbus-daemon", "--system", "--nofork", "--nopidfile"))
			f.runs(f.within("firewalld", "--nofork", "--nopid"))
			f.lab.wait("firewalld runs", func() string {
				out, err := f.outputOf(f.within("firewall-cmd", "--state"))
				if err != nil {
					return out
				}
				return ""
			})
		}},
		{"ufw", "ufw reload", func(f *firewallHost) { f.sh("ufw --force enable") }},
		{"ufw that rejects", "ufw reload", func(f *firewallHost) { f.sh("ufw --force enable && ufw default reject routed") }},
	} {
		for _, mode := range []string{"vxlan", "bgp"} {
			t.Run(x.name+"/"+mode, func(t *testing.T) {
				l := newLab(t, mode)
				for _, h := range l.hosts {
					h.start()
				}
				l.settled()
				l.reach()
				f := newFirewallHost(l.hosts[0])
				x.start(f)
				// In mode bgp ufw leaves all open: netd's accepts come before its drop, and the session was there before.
				l.wait("the firewall to close the host", func() string {
					if l.flows() == "" && (x.name != "ufw" || mode != "bgp") {
						return "traffic flows:\n" + f.Run(t, "nft list ruleset")
					}
					return ""
				})
				mend := func(flags ...string) {
					t.Helper()
					found := f.faults(flags...)
					if len(found) == 0 {
						t.Fatalf("doctor finds nothing in\n%s", f.Run(t, "nft list ruleset"))
					}
					for _, c := range found {
						t.Logf("%s: %s\n%s", c.Name, c.Evidence, c.Fix)
						f.sh(c.Fix)
					}
				}
				mend()
				opened := func(when string) {
					t.Helper()
					l.wait("traffic "+when, func() string {
						if out := l.flows(); out != "" {
							return out + f.Run(t, "nft list ruleset")
						}
						return ""
					})
					if left := f.faults(); len(left) > 0 {
						t.Errorf("%s doctor still says: %+v", when, left)
					}
				}
				opened("after the fixes")
				f.sh(x.reload)
				opened("after " + x.reload)
				firewall, _, _ := strings.Cut(x.name, " ")
				if !strings.Contains(f.Run(t, "nft list ruleset"), map[string]string{"firewalld": "table inet firewalld", "ufw": "ufw-user-forward"}[firewall]) {
					t.Error("the firewall is gone")
				}

				// What doctor says for a file does not need its modes: another node, and protocol 4, are closed out until it is done.
				other := filepath.Join(t.TempDir(), "netd.hcl")
				file := fmt.Sprintf(walkthrough, "ipip") + "node \"third\" {\n  address = \"192.168.170.139/24\"\n  blocks  = [\"10.10.3.0/24\"]\n}\n"
				if err := os.WriteFile(other, []byte(file), 0o644); err != nil {
					t.Fatal(err)
				}
				mend("-c", other)
				if left := f.faults("-c", other); len(left) > 0 {
					t.Errorf("of another file doctor still says: %+v\n%s", left, f.Run(t, "nft list ruleset"))
				}
			})
		}
	}
}

// TestDoctorNetworkManager has Debian's own NetworkManager take netd's links and empty one: doctor names it, its command is run,
// and it does so no more.
func TestDoctorNetworkManager(t *testing.T) {
	if os.Getenv("NETD_FIREWALLS") == "" {
		t.Skip("needs NetworkManager, which make firewalls fetches and runs this with")
	}
	l := newLab(t, "vxlan")
	l.destroyed()
	l.apply()
	a := l.hosts[0]
	f := newFirewallHost(a)
	inside := func(run func()) { // doctor sees the folder's files; netd's containers are where the test sees them
		a.enter = f.enter
		defer func() { a.enter = nil }()
		run()
	}
	inside(func() { a.fault("networkmanager", doctor.OK, "it does not run") })
	f.runs(f.within("dbus-daemon", "--system", "--nofork", "--nopidfile"))
	manager := f.within("NetworkManager", "--no-daemon")
	f.runs(manager)
	state := func(want string) {
		t.Helper()
		l.wait("NetworkManager has vxlan.netd "+want, func() string {
			out, _ := f.outputOf(f.within("nmcli", "-t", "-f", "DEVICE,STATE", "device"))
			if !strings.Contains("\n"+out, "\nvxlan.netd:"+want+"\n") {
				return out
			}
			return ""
		})
	}
	const taken = "NetworkManager has taken "
	state("connected (externally)")
	inside(func() { a.fault("networkmanager", doctor.Fail, taken) })
	f.sh("nmcli device disconnect vxlan.netd")
	if out := a.must(0, "plan"); !strings.Contains(out, "+ addr") {
		t.Errorf("NetworkManager left netd's link as it was: there is no fault to be found\n%s", out)
	}
	mended := func(by string) {
		t.Helper()
		inside(func() {
			if c := a.fault("networkmanager", doctor.OK, by+" keeps it off netd's links", "--fix"); c.Fixed != "done" {
				t.Errorf("%+v", c)
			}
		})
		state("unmanaged")
		a.must(0, "apply", "-y")
		if out, err := f.outputOf(f.within("nmcli", "device", "disconnect", "vxlan.netd")); err == nil {
			t.Errorf("NetworkManager still takes it: %s", out)
		}
		if out := a.must(0, "plan"); !strings.Contains(out, "No changes.") {
			t.Errorf("after the fix:\n%s", out)
		}
	}
	mended("/etc/NetworkManager/conf.d/zzz-netd.conf")

	// anew starts it with files of the host's and of netd's, after a boot: what it was told of links that are there is forgotten.
	anew := func(files string) {
		t.Helper()
		_ = manager.Process.Signal(syscall.SIGTERM)
		_ = manager.Wait()
		f.sh("rm -rf /run/NetworkManager/devices /etc/NetworkManager/conf.d/*\nmkdir -p /usr/lib/NetworkManager/conf.d\n" + files)
		manager = f.within("NetworkManager", "--no-daemon")
		f.runs(manager)
	}
	const ownList = "printf '[keyfile]\\nunmanaged-devices=interface-name:none\\n' >/etc/NetworkManager/conf.d/10-own.conf\n"
	packaged, err := os.ReadFile("../../packaging/NetworkManager/zz-netd.conf")
	if err != nil {
		t.Fatal(err)
	}
	install := "cat >/etc/NetworkManager/conf.d/zz-netd.conf <<'end'\n" + string(packaged) + "end\n"

	// Beside a list of the host's own the package's file is enough from the start, and for one that runs when it reads it. Until
	// then the link is what NetworkManager says that it is, whatever the file says.
	anew(ownList)
	state("connected (externally)")
	f.sh(install)
	inside(func() {
		c := a.fault("networkmanager", doctor.Fail, "zz-netd.conf says otherwise")
		if strings.Contains(c.Fix, "printf") {
			t.Errorf("the file is there already: %s", c.Fix)
		}
	})
	mended("/etc/NetworkManager/conf.d/zz-netd.conf")
	anew(ownList + install)
	state("unmanaged")
	inside(func() {
		a.fault("networkmanager", doctor.OK, "/etc/NetworkManager/conf.d/zz-netd.conf keeps it off netd's links")
	})

	// A section does not hold for a link that NetworkManager has already, over a reload of its files.
	anew(ownList)
	state("connected (externally)")
	f.sh("printf '[device-netd]\\nmatch-device=interface-name:netd*;interface-name:vxlan.netd\\nmanaged=0\\n' >/usr/lib/NetworkManager/conf.d/zz-section.conf\nnmcli general reload")
	state("connected (externally)")
	inside(func() { a.fault("networkmanager", doctor.Fail, taken) })
	mended("/usr/lib/NetworkManager/conf.d/zz-section.conf")
	f.sh("rm /usr/lib/NetworkManager/conf.d/zz-section.conf")

	// What it was told of a link does not hold for the next one.
	anew("")
	state("connected (externally)")
	for _, link := range []string{"vxlan.netd", vethOfMaster} {
		f.sh("nmcli device set " + link + " managed no")
	}
	state("unmanaged")
	inside(func() { a.fault("networkmanager", doctor.Fail, "NetworkManager will take netd's links") })
	mended("/etc/NetworkManager/conf.d/zzz-netd.conf")
}

// TestDoctorLinkFile has udev read the file of doctor's command about checksums, as it does when a link is made: the VXLAN device
// leaves no checksum to the card any more, and is otherwise as netd made it.
func TestDoctorLinkFile(t *testing.T) {
	if os.Getenv("NETD_FIREWALLS") == "" {
		t.Skip("needs udev, which make firewalls fetches and runs this with")
	}
	l := newLab(t, "vxlan")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	for _, line := range []string{"nft add table inet fault", "nft add chain inet fault in { type filter hook input priority 0 ; }", "nft add rule inet fault in iifname vxlan.netd meta l4proto tcp drop"} {
		b.Run(t, line)
	}
	c := a.fault("checksum-offload", doctor.Warn, "answers pings and no TCP")
	b.Run(t, "nft delete table inet fault")
	f := newFirewallHost(a)
	file, _, _ := strings.Cut(c.Fix, "\n")
	f.sh(file)
	a.has("ethtool -k vxlan.netd", "tx-checksum-ip-generic: on")
	f.sh("udevadm test-builtin net_setup_link /sys/class/net/vxlan.netd")
	a.has("ethtool -k vxlan.netd", "tx-checksum-ip-generic: off")
	if out := a.must(0, "plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan:\n%s", out)
	}
}
