package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"netd/testenv/router"
	"netd/testenv/stream"
)

// TestPeerAttributes walks a session with each program through what a peer block says: what the router is told and what
// is taken from it, and after each edit of the file that the session lived on, or was reset where the plan said so. A stream by way
// of another router loses nothing of all of it.
func TestPeerAttributes(t *testing.T) {
	for _, program := range []router.Program{router.BIRD, router.FRR} {
		t.Run(string(program), func(t *testing.T) { peerAttributes(t, program) })
	}
}

func peerAttributes(t *testing.T, program router.Program) {
	theirs := filepath.Join(t.TempDir(), "others") // the other's password, which stays
	if err := os.WriteFile(theirs, []byte("others\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(body string) string {
		return fmt.Sprintf(rackFile, `
peer "other" {
  address       = "192.168.170.2"
  asn           = 65102
  import        = ["10.64.0.0/16 le 32"]
  password_file = "`+theirs+`"
}
peer "tor" {
  address = "192.168.170.1"
  asn     = 65101
`+body+`
}`)
	}
	l := newLab(t, file(`
  import      = ["172.16.0.0/12 le 24", "10.0.0.0/8 le 28"]
  communities = ["65000:1", "65000:1:2", "no-peer"]
  prepend     = 2`))
	l.container("web")
	node, tor, other := l.host("node", "192.168.170.137/24"), l.host("tor", "192.168.170.1/24"), l.host("other", "192.168.170.2/24")
	s := session{restart: 60, as: 65101, netdAS: 64512, id: "192.168.170.1", netd: "192.168.170.137", announce: []string{
		"172.30.0.0/24", "172.30.1.0/25", "172.32.0.0/24", "10.99.0.0/24", "10.0.0.0/8", "10.10.40.128/28", "192.0.2.0/24", "0.0.0.0/0"}}
	r := router.New(t, program, tor.NS, s.conf(program))
	far := netip.MustParseAddr("10.64.0.9") // beyond the other
	other.Run(t, "ip addr add 10.64.0.9/32 dev lo")
	o := session{restart: 60, password: "others", as: 65102, netdAS: 64512, id: "192.168.170.2", netd: "192.168.170.137", announce: []string{"10.64.0.9/32"}}
	bird := router.New(t, router.BIRD, other.NS, o.conf(router.BIRD))
	node.start()
	node.up(2)

	learned := func(want ...string) {
		t.Helper()
		l.wait("the routes learned", func() string {
			var got []string
			for _, line := range strings.Split(node.Run(t, "ip route show proto 142"), "\n") {
				if strings.Contains(line, "via 192.168.170.1 ") {
					got = append(got, strings.Fields(line)[0])
				}
			}
			return differs(strings.Join(got, " "), strings.Join(want, " "))
		})
	}
	told := func(parts ...string) {
		t.Helper()
		l.wait("what the router is told", func() string {
			out := inWords(r, "10.10.40.128/26")
			for _, p := range parts {
				if m := missing(out, p); m != "" {
					return m
				}
			}
			return ""
		})
	}
	learned("10.99.0.0/24", "172.30.0.0/24")
	told("path 64512 64512 64512", "next hop 192.168.170.137", "community 65000:1 65535:65284", "large 65000:1:2\n")
	l.wait("the plain announcement to the other", func() string {
		out := inWords(bird, "10.10.40.128/26")
		return differs(out, "path 64512\nnext hop 192.168.170.137\ncommunity\nlarge\n")
	})
	if out := node.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan after that:\n%s", out)
	}

	// What goes by way of the other loses nothing of all that follows, neither while a password is wrong nor when it is right again.
	l.wait("the other's route", func() string { return missing(node.routes("10.64.0.9"), "via 192.168.170.2") })
	beside := stream.Start(t, node.NS, node.addr, other.NS, far, time.Millisecond)
	beside.Flowing(t)

	// since are the moments at which the two sessions came up.
	since := func() [2]time.Time {
		t.Helper()
		var out [2]time.Time
		for _, p := range node.status().Peers {
			switch p.Addr.String() {
			case "192.168.170.1":
				out[0] = p.Since
			case "192.168.170.2":
				out[1] = p.Since
			}
		}
		return out
	}
	// edit changes the peer block. The plan for it says before whether the session will be reset.
	draft := filepath.Join(filepath.Dir(l.file), "draft.hcl")
	edit := func(what string, body string, reset bool) {
		t.Helper()
		before := since()
		if err := os.WriteFile(draft, []byte(strings.ReplaceAll(file(body), "LAB", l.id)), 0o644); err != nil {
			t.Fatal(err)
		}
		plan := node.must("plan", "-c", draft)
		if said := strings.Contains(plan, "the session with 192.168.170.1 (peer tor) is reset"); said != reset || regexp.MustCompile(`(peer +|with )192\.168\.170\.2`).MatchString(plan) {
			t.Errorf("%s: the plan says of a reset %v, want %v:\n%s", what, said, reset, plan)
		}
		l.write(file(body))
		node.must("reload")
		if reset { // the speaker does it, and what it did is known a moment later
			l.wait(what+": another session", func() string {
				if since()[0] == before[0] {
					return node.must("show", "peers")
				}
				return ""
			})
		}
		node.upSince(2, time.Time{})
		after := since()
		if before[1] != after[1] {
			t.Errorf("%s: the other session was reset", what)
		}
		if (before[0] != after[0]) != reset {
			t.Errorf("%s: reset %v, want %v", what, before[0] != after[0], reset)
		}
	}
	edit("other communities, less prepends", `
  import      = ["172.16.0.0/12 le 24", "10.0.0.0/8 le 28"]
  communities = ["65000:7"]
  prepend     = 1`, false)
	told("path 64512 64512\n", "community 65000:7\n", "large\n")

	edit("a shorter import list", `
  import      = ["172.16.0.0/12 le 24"]`, false)
	learned("172.30.0.0/24")
	told("path 64512\n", "community\n")

	edit("a longer import list, in another order", `
  import      = ["172.30.1.0/25", "10.99.0.0/24", "172.16.0.0/12 le 24", "192.0.2.0/24"]`, false)
	learned("10.99.0.0/24", "172.30.0.0/24", "172.30.1.0/25", "192.0.2.0/24")

	edit("an export list without the block", `
  import      = ["172.16.0.0/12 le 24"]
  export      = ["10.10.99.0/26"]`, false)
	l.wait("the block withdrawn", func() string {
		if out := inWords(r, "10.10.40.128/26"); strings.Contains(out, "64512") {
			return out
		}
		return ""
	})
	if out := inWords(bird, "10.10.40.128/26"); !strings.Contains(out, "path 64512") {
		t.Errorf("the other lost it too:\n%s", out)
	}

	edit("an export list with the block", `
  import      = ["172.16.0.0/12 le 24"]
  export      = ["10.10.0.0/16 le 26"]
  hold_time   = "30s"
  max_prefixes = 2000`, false)
	told("path 64512\n")

	edit("the default route", `
  import        = ["172.16.0.0/12 le 24"]
  export        = ["10.10.0.0/16 le 26"]
  default_route = true`, false)
	learned("default", "172.30.0.0/24")
	edit("a preference", `
  import     = ["172.16.0.0/12 le 24"]
  export     = ["10.10.0.0/16 le 26"]
  local_pref = 300`, false)
	learned("172.30.0.0/24")
	l.wait("the preference in the table", func() string { return missing(node.must("show", "routes", "--bgp"), "path 65101, local pref 300") })
	// gobgp does not withdraw what a router was told of others': a new session does.
	edit("less of others", `
  import = ["172.16.0.0/12 le 24"]`, true)
	told("path 64512\n")

	// A password, and another one, which the file does not show: the session comes back with the router's.
	secret := filepath.Join(filepath.Dir(l.file), "secret")
	for i, password := range []string{"first", "second"} {
		before := since()
		_ = os.Remove(secret) // whose mode was spoilt
		if err := os.WriteFile(secret, []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			signed := file(`
  import        = ["172.16.0.0/12 le 24"]
  password_file = "` + secret + `"`)
			if err := os.WriteFile(draft, []byte(strings.ReplaceAll(signed, "LAB", l.id)), 0o644); err != nil {
				t.Fatal(err)
			}
			if out := node.must("plan", "-c", draft); missing(out, "the session with 192.168.170.1 (peer tor) is reset: password (changed)") != "" {
				t.Errorf("the plan of a password:\n%s", out)
			}
			l.write(signed)
		}
		if i > 0 { // the router has the old one still
			l.wait("the words of a wrong password", func() string { return missing(node.degraded("status"), "MD5 mismatch or wrong address") })
		}
		s.password = password
		if program == router.BIRD {
			r.Configure(s.conf(program))
		} else {
			r.Ask("configure terminal", "router bgp 65101", "neighbor 192.168.170.137 password "+password)
		}
		l.wait("a session with the password "+password, func() string {
			if after := since(); after[0] == before[0] || after[1] != before[1] {
				return fmt.Sprint(before, after)
			}
			return differs(fmt.Sprint(up(node.status())), "2")
		})
		told("path 64512\n")
		if i > 0 {
			continue
		}
		// What cannot be read, is half written, or others may read changes nothing of a session that has its password.
		for _, spoil := range []func() error{
			func() error { return os.Remove(secret) },
			func() error { return os.WriteFile(secret, nil, 0o600) },
			func() error {
				return errors.Join(os.WriteFile(secret, []byte(password+"\n"), 0o600), os.Chmod(secret, 0o644))
			},
			func() error { node.kill(); node.start(); return nil }, // who restarts the daemon then has not read it at all
		} {
			before := since()
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			l.wait("words", func() string {
				out := node.degraded("status")
				return missing(out, "reading the password: ") + missing(out, secret) + missing(out, "; sessions that have one keep it\n")
			})
			l.within(20*time.Second, "both sessions as they were", func() string { return differs(fmt.Sprint(since()), fmt.Sprint(before)) })
		}
	}
	if got := beside.Stop(); got.Lost != 0 || got.Sent < 1000 {
		t.Errorf("the stream by way of the other: %s", got)
	} else {
		t.Log(got)
	}
	if out := node.must("status") + node.must("plan") + node.log.String(); strings.Contains(out, "second") {
		t.Error("the password is shown")
	}

	// The same file in another order is the same.
	text, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	first, rest, _ := strings.Cut(string(text), "peer \"other\"")
	otherBlock, rest, _ := strings.Cut(rest, "}\n")
	before := since()
	l.write(first + rest + "peer \"other\"" + otherBlock + "}\n")
	if out := node.must("plan"); !strings.Contains(out, "No changes.") {
		t.Errorf("the plan of the file in another order:\n%s", out)
	}
	node.must("reload")
	if after := since(); after != before {
		t.Error("another order of the file reset a session")
	}

	// What is of the router itself ends all sessions, and the plan says so before.
	text, err = os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(draft, append(text, "bgp {\n  asn = 64513\n}\n"...), 0o644); err != nil {
		t.Fatal(err)
	}
	plan := node.must("plan", "-c", draft)
	for _, words := range []string{"the router changes: asn 64512 -> 64513", "the session with 192.168.170.1 (peer tor) is reset", "the session with 192.168.170.2 (peer other) is reset"} {
		if missing(plan, words) != "" {
			t.Errorf("the plan of another AS: no %q in\n%s", words, plan)
		}
	}
}

