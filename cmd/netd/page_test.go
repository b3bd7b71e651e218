package main

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"netd/reconcile"
)

// TestFolded: a line breaks between words, keeps its colours, and loses nothing but blanks.
func TestFolded(t *testing.T) {
	for in, want := range map[string]string{
		"a route that fits\n":                                         "a route that fits\n",
		"  Write each of several on a line of its own\n":              "  Write each of several on a line of\n    its own\n",
		"\x1b[32m  + link   vxlan.netd  vxlan, vni 4096, up\x1b[0m\n": "\x1b[32m  + link   vxlan.netd  vxlan, vni\n    4096, up\x1b[0m\n",
		"    1 | blocks = [\"10.10.40.160/27\", \"10.11.0.0/26\"]\n":  "    1 | blocks = [\"10.10.40.160/27\", \"10.11.0.0/26\"]\n",
		"0123456789012345678901234567890123456789\n":                  "0123456789012345678901234567890123456789\n",
	} {
		if got := folded(in, 36); got != want {
			t.Errorf("%q\nbecomes %q\nwant    %q", in, got, want)
		}
	}
}

// TestNarrowPlan: a plan on a terminal of 80 columns keeps every value and leaves out the causes that do not fit; elsewhere it
// has everything on one line.
func TestNarrowPlan(t *testing.T) {
	changes := []changeView{
		{Op: "create", Kind: "nft", Name: "inet netd set inside element 192.168.170.137", Because: reconcile.Cause{Text: "guards"}},
		{Op: "create", Kind: "route", Name: "10.10.194.128/26", Text: "via 10.10.194.128 dev vxlan.netd onlink", Because: reconcile.Cause{Text: "node baihl-node"}},
		{Op: "create", Kind: "route", Name: "@file/nginx-master/169.254.1.1/32", Text: "dev eth0 scope link", Because: reconcile.Cause{Text: "workload nginx-master"}},
		{Op: "delete", Kind: "route", Name: "10.10.77.0/26", Text: "blackhole", Because: reconcile.Cause{Text: "no node has it"}},
	}
	for width, want := range map[int]string{
		0: `
  + nft    inet netd set inside element 192.168.170.137                                           # guards
  + route  10.10.194.128/26                              via 10.10.194.128 dev vxlan.netd onlink  # node baihl-node
  + route  @file/nginx-master/169.254.1.1/32             dev eth0 scope link                      # workload nginx-master
  - route  10.10.77.0/26                                 blackhole                                # no node has it
`,
		80: `
  + nft    inet netd set inside element 192.168.170.137    # guards
  + route  10.10.194.128/26  via 10.10.194.128 dev vxlan.netd onlink
  + route  @file/nginx-master/169.254.1.1/32  dev eth0 scope link
  - route  10.10.77.0/26                      blackhole
`,
	} {
		var out bytes.Buffer
		if left := writeChanges(page{Writer: &out, width: width}, changes, true); left != (width > 0) {
			t.Errorf("%d columns: a cause is left out: %v", width, left)
		}
		if got := "\n" + out.String(); got != want {
			t.Errorf("%d columns:%s\nwant:%s", width, got, strings.ReplaceAll(want, " ", "·"))
		}
	}
}

