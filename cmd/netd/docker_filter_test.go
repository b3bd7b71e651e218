package main

import (
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"netd/testenv/docker"
	"netd/testenv/stream"
)

// acceptsOf are netd's rules in a host's iptables, without counters.
func acceptsOf(d *docker.Host) string {
	var out []string
	for line := range strings.Lines(d.Run("iptables-save", "-t", "filter")) {
		if strings.Contains(line, "--comment netd") {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return strings.Join(out, "\n")
}

// TestDockerFilter has a real dockerd switch forwarding on and drop what it does not know: containers of netd reach each
// other all the same, and again by the event alone of whatever else happens to the rules: no other look at everything comes for an hour.
func TestDockerFilter(t *testing.T) {
	l, hosts := newDockerLab(t, func(file string) string { return file })
	if out := hosts[0].Run("iptables-save", "-t", "filter"); !strings.Contains(out, ":FORWARD DROP") {
		t.Fatalf("this dockerd does not drop, so this lab shows nothing:\n%s", out)
	}
	for _, h := range l.hosts {
		h.enter = nil // the containers are namespaces that netd finds where the test sees them
		h.env = []string{"NETD_TEST_RESYNC=1h"}
		h.start()
	}
	reach := func(what string) time.Duration {
		t.Helper()
		began := time.Now()
		l.wait(what, func() string {
			out, err := l.hosts[0].container.Output("ping", "-c1", "-W", "0.5", "10.10.194.134")
			if err != nil {
				return out + hosts[0].Run("iptables-save", "-t", "filter")
			}
			return ""
		})
		return time.Since(began)
	}
	reach("containers reach each other")
	for _, h := range l.hosts {
		h.inSync()
	}
	const rules = `-A DOCKER-USER -d 10.10.0.0/16 -i ens33 -o netd+ -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment netd -j ACCEPT
-A DOCKER-USER -i netd+ -o netd+ -m comment --comment netd -j ACCEPT
-A DOCKER-USER -i netd+ -o vxlan.netd -m comment --comment netd -j ACCEPT
-A DOCKER-USER -i vxlan.netd -o netd+ -m comment --comment netd -j ACCEPT
-A DOCKER-USER -s 10.10.0.0/16 -i netd+ -o ens33 -m comment --comment netd -j ACCEPT`
	same := func(what string) {
		t.Helper()
		// In FORWARD too, for when Docker's jump is not there.
		want := rules + "\n" + strings.ReplaceAll(rules, "DOCKER-USER", "FORWARD")
		if got := sorted(acceptsOf(hosts[0])); got != want {
			t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
		}
	}
	same("netd's rules")

	// Saved and restored, they mean what they meant, to iptables and to netd.
	hosts[0].Run("sh", "-c", "iptables-save > /run/saved && iptables-restore < /run/saved")
	same("after iptables-save | iptables-restore")
	l.hosts[0].inSync()

	// They are narrow: a container on Docker's bridge is as closed to netd's as it was.
	bridged := hosts[0].Docker("run", "-d", docker.Image, "/bin/sleep", "1000")
	addr := hosts[0].Docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", bridged)
	if out, err := l.hosts[0].container.Output("ping", "-c1", "-W1", addr); err == nil {
		t.Errorf("Docker's bridge is open:\n%s", out)
	}

	for _, x := range []struct {
		what   string
		change func()
	}{
		{"iptables -F", func() { hosts[0].Run("iptables", "-F") }},
		{"Docker restarted", func() { hosts[0].Stop(); hosts[0].Start() }},
		{"iptables -F DOCKER-USER", func() { hosts[0].Run("iptables", "-F", "DOCKER-USER") }},
		{"a RETURN before them", func() { hosts[0].Run("iptables", "-I", "DOCKER-USER", "-j", "RETURN") }},
		{"one of them twice", func() {
			hosts[0].Run("iptables", "-I", "DOCKER-USER", "-i", "netd+", "-o", "vxlan.netd", "-m", "comment", "--comment", "netd", "-j", "ACCEPT")
		}},
		{"an accept of all in netd's name", func() {
			hosts[0].Run("iptables", "-I", "DOCKER-USER", "-m", "comment", "--comment", "netd", "-j", "ACCEPT")
		}},
	} {
		x.change()
		took := reach("traffic after " + x.what)
		t.Logf("%s: traffic is back after %v", x.what, took)
		if took >= time.Second {
			t.Errorf("%s: that is a second or more", x.what)
		}
		l.hosts[0].inSync()
		same(x.what)
	}

	// Docker puts its jump to that chain anew for each network that it makes or removes. A stream loses nothing by it.
	there := stream.Start(t, l.hosts[0].container, netip.MustParseAddr("10.10.40.129"), l.hosts[1].container, netip.MustParseAddr("10.10.194.134"), time.Millisecond)
	there.Flowing(t)
	for range 10 {
		hosts[0].Docker("network", "create", "-d", "bridge", "passing")
		l.hosts[0].inSync()
		hosts[0].Docker("network", "rm", "passing")
		l.hosts[0].inSync()
	}
	if r := there.Stop(); r.Lost+r.Refused > 0 || r.Sent < 500 {
		t.Errorf("the stream: %s", r)
	} else {
		t.Logf("networks made and removed: %s", r)
	}
	same("after Docker made networks and removed them")

	l.hosts[0].stop(syscall.SIGTERM)
	hosts[0].Run("iptables", "-F", "DOCKER-USER")
	if out := l.hosts[0].must(0, "plan"); !strings.Contains(out, "+ accept") || !strings.Contains(out, "ip DOCKER-USER -i netd+ -o vxlan.netd") {
		t.Errorf("the plan:\n%s", out)
	}
	l.hosts[0].must(0, "apply", "-y")
	same("after apply without a daemon")
	l.hosts[0].must(0, "destroy", "-y")
	if got := acceptsOf(hosts[0]); got != "" {
		t.Errorf("destroy leaves:\n%s", got)
	}
}

func sorted(lines string) string {
	out := strings.Split(lines, "\n")
	slices.Sort(out)
	return strings.Join(out, "\n")
}
