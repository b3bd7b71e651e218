package bgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
	"netd/testenv/router"
)

// rogue is node two as a plain socket, with a session.
func (l *lab) rogue(h *host) *router.Raw {
	l.t.Helper()
	return l.member(h, &host{addr: netip.MustParseAddr("192.168.170.137")})
}

// member is a node as a plain socket, with a session with another.
func (l *lab) member(h, to *host) *router.Raw {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	end := router.End{NS: h.NS, Local: h.addr, Remote: to.addr, TTL: 255}
	for {
		r, err := end.Dial(ctx)
		if err == nil {
			if err = r.Establish(ctx, router.Open{ASN: 64512, ID: h.addr, HoldTime: 9 * time.Second, Restart: 120 * time.Second}); err == nil {
				l.t.Cleanup(r.Close)
				return r
			}
			r.Close()
		}
		if ctx.Err() != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lab) say(r *router.Raw, messages ...[]byte) {
	l.t.Helper()
	for _, m := range messages {
		if _, err := r.Write(m); err != nil {
			l.t.Fatal(err)
		}
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// TestLook has a node tell what it may and much that it may not: each is shown with its reason, and the kernel has one.
func TestLook(t *testing.T) {
	l := newLab(t, twoNodes)
	one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
	l.container("web")
	one.start()
	r := l.rogue(two)
	l.say(r,
		router.Announce(two.addr, nil, prefixes("10.10.194.128/26", "10.10.40.128/26", "10.10.194.128/27", "10.10.0.0/16", "0.0.0.0/0", "10.99.0.0/24")...),
		router.Announce(two.addr, []uint32{65001, 64512}, prefixes("10.98.0.0/24")...),
		router.EndOfRIB())
	l.wait("status to name what is rejected", func() string {
		return missing(one.degraded("status"), "node two tells what is not its own: 6 routes rejected, such as 0.0.0.0/0: it is no block of that node (netd show peers two --routes rejected)")
	})

	l.wait("the counts", func() string {
		return missing(strings.Join(strings.Fields(one.must("show", "peers")), " "), "two 192.168.170.138 64512 established")
	})
	var peers struct {
		Peers []struct {
			Name                                     string
			Received, Accepted, Rejected, Advertised int
		}
	}
	if err := json.Unmarshal([]byte(one.must("show", "peers", "--json")), &peers); err != nil {
		t.Fatal(err)
	}
	if p := peers.Peers[0]; p.Name != "two" || p.Received != 7 || p.Accepted != 1 || p.Rejected != 6 || p.Advertised != 1 {
		t.Errorf("show peers: %+v", p)
	}
	rejected := one.must("show", "peers", "two", "--routes", "rejected")
	for prefix, reason := range map[string]string{
		"10.10.40.128/26":  "a block of this node",
		"10.10.194.128/27": "it is more specific than 10.10.194.128/26, a block of node two",
		"10.10.0.0/16":     "it is no block of that node",
		"0.0.0.0/0":        "it is no block of that node",
		"10.99.0.0/24":     "it is no block of that node",
		"10.98.0.0/24":     "a loop: this node's AS 64512 is in its path",
	} {
		i := slices.IndexFunc(strings.Split(rejected, "\n"), func(line string) bool {
			return strings.HasPrefix(line, prefix+" ") && strings.Contains(line, reason)
		})
		if i < 0 {
			t.Errorf("no line with %s and %q in:\n%s", prefix, reason, rejected)
		}
	}
	for which, want := range map[string]string{"accepted": "10.10.194.128/26", "advertised": "10.10.40.128/26", "received": "10.98.0.0/24"} {
		if out := one.must("show", "peers", "192.168.170.138", "--routes", which); missing(out, want) != "" || which != "received" && strings.Count(out, "\n") != 2 {
			t.Errorf("%s:\n%s", which, out)
		}
	}
	if out := one.must("show", "routes", "--bgp"); missing(out, "* 10.10.194.128/26") != "" || missing(out, "* 10.10.40.128/26") != "" || missing(out, "told to nodes\n") != "" || strings.Contains(out, "communit") || strings.Contains(out, "10.99.0.0") {
		t.Errorf("show routes --bgp:\n%s", out)
	}
	// A loop alone is what loops are looked for.
	l.say(r, router.Update(prefixes("10.10.40.128/26", "10.10.194.128/27", "10.10.0.0/16", "0.0.0.0/0", "10.99.0.0/24"), nil))
	one.up(1)
	if out := one.must("status"); missing(out, "two: 1 route rejected, 10.98.0.0/24: a loop: this node's AS 64512 is in its path (netd show peers two --routes rejected)") != "" {
		t.Errorf("status:\n%s", out)
	}
	for _, bad := range [][]string{{"show", "peers", "--routes", "received"}, {"show", "peers", "two", "--routes", "all"}, {"show", "peers", "nobody", "--routes", "received"}} {
		if out, code := one.ask(bad...); code != 64 {
			t.Errorf("%v: exit code %d: %s", bad, code, out)
		}
	}
	l.wait("the route that may be", func() string { return missing(one.routes("10.10.194.128/26"), "via") })
	if got := strings.TrimSpace(one.Run(t, "ip route show proto 142 type unicast")); strings.Count(got, "via") != 1 {
		t.Errorf("the kernel has more than one route by a next hop:\n%s", got)
	}
	// A loop takes the place of what was told of that prefix before: it is the way that the neighbour has now. One is in a set.
	for _, loop := range [][]byte{router.ASPath(65001, 64512), router.Attribute(router.Transitive, 2, 1, 1, 0, 0, 0xfc, 0)} {
		l.say(r, router.Update(nil, slices.Concat(router.Origin(), loop, router.NextHop(two.addr), router.LocalPref(100)), prefixes("10.10.194.128/26")...))
		l.wait("the route of a way that came back to go", func() string { return one.routes("10.10.194.128/26") })
		if out := one.must("show", "peers", "two", "--routes", "rejected"); missing(out, "10.10.194.128/26") != "" || strings.Count(out, "a loop: this node's AS 64512 is in its path") != 2 {
			t.Errorf("rejected after %v:\n%s", loop, out)
		}
		l.say(r, router.Announce(two.addr, nil, prefixes("10.10.194.128/26")...))
		l.wait("the route of a way that does not", func() string { return missing(one.routes("10.10.194.128/26"), "via") })
	}
}

// TestWords has sessions that cannot come up, each for a reason, which status and show peers name.
func TestWords(t *testing.T) {
	netns.Need(t)
	for _, x := range []struct {
		name     string
		password string // of the file
		conf     func(*session)
		want     string
	}{
		{"frr: another AS", "", func(s *session) { s.as = 65002 }, "AS 65002 offered, 64512 expected"},
		{"frr: it has another password", "secret", func(s *session) { s.password = "other" }, "MD5 mismatch or wrong address"},
		{"another AS", "", func(s *session) { s.as = 65002 }, "AS 65002 offered, 64512 expected"},
		{"it expects another AS", "", func(s *session) { s.netdAS = 65002 }, "it may expect another AS"},
		{"it sends no keepalives", "", func(s *session) { s.hold = -1 }, "asks for a hold time of 0"},
		{"it has a password", "", func(s *session) { s.password = "secret" }, "MD5 mismatch or wrong address"},
		{"it has no password", "secret", func(s *session) { s.password = "" }, "MD5 mismatch or wrong address"},
		{"it sends no TTL of 255", "", func(s *session) { s.ttlSecurity = false }, "one end drops the other's packets for their TTL (ttl_security), or it hangs"},
		{"it has another password", "secret", func(s *session) { s.password = "other" }, "MD5 mismatch or wrong address"},
	} {
		t.Run(x.name, func(t *testing.T) {
			config, s := twoNodes, nodeTwo(120)
			if s.password = x.password; s.password != "" {
				file := filepath.Join(t.TempDir(), "password")
				if err := os.WriteFile(file, []byte(s.password+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				config = strings.Replace(config, "bgp {\n", fmt.Sprintf("bgp {\n  password_file = %q\n", file), 1)
			}
			l := newLab(t, config)
			one, two := l.host("one", "192.168.170.137/24"), l.host("two", "192.168.170.138/24")
			l.container("web")
			one.start()
			wrong := s
			x.conf(&wrong)
			program := router.BIRD
			if strings.HasPrefix(x.name, "frr: ") {
				program = router.FRR
			}
			r := router.New(t, program, two.NS, wrong.conf(program))
			l.wait("the words in status", func() string { return missing(one.degraded("status"), x.want) })
			l.wait("the words in show peers", func() string { return missing(one.must("show", "peers"), x.want) })
			if program == router.BIRD { // it behaves now
				r.Configure(s.conf(program))
			} else {
				r.Kill()
				r.Write(s.conf(program))
				r.Start()
			}
			one.up(1)
		})
	}
}

// TestDying kills the speaker three times: status is DEGRADED and shows what it wrote last, until a minute has passed since the first
// of these deaths.
func TestDying(t *testing.T) {
	l := newLab(t, twoNodes)
	one := l.host("one", "192.168.170.137/24")
	l.container("web")
	one.start()
	begin := time.Now()
	for range 3 {
		l.wait("a speaker", func() string {
			if one.speaker() == 0 {
				return "none"
			}
			return ""
		})
		pid := one.speaker()
		one.killSpeaker()
		l.wait("its end to be noticed", func() string {
			if one.speaker() == pid {
				return "it is still named"
			}
			return ""
		})
	}
	out := ""
	l.wait("DEGRADED", func() string {
		out = one.degraded("status")
		return missing(out, "the BGP speaker does not hold its sessions: it died 3 times in the last minute")
	})
	if missing(out, "speaker ready") != "" {
		t.Errorf("status does not show what the speaker wrote last:\n%s", out)
	}
	l.within(90*time.Second, "it to be forgotten", func() string { return differs(one.status().SpeakerError, "") })
	if took := time.Since(begin); took < time.Minute { // the first began after that, however long it took until status was asked
		t.Errorf("it was forgotten %s after the first death at most", took)
	}
}

// TestDyingExternal has someone else start the speaker, as systemd does where netd is a package, and kills it three times: status is
// DEGRADED and shows the journal's last lines of it.
func TestDyingExternal(t *testing.T) {
	l := newLab(t, twoNodes)
	one := l.host("one", "192.168.170.137/24")
	l.container("web")
	bin := t.TempDir()
	journal := "#!/bin/sh\ncase \" $* \" in *\" --unit=netd-speaker.service \"*) printf 'speaker ready\\npanic: of a message\\n\\ngoroutine 7 [running]:\\n'; seq -f 'frame %g' 20 ;; *) exit 1 ;; esac\n"
	if err := errors.Join(os.WriteFile(filepath.Join(bin, "journalctl"), []byte(journal), 0o755), os.MkdirAll(filepath.Join(one.run(), "speaker"), 0o700)); err != nil {
		t.Fatal(err)
	}
	one.env, one.args = []string{"PATH=" + bin + ":" + os.Getenv("PATH")}, []string{"--speaker", "external"}
	one.start()
	for i := range 4 {
		cmd := one.command("speaker", "--dir", filepath.Join(one.run(), "speaker"))
		if err := one.Start(cmd); err != nil {
			t.Fatal(err)
		}
		end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
		t.Cleanup(end)
		l.wait("the speaker to be adopted", func() string {
			if pid := one.speaker(); pid != cmd.Process.Pid {
				return fmt.Sprintf("%d is, not %d", pid, cmd.Process.Pid)
			}
			return ""
		})
		if i < 3 {
			end()
		}
	}
	l.wait("DEGRADED", func() string {
		out := one.degraded("status")
		return missing(out, "it died 3 times in the last minute") + missing(out, "panic: of a message")
	})
}