// TestNarrowTable: what does not fit beside the other columns stands in further lines of the row, each cell whole or broken
// between words below its own beginning; elsewhere each row is one line.
func TestNarrowTable(t *testing.T) {
	rows := [][]string{
		{"KIND", "NAME", "WHAT", "BECAUSE"},
		{"link", "vxlan.netd", "vxlan, vni 4096, port 4789, local 192.168.170.137 dev ens33, mtu 1450, up", "network lab"},
		{"nft", "inet netd set nodes element 192.168.170.138", "", "node baihl-node"},
		{"route", "10.10.194.128/26", "via 10.10.194.128 dev vxlan.netd onlink", "node baihl-node"},
	}
	for width, want := range map[int]string{
		0: `
KIND   NAME                                         WHAT                                     BECAUSE
link   vxlan.netd                                   vxlan, vni 4096, port 4789, local 192.168.170.137 dev ens33, mtu 1450, up  network lab
nft    inet netd set nodes element 192.168.170.138                                           node baihl-node
route  10.10.194.128/26                             via 10.10.194.128 dev vxlan.netd onlink  node baihl-node
`,
		80: `
KIND   NAME
    WHAT                                     BECAUSE
link   vxlan.netd
    vxlan, vni 4096, port 4789, local 192.168.170.137 dev ens33, mtu 1450, up
                                             network lab
nft    inet netd set nodes element 192.168.170.138
                                             node baihl-node
route  10.10.194.128/26
    via 10.10.194.128 dev vxlan.netd onlink  node baihl-node
`,
		60: `
KIND   NAME
    WHAT                                     BECAUSE
link   vxlan.netd
    vxlan, vni 4096, port 4789, local 192.168.170.137 dev
    ens33, mtu 1450, up
                                             network lab
nft    inet netd set nodes element 192.168.170.138
                                             node baihl-node
route  10.10.194.128/26
    via 10.10.194.128 dev vxlan.netd onlink  node baihl-node
`,
	} {
		var out bytes.Buffer
		table(page{Writer: &out, width: width}, rows)
		if got := "\n" + out.String(); got != want {
			t.Errorf("%d columns:%s\nwant:%s", width, got, strings.ReplaceAll(want, " ", "·"))
		}
	}
}

// TestLegible: what a stranger has named is spelled out, and no terminal obeys it; netd's own colours are.
func TestLegible(t *testing.T) {
	for in, want := range map[string]string{
		"ens33\n":                                            "ens33\n",
		red + "DEGRADED" + plain + ":\tens33\n":              red + "DEGRADED" + plain + ":\tens33\n",
		"both ens33 and ev\x1b]0;x\a hold it\n":              "both ens33 and ev\\x1b]0;x\\a hold it\n",
		clearScreen + "In sync" + clearScreen + "\r" + "x\n": clearScreen + "In sync\\x1b[H\\x1b[2J\\x1b[3J\\rx\n",
		"c1 \u009b2J\n":                                      "c1 \\u009b2J\n",
		"web\u202e 1.2.3.4\u2066 контейнер\n":                "web\\u202e 1.2.3.4\\u2066 контейнер\n", // it would turn the line around
	} {
		var out strings.Builder
		if _, err := (page{Writer: &out}).Write([]byte(in)); err != nil || out.String() != want {
			t.Errorf("%q is written as %q, want %q (%v)", in, out.String(), want, err)
		}
	}
}

// TestTableFits: whatever the cells and the width, no word is lost, their order stays, and no line is wider than the screen that
// needs not be: one whose words fit.
func TestTableFits(t *testing.T) {
	words := strings.Fields("netd route 10.10.194.128/26 via fd10:0:0:2::/64 Established a, b workload-of-a-long-name up 1")
	pick := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		rows := make([][]string, 1+pick.IntN(5))
		columns := 1 + pick.IntN(8)
		var want []string
		for r := range rows {
			rows[r] = make([]string, columns)
			for c := range rows[r] {
				cell := make([]string, pick.IntN(9))
				for k := range cell {
					cell[k] = words[pick.IntN(len(words))]
				}
				rows[r][c] = strings.Join(cell, " ")
				want = append(want, cell...)
			}
		}
		width := 40 + pick.IntN(100)
		var out bytes.Buffer
		table(page{Writer: &out, width: width}, rows)
		if got := strings.Fields(out.String()); !slices.Equal(got, want) {
			t.Fatalf("%d columns: %q becomes\n%s", width, rows, &out)
		}
		for line := range strings.Lines(out.String()) {
			if n := len(strings.TrimRight(line, "\n")); n > width {
				t.Fatalf("a line of %d in %d columns: %q becomes\n%s", n, width, rows, &out)
			}
		}
	}
}