// up counts the sessions that are.
func up(s status) int {
	n := 0
	for _, p := range s.Peers {
		if p.State == "established" {
			n++
		}
	}
	return n
}

// inWords is what a router knows of a prefix, in the same words for both programs.
func inWords(r *router.Router, prefix string) string {
	var path, hop, community, large string
	if r.Program == router.BIRD {
		for _, line := range strings.Split(r.Ask("show route all where net =", prefix), "\n") {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			switch name {
			case "BGP.as_path":
				path = value
			case "BGP.next_hop":
				hop = value
			case "BGP.community":
				community = strings.NewReplacer("(", "", ")", "", ",", ":").Replace(value)
			case "BGP.large_community":
				large = strings.NewReplacer("(", "", ")", "", ", ", ":").Replace(value)
			}
		}
	} else {
		lines := strings.Split(r.Ask("show bgp ipv4 unicast "+prefix), "\n")
		for i, line := range lines {
			line = strings.TrimSpace(line)
			switch {
			case strings.HasSuffix(line, "from 192.168.170.137 (192.168.170.137)"):
				hop = strings.Fields(line)[0]
				path = strings.TrimSpace(lines[i-1])
			case strings.HasPrefix(line, "Community: "):
				community = strings.ReplaceAll(strings.TrimPrefix(line, "Community: "), "no-peer", "65535:65284")
			case strings.HasPrefix(line, "Large Community: "):
				large = strings.TrimPrefix(line, "Large Community: ")
			}
		}
	}
	out := ""
	for _, x := range [][2]string{{"path", path}, {"next hop", hop}, {"community", community}, {"large", large}} {
		out += strings.TrimSpace(x[0]+" "+x[1]) + "\n"
	}
	return out
}
