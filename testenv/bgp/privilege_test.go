package bgp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"netd/testenv/router"
)

// TestPrivilege looks at the speaker as the kernel does: another user, one capability and no way to another, no group, no
// descriptor of the daemon's; and as that user tries to open what is the daemon's.
func TestPrivilege(t *testing.T) {
	l := newLab(t, "variable \"secret\" {\n  default = \"\"\n}\n\n"+twoNodes)
	one := l.host("one", "192.168.170.137/24")
	l.container("web")
	one.env = []string{"NETD_VAR_secret=hunter2"}
	one.start()
	l.wait("a speaker", func() string {
		if one.speaker() == 0 {
			return one.status().Verdict
		}
		return ""
	})
	pid := one.speaker()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]string{}
	for _, line := range strings.Split(string(text), "\n") {
		name, value, _ := strings.Cut(line, ":")
		has[name] = strings.Join(strings.Fields(value), " ")
	}
	const bindService = "0000000000000400" // 1 << CAP_NET_BIND_SERVICE
	for name, want := range map[string]string{
		"CapInh": bindService, "CapPrm": bindService, "CapEff": bindService, "CapBnd": bindService, "CapAmb": bindService, "NoNewPrivs": "1", "Groups": "",
	} {
		if has[name] != want {
			t.Errorf("%s: %q, want %q", name, has[name], want)
		}
	}
	uid := strings.Fields(has["Uid"])
	if len(uid) != 4 || uid[0] == "0" || uid[0] != uid[1] || uid[0] != uid[2] || uid[0] != uid[3] {
		t.Errorf("it runs as user %s", has["Uid"])
	}
	if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || strings.Contains(string(env), "hunter2") {
		t.Errorf("its environment: %q, %v", env, err)
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", pid))
	if err != nil || !regexp.MustCompile(`Max file size +16777216 +16777216 `).Match(limits) { // its log lies in memory
		t.Errorf("its limits: %v\n%s", err, limits)
	}
	l.wait("no descriptor but its own", func() string { // it reads files of /proc while it begins; what it was given it keeps
		fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%s", pid, fd.Name()))
			if errors.Is(err, os.ErrNotExist) {
				continue
			}
			own := strings.HasPrefix(to, filepath.Join(one.run(), "speaker")) || strings.HasPrefix(to, "socket:") || strings.HasPrefix(to, "anon_inode:") || to == "/dev/null"
			if err != nil || !own {
				return fmt.Sprintf("descriptor %s is %s, %v", fd.Name(), to, err)
			}
		}
		return ""
	})
	secret := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(secret, []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(secret); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		_ = os.Chmod(dir, 0o755) // so that the file's own mode is what is tried
	}
	for _, file := range []string{filepath.Join(one.state(), "netd.db"), filepath.Join(one.run(), "lock"), filepath.Join(one.run(), "netd.sock"), secret} {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
		how := "head -c1 " + file
		if filepath.Ext(file) == ".sock" {
			how = "socat -u /dev/null UNIX-CONNECT:" + file
		}
		cmd := exec.Command("setpriv", append([]string{"--reuid", uid[0], "--regid", strings.Fields(has["Gid"])[0], "--clear-groups"}, strings.Fields(how)...)...)
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
			t.Errorf("as the speaker's user, %s: %v: %s", how, err, out)
		}
	}
}

// gobgp builds the stock client of the module that netd uses.
func gobgp(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gobgp")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/osrg/gobgp/v3/cmd/gobgp").CombinedOutput(); err != nil {
		t.Fatalf("building the gobgp client: %v: %s", err, out)
	}
	return path
}

// TestClient looks in with the stock gobgp client, and then has it do what someone would who has taken the speaker: open
// its policy, give it paths of its own. That can take routes away, and adds none; netd puts the speaker right.
func TestClient(t *testing.T) {
	l := newLab(t, twoNodes)
	one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
	l.container("web")
	client := gobgp(t)
	one.start()
	r := l.rogue(two)
	l.say(r, router.Announce(two.addr, nil, prefixes("10.10.194.128/26", "10.99.0.0/24")...), router.EndOfRIB())
	l.wait("status to name what is rejected", func() string {
		return missing(one.degraded("status"), "node two tells what is not its own: 1 route rejected, 10.99.0.0/24: it is no block of that node")
	})
	ask := func(args ...string) string {
		t.Helper()
		out, err := exec.Command(client, append([]string{"--target", "unix://" + filepath.Join(one.run(), "speaker", "speaker.sock")}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("gobgp %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	if out := ask("neighbor"); missing(out, "192.168.170.138") != "" || missing(out, "Establ") != "" {
		t.Errorf("gobgp neighbor:\n%s", out)
	}
	if out := ask("neighbor", "192.168.170.138", "adj-in"); missing(out, "10.10.194.128/26") != "" || missing(out, "10.99.0.0/24") != "" {
		t.Errorf("gobgp neighbor … adj-in:\n%s", out)
	}
	if out := ask("neighbor", "192.168.170.138", "adj-out"); missing(out, "10.10.40.128/26") != "" {
		t.Errorf("gobgp neighbor … adj-out:\n%s", out)
	}
	if out := ask("global", "rib"); missing(out, "10.10.194.128/26") != "" || strings.Contains(out, "10.99.0.0/24") {
		t.Errorf("gobgp global rib:\n%s", out)
	}

	l.wait("the route", func() string { return missing(one.routes("10.10.194.128/26"), "via") })
	before := one.Run(t, "ip route show proto 142")
	stop := make(chan struct{})
	end := sync.OnceFunc(func() { close(stop) })
	t.Cleanup(end)
	changed := make(chan string, 1)
	go func() { // nothing of it is in the kernel for even a moment
		defer close(changed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			now, err := one.Output("ip", "route", "show", "proto", "142")
			for _, line := range strings.Split(now, "\n") {
				if err == nil && !strings.Contains(before, line) {
					changed <- now
					return
				}
			}
		}
	}()
	ask("global", "policy", "import", "set", "default", "accept")
	ask("global", "rib", "add", "10.10.194.128/26", "nexthop", "192.168.170.99")
	ask("global", "rib", "add", "10.98.0.0/24", "nexthop", "192.168.170.138")
	l.say(r, router.Announce(two.addr, nil, prefixes("10.97.0.0/24", "10.10.194.192/27", "0.0.0.0/0")...))
	one.must("reload") // a whole pass
	l.wait("the speaker to be put right", func() string {
		out := ask("global", "rib")
		for _, p := range []string{"10.98.0.0/24", "10.97.0.0/24", "192.168.170.99"} {
			if strings.Contains(out, p) {
				return out
			}
		}
		return ""
	})
	end()
	if now, ok := <-changed; ok {
		t.Errorf("the kernel had\n%s\nand then\n%s", before, now)
	}
}
