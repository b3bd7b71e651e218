package bgp

import (
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"netd/testenv/console"
	"netd/testenv/router"
)

// wordsTable is the table of a section of a page: its rows' cells, without the head.
func wordsTable(t *testing.T, name, title string) [][]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for _, x := range console.Sections(string(b)) {
		for line := range strings.Lines(x.Text) {
			if line = strings.TrimSpace(line); x.Title == title && strings.HasPrefix(line, "|") {
				const pipe = "\x00" // one in a cell
				cells := strings.Split(strings.Trim(strings.ReplaceAll(line, `\|`, pipe), "|"), "|")
				for i := range cells {
					cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], pipe, "|"))
				}
				rows = append(rows, cells)
			}
		}
	}
	if len(rows) < 3 {
		t.Fatalf("%s has no table in %q", name, title)
	}
	return rows[2:]
}

// TestSameWords types what the page has for those who know BIRD and FRR: each word at a BIRD, an FRR and a netd that speak with each other.
// None may be refused, and each shows what its row is about.
func TestSameWords(t *testing.T) {
	const page, title = "reference-bgp.md", "The words of BIRD and FRR"
	file := func(more string) string {
		return strings.Replace(fmt.Sprintf(rackFile, `
peer "tor-a" {
  address = "192.168.170.1"
  asn     = 65101
  import  = ["172.30.0.0/16 le 24"]
}
peer "tor-b" {
  address = "192.168.170.2"
  asn     = 65102
  import  = ["172.30.0.0/16 le 24"`+more+`]
}`), `["10.10.40.128/26"]`, `["10.10.40.128/26", "10.10.41.0/26"]`, 1)
	}
	l := newLab(t, file(""))
	l.container("web")
	node := l.host("node", "192.168.170.137/24")
	// The routers refuse one of netd's two blocks, and netd one of what each tells.
	conf := map[router.Program]func(more ...string) string{
		router.FRR: func(more ...string) string {
			s := session{as: 65101, netdAS: 64512, id: "192.168.170.1", netd: "192.168.170.137", restart: 60, announce: append([]string{"172.30.1.0/24", "172.31.1.0/24"}, more...)}
			return "ip prefix-list SOME seq 5 permit 10.10.40.128/26\n" + strings.Replace(s.conf(router.FRR), " exit-address-family",
				"  neighbor 192.168.170.137 soft-reconfiguration inbound\n  neighbor 192.168.170.137 prefix-list SOME in\n exit-address-family", 1)
		},
		router.BIRD: func(more ...string) string {
			s := session{as: 65102, netdAS: 64512, id: "192.168.170.2", netd: "192.168.170.137", restart: 60, announce: append([]string{"172.30.2.0/24", "172.31.2.0/24"}, more...)}
			return strings.Replace(s.conf(router.BIRD), "import all; export where",
				"import keep filtered on; import where net = 10.10.40.128/26; export where", 1)
		},
	}
	frr := router.New(t, router.FRR, l.host("tor-a", "192.168.170.1/24").NS, conf[router.FRR]())
	bird := router.New(t, router.BIRD, l.host("tor-b", "192.168.170.2/24").NS, conf[router.BIRD]())
	node.start()
	known := func() {
		t.Helper()
		node.up(2)
		l.wait("all that is told", func() string {
			return missing(frr.Ask("show bgp ipv4 unicast"), "10.10.40.128/26") + missing(bird.Ask("show route"), "10.10.40.128/26") +
				missing(node.must("show", "peers", "tor-a", "--routes", "received"), "172.30.1.0/24") + missing(node.must("show", "peers", "tor-b", "--routes", "received"), "172.30.2.0/24")
		})
	}
	known()
	shell := node.shell()
	speaker := "unix://" + filepath.Join(node.run(), "speaker", "speaker.sock")
	if err := os.Symlink(gobgp(t), filepath.Join(shell.Dir, "gobgp")); err != nil {
		t.Fatal(err)
	}

	// What each column is typed at, and what stands there for the names that are everybody's own.
	draft := t.TempDir()
	columns := []struct {
		name  string
		typed func(line string) (string, error)
		names []string
		other []string // programs of their own in the column
	}{
		{"birdc", bird.Type, []string{"NAME", "netd", "FILE", filepath.Join(draft, "bird")}, []string{"ip"}},
		{"vtysh", frr.Type, []string{"A.B.C.D", "192.168.170.137", "FILE", filepath.Join(draft, "frr")}, []string{"ip", "frr-reload.py"}},
		{"netd", func(line string) (string, error) { return shell.Run(t, line) }, []string{"NAME", "tor-b", "A.B.C.D", "192.168.170.2", "FILE", filepath.Join(draft, "netd.hcl"), "unix:///run/netd/speaker/speaker.sock", speaker}, []string{"ip", "netd", "gobgp"}},
	}
	// Words that are no commands but stand in a configuration that the column's program has here.
	settings := map[string]string{"import keep filtered on": conf[router.BIRD](), "soft-reconfiguration inbound": conf[router.FRR]()}

	next := func(n int) {
		for name, text := range map[string]string{"bird": "log stderr all;\n" + conf[router.BIRD](fmt.Sprintf("172.30.2%d.0/24", n)), "frr": conf[router.FRR](fmt.Sprintf("172.30.1%d.0/24", n)),
			"netd.hcl": strings.ReplaceAll(file(fmt.Sprintf(`, "172.31.%d.0/24"`, n)), "LAB", l.id)} {
			if err := os.WriteFile(filepath.Join(draft, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	received := func(peer, prefix string) string {
		return missing(node.must("show", "peers", peer, "--routes", "received"), prefix)
	}
	addrs, since := []netip.Addr{netip.MustParseAddr("192.168.170.1"), netip.MustParseAddr("192.168.170.2")}, [2]any{}
	// What each row shows, by column: all of these, of each of its commands. An empty one: the row has no word there.
	rows := map[string]struct {
		before func()
		shows  [3][]string
		after  func()
	}{
		"sessions": {shows: [3][]string{{`(?m)^netd +BGP .* Established`}, {`(?m)^192\.168\.170\.137 +4 +64512 `}, {`(?m)^ *tor-b .*established `}}},
		"one session, and why it is down": {
			before: func() { // nothing comes through for the hold time
				for _, command := range []string{"add table ip silent", "add chain ip silent in { type filter hook input priority 0; }", "add chain ip silent out { type filter hook output priority 0; }",
					"add rule ip silent in meta l4proto tcp drop", "add rule ip silent out meta l4proto tcp drop"} {
					node.Run(t, "nft "+command)
				}
				l.wait("all hold timers to expire", func() string {
					return differs(fmt.Sprint(strings.Count(node.must("show", "peers"), "hold timer expired")), "2") +
						missing(frr.Ask("show bgp neighbors 192.168.170.137"), "Hold Timer Expired") + missing(bird.Ask("show protocols all netd"), "Hold timer expired")
				})
			},
			shows: [3][]string{{`Last error: .*Hold timer expired`}, {`Last reset .*Hold Timer Expired`}, {`"name": "tor-b"`, `"state": "(active|connect|idle)"`, `"error": ".*hold timer expired`}},
			after: func() { node.Run(t, "nft delete table ip silent"); known() },
		},
		"what it told":             {shows: [3][]string{{`(?m)^10\.10\.40\.128/26 `}, {`10\.10\.40\.128/26`, `10\.10\.41\.0/26`}, {`(?m)^172\.30\.2\.0/24 `, `(?m)^172\.31\.2\.0/24 .* its import list does not have it`}}},
		"what of that was refused": {shows: [3][]string{{`(?m)^10\.10\.41\.0/26 `}, {`10\.10\.41\.0/26`}, {`(?m)^172\.31\.2\.0/24 `}}},
		"… and why":                {shows: [3][]string{nil, nil, {`(?m)^172\.31\.2\.0/24 .* its import list does not have it`}}},
		"what it is told":          {shows: [3][]string{{`172\.30\.2\.0/24`, `172\.31\.2\.0/24`}, {`172\.30\.1\.0/24`, `172\.31\.1\.0/24`}, {`10\.10\.40\.128/26`, `10\.10\.41\.0/26`}}},
		"the table, with attributes": {shows: [3][]string{{`10\.10\.40\.128/26`, `BGP\.as_path: 64512`, `172\.30\.2\.0/24`}, {`10\.10\.40\.128/26`, `172\.30\.1\.0/24`},
			{`\* 10\.10\.40\.128/26`, `\* 172\.30\.2\.0/24 .* path 65102`}}},
		"one prefix of it": {shows: [3][]string{{`10\.10\.40\.128/26`, `BGP\.as_path: 64512`}, {`10\.10\.40\.128/26`, `64512`, `from 192\.168\.170\.137`}, {`172\.30\.2\.0/24 .* path 65102`}}},
		"in the kernel":    {shows: [3][]string{{`10\.10\.40\.128/26 via 192\.168\.170\.137`}, {`10\.10\.40\.128/26 .*via 192\.168\.170\.137`}, {`172\.30\.2\.0/24 +via 192\.168\.170\.2 dev eth0`}}},
		"what a change would do": {before: func() { next(1) },
			shows: [3][]string{{`Configuration OK`}, {`network 172\.30\.11\.0/24`}, {`import .*172\.31\.1\.0/24`, `Plan: 0 to add, 1 to change`}},
			after: func() {
				if received("tor-a", "172.30.11.0/24") == "" || received("tor-b", "172.30.21.0/24") == "" {
					t.Error("looking at a change makes it")
				}
			}},
		"a session begun anew": {
			before: func() { since = [2]any{node.sinceOf(addrs[0]), node.sinceOf(addrs[1])} },
			shows:  [3][]string{{`netd: restarted`}, {``}, {``}},
			after: func() {
				l.wait("both sessions to be others", func() string {
					for i, a := range addrs {
						if now := node.sinceOf(a); now == since[i] {
							return fmt.Sprint(a, now)
						}
					}
					return ""
				})
				known()
			},
		},
		"a new configuration": {before: func() { next(2); bird.Write(conf[router.BIRD]("172.30.22.0/24")); l.write(file(`, "172.31.2.0/24"`)) },
			shows: [3][]string{{`Reconfigured`}, {``}, {`.`}},
			after: func() {
				l.wait("what the new configurations have", func() string {
					return received("tor-a", "172.30.12.0/24") + received("tor-b", "172.30.22.0/24") + missing(node.must("show", "peers", "tor-b", "--routes", "accepted"), "172.31.2.0/24")
				})
			}},
	}

	unknown := regexp.MustCompile(`(?mi)^%|syntax error|unknown command|not a bgp|unexpected|no protocols match|not enabled|usage:|unknown flag|no such file|Traceback`)
	missed := maps.Clone(rows)
	for _, row := range wordsTable(t, page, title) {
		want, ok := rows[row[0]]
		if delete(missed, row[0]); !ok || len(row) != 4 {
			t.Errorf("nothing here shows the row %q", row[0])
			continue
		}
		if want.before != nil {
			want.before()
		}
		for i, x := range columns {
			typed := 0
			for _, m := range regexp.MustCompile("`([^`]*)`").FindAllStringSubmatch(row[1+i], -1) {
				if text, ok := settings[m[1]]; ok {
					if !strings.Contains(text, m[1]) {
						t.Errorf("%s, %s: %s has no %q", row[0], x.name, x.name, m[1])
					}
					continue
				}
				line := strings.NewReplacer(x.names...).Replace(m[1])
				if program, _, _ := strings.Cut(line, " "); !slices.Contains(x.other, program) {
					if x.name == "vtysh" {
						line = "-c '" + line + "'"
					} else {
						line = strings.ReplaceAll(line, `"`, `\"`)
					}
					line = x.name + " " + line
				}
				typed++
				out, err := x.typed(line)
				if m := unknown.FindString(out); err != nil || m != "" {
					t.Errorf("%s: %s is refused: %q, %v\n%s", row[0], line, m, err, out)
				}
				for _, shows := range want.shows[i] {
					if !regexp.MustCompile(shows).MatchString(out) {
						t.Errorf("%s: %s shows no %s:\n%s", row[0], line, shows, out)
					}
				}
			}
			if (typed == 0) != (len(want.shows[i]) == 0) {
				t.Errorf("%s, %s: %d commands are there: %s", row[0], x.name, typed, row[1+i])
			}
		}
		if want.after != nil {
			want.after()
		}
	}
	for what := range missed {
		t.Errorf("the page has no row %q any more", what)
	}
}
