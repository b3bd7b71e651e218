package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const smallest = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "ipip"
}

node "baihl-master" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}

node "baihl-node" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}

workload "nginx-master" {
  node    = "baihl-master"
  address = "10.10.40.129"
  netns   = "/run/netns/nginx"
}
`

func parse(t testing.TB, name, text string, vars map[string]string) (*Config, Diagnostics) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Read(path, vars)
	if err != nil {
		t.Fatal(err)
	}
	return s.Parse()
}

func TestSmallest(t *testing.T) {
	c, ds := parse(t, "netd.hcl", smallest, nil)
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	if n := c.Networks[0]; n.VNI != 4096 || n.Port != 4789 || !n.NATOutgoing || n.Encapsulate != Always || n.MTU != 0 {
		t.Errorf("defaults of the network: %+v", n)
	}
	if b := c.BGP; b.ASN != 64512 || !b.Mesh || b.ListenPort != 179 || b.HoldTime.Seconds() != 9 || b.GracefulRestart.Seconds() != 120 {
		t.Errorf("defaults of bgp: %+v", b)
	}
	w := c.Workloads[0]
	if w.Network != "lab" || w.Interface != "eth0" || w.Addresses[0].String() != "10.10.40.129" {
		t.Errorf("the workload: %+v", w)
	}
	tunnel, ok := c.Tunnel(c.Nodes[0], "lab", false)
	if !ok || tunnel.String() != "10.10.40.128" {
		t.Errorf("the tunnel's address: %v", tunnel)
	}
}

// TestNoFollowers: what only follows from a fault is not reported beside it.
func TestNoFollowers(t *testing.T) {
	for _, mode := range []string{"ipip", "bgp"} {
		for to, want := range map[string]string{`"192.168.170.138"`: "wrong address", `"fe80::1/64"`: "wrong address", `7`: "wrong address", `"192.168.170.137/24"`: "address taken"} {
			text := strings.NewReplacer(`"192.168.170.138/24"`, to, `"ipip"`, `"`+mode+`"`).Replace(smallest)
			_, ds := parse(t, "netd.hcl", text, nil)
			if len(ds) != 1 || ds[0].Summary != `node "baihl-node": `+want {
				t.Errorf("%s, %s: %+v", mode, to, []Diagnostic(ds))
			}
		}
	}
}

// TestUndeclaredVariable: one that is set and that no file declares is told, since its name may be misspelled.
func TestUndeclaredVariable(t *testing.T) {
	_, ds := parse(t, "netd.hcl", smallest, map[string]string{"regoin": "eu"})
	if len(ds) != 1 || ds.HasErrors() || !strings.Contains(ds[0].Detail, `"regoin"`) {
		t.Errorf("%v", ds)
	}
	plain, _ := parse(t, "netd.hcl", smallest, nil)
	if c, _ := parse(t, "netd.hcl", smallest, map[string]string{"regoin": "eu"}); c.Digest != plain.Digest {
		t.Error("a variable that nobody declares makes another configuration")
	}
}

// TestVariables: what is set from outside has the kind of the default.
func TestVariables(t *testing.T) {
	for _, x := range []struct{ def, set, want string }{
		{`"eu"`, "us", ""},
		{`3`, "7", ""},
		{`3`, "seven", "which is no number"},
		{`true`, "false", ""},
		{`["a"]`, `["b", "c"]`, ""},
		{`["a"]`, `b`, "what is no expression"},
		{`["a"]`, `{ b = 1 }`, "which is no list"},
		{`["a"]`, `7`, "which is no list"},
		{`{ a = 1 }`, `{ b = 1 }`, ""},
		{`{ a = 1 }`, `["b"]`, "which is no map"},
	} {
		_, ds := parse(t, "netd.hcl", "variable \"x\" { default = "+x.def+" }\n"+smallest, map[string]string{"x": x.set})
		if x.want == "" && len(ds) > 0 || x.want != "" && (len(ds) != 1 || !strings.Contains(ds[0].Detail, x.want)) {
			t.Errorf("%s set to %s: %+v, want %q", x.def, x.set, []Diagnostic(ds), x.want)
		}
	}
}

// TestFaultyLocal: a fault in a variable or a local hides no other, and what only follows from it is no fault of its own.
func TestFaultyLocal(t *testing.T) {
	const others = "daemon {\n  on_change = \"ask\"\n}\nnode \"baihl-master\" {\n  address = \"192.168.170.137/24\"\n  blocks = []\n}\n"
	for _, x := range []struct{ faulty, replace, with string }{
		{`upper(nothing)`, `"10.10.0.0/16"`, `local.x`},
		{`1 + "a"`, `["10.10.0.0/16"]`, `local.x`},
		{`local.y`, `"ipip"`, `local.x`},
		{`var.none`, `["10.10.194.128/26"]`, `local.x`},
		{`cidrhost("ten", 1)`, `"192.168.170.138/24"`, `"${local.x}/24"`},
		{`cidrhost("ten", 1)`, `"10.10.40.129"`, `local.x`},
		{`[][7]`, `"/run/netns/nginx"`, `local.x`},
		{`[][7]`, "workload \"nginx-master\" {\n  node    = \"baihl-master\"", "workload \"nginx-master\" {\n  node    = local.x"},
		{`[][7]`, "node \"baihl-node\" {", "dynamic \"node\" {\n  for_each = local.x\n  labels = [node.key]\n  content {\n  address = node.value\n  blocks = []\n}\n}\nnode \"baihl-node\" {"},
	} {
		text := strings.Replace(smallest, x.replace, x.with, 1)
		if text == smallest {
			t.Fatalf("the file does not hold %s", x.replace)
		}
		_, ds := parse(t, "netd.hcl", "locals {\n  x = "+x.faulty+"\n}\n"+text+others, nil)
		var got []string
		for _, d := range ds {
			got = append(got, fmt.Sprintf("%d %s", min(d.Line, 3), d.Summary))
		}
		// The fault of the local, on line 2; the node and its address that are there twice; the word in daemon.
		if len(ds) != 4 || ds[0].Line != 2 || ds[1].Line == 2 || !strings.Contains(strings.Join(got, "|"), "declared twice") ||
			!strings.Contains(strings.Join(got, "|"), "address taken") || !strings.Contains(strings.Join(got, "|"), "wrong on_change") {
			t.Errorf("x = %s: %s", x.faulty, strings.Join(got, " | "))
		}
	}
	_, ds := parse(t, "netd.hcl", "variable \"x\" { default = 3 }\nlocals {\n  y = range(var.x)\n}\n"+strings.Replace(smallest, "ipip", "gre", 1), map[string]string{"x": "three"})
	if len(ds) != 2 || ds[0].Summary != "wrong value of a variable" || ds[1].Summary != `network "lab": wrong mode` {
		t.Errorf("a wrong value from outside: %+v", []Diagnostic(ds))
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	text := strings.NewReplacer("192.168.170.138", "192.168.170.137", "10.10.40.129", "10.10.99.1", "10.10.194.128/26", "10.10.40.128/26").Replace(smallest)
	_, ds := parse(t, "netd.hcl", text, nil)
	if len(ds) != 3 {
		t.Errorf("3 faults wanted: %+v", []Diagnostic(ds))
	}
}

func TestLanguage(t *testing.T) {
	c, ds := parse(t, "netd.hcl", `
variable "count" { default = 2 }
variable "mode" {}
locals {
  base = cidrsubnet(local.pool, 2, 1)
  pool = "10.10.0.0/16"
}
network "lab" {
  pools = [local.pool]
  mode  = var.mode
}
dynamic "node" {
  for_each = { for i in range(var.count) : format("web-%03d", i) => i }
  labels   = [node.key]
  content {
    address = "${cidrhost("192.168.168.0/22", node.value + 10)}/22"
    blocks  = [cidrsubnet(local.base, 10, node.value)]
    labels  = merge({ rack = "r1" }, { n = "n${node.value}" })
  }
}
`, map[string]string{"count": "200", "mode": "vxlan"})
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	if len(c.Nodes) != 200 {
		t.Fatalf("%d nodes", len(c.Nodes))
	}
	n, _ := c.Node("web-199")
	if n.Address.String() != "192.168.168.209/22" || n.Blocks[0].String() != "10.10.76.112/28" || n.Labels["n"] != "n199" {
		t.Errorf("%+v", n)
	}
}

func TestJSON(t *testing.T) {
	c, ds := parse(t, "netd.hcl.json", `{
  "locals": {"pool": "10.10.0.0/16"},
  "network": {"lab": {"pools": ["${local.pool}"], "mode": "vxlan", "vxlan": {"vni": 7}}},
  "node": {"a": {"address": "192.168.1.1/24", "blocks": ["10.10.1.0/24"]}}
}`, nil)
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	if c.Networks[0].VNI != 7 || c.Nodes[0].Name != "a" {
		t.Errorf("%+v", c)
	}
}

// TestReference holds reference.hcl against the schema: every attribute is shown, and the layout is the canonical one.
func TestReference(t *testing.T) {
	s, err := Read("reference.hcl", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, ds := s.Parse()
	if len(ds) > 0 {
		t.Fatal([]Diagnostic(ds))
	}
	text := string(s.Files[0].Bytes)
	var walk func([]BlockDoc)
	walk = func(blocks []BlockDoc) {
		for _, b := range blocks {
			for _, a := range b.Attributes {
				if !strings.Contains(text, "  "+a.Name+" ") {
					t.Errorf("reference.hcl does not show %s of %s", a.Name, b.Type)
				}
			}
			walk(b.Blocks)
		}
	}
	walk(Schema)
	formatted, ds := Format("reference.hcl", s.Files[0].Bytes)
	if len(ds) > 0 || string(formatted) != text {
		t.Errorf("reference.hcl is not in the canonical layout: %v\n%s", ds, formatted)
	}
}

func TestFormat(t *testing.T) {
	in := "# a\r\nnetwork \"lab\"   {\npools=[\"10.10.0.0/16\"] // b\n\n\n\n  mode = \"ipip\"\n}\n\n\n"
	want := "# a\nnetwork \"lab\" {\n  pools = [\"10.10.0.0/16\"] // b\n\n  mode = \"ipip\"\n}\n"
	got, ds := Format("x.hcl", []byte(in))
	if len(ds) > 0 || string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s %v", got, want, ds)
	}
	if _, ds := Format("x.hcl", []byte("network {")); !ds.HasErrors() {
		t.Error("a broken file is formatted")
	}
}

func TestKeptSource(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"a.hcl": smallest, "b.hcl": "locals {\n  x = trimspace(file(\"x\"))\n}\n", "x": " hello \n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Read(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	first, ds := s.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	kept, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	again, err := Unmarshal(kept)
	if err != nil {
		t.Fatal(err)
	}
	second, ds := again.Parse()
	if ds.HasErrors() || second.Digest != first.Digest {
		t.Errorf("the kept source: %v, digests %s and %s", ds, first.Digest, second.Digest)
	}
}

// TestLookupForEachNode: a map of all nodes may be asked for each of 2,000.
func TestLookupForEachNode(t *testing.T) {
	c, ds := parse(t, "netd.hcl", `
locals {
  blocks = { for i in range(2000) : format("n%04d", i) => cidrsubnet("10.10.0.0/16", 12, i) }
}
network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "vxlan"
}
dynamic "node" {
  for_each = { for i in range(2000) : format("n%04d", i) => i }
  labels   = [node.key]
  content {
    address = "${cidrhost("192.168.0.0/16", node.value + 10)}/16"
    blocks  = [lookup(local.blocks, node.key)]
  }
}
`, nil)
	if ds.HasErrors() {
		t.Fatal(ds[0])
	}
	if n, _ := c.Node("n1999"); len(n.Blocks) != 1 || n.Blocks[0].String() != "10.10.124.240/28" {
		t.Errorf("node n1999 has %v", n.Blocks)
	}
}

// What stands in a file cannot steer the terminal that its faults are shown on, and what is missing at its end has a place.
func TestSourceLines(t *testing.T) {
	_, ds := parse(t, "netd.hcl", "network \"lab\" { # \x1b[2J\n", nil)
	if len(ds) == 0 || strings.ContainsRune(ds[0].Source, '\x1b') || !strings.Contains(ds[0].Source, "\uFFFD[2J") {
		t.Errorf("the line with an escape: %+v", ds)
	}
	_, ds = parse(t, "netd.hcl", "network \"lab\" {\n  pools = [\n\n\n", nil)
	if len(ds) == 0 || ds[0].Line != 2 || ds[0].Column != 12 || ds[0].Source != "  pools = [" {
		t.Errorf("what is missing at the end: %+v", ds)
	}
}

// TestFunctions has an expression a function, and its value in Terraform.
func TestFunctions(t *testing.T) {
	seen := map[string]bool{}
	for expr, want := range map[string]string{
		`cidrsubnet("10.10.0.0/16", 10, 3)`:                       "10.10.0.192/26",
		`cidrsubnet("fd00:fd12:3456:7890::/56", 16, 162)`:         "fd00:fd12:3456:7800:a200::/72",
		`cidrhost("10.12.112.0/20", 268)`:                         "10.12.113.12",
		`cidrhost("10.12.112.0/20", -1)`:                          "10.12.127.255",
		`cidrnetmask("172.16.0.0/12")`:                            "255.240.0.0",
		`join(" ", cidrsubnets("10.1.0.0/16", 4, 4, 8, 4))`:       "10.1.0.0/20 10.1.16.0/20 10.1.32.0/24 10.1.48.0/20",
		`join(",", range(3))`:                                     "0,1,2",
		`join(",", range(1, 8, 2))`:                               "1,3,5,7",
		`join(",", range(4, 1))`:                                  "4,3,2",
		`format("web-%03d", 7)`:                                   "web-007",
		`join(" ", formatlist("%s-%s", ["a", "b"], "x"))`:         "a-x b-x",
		`join("/", split(",", "a,b,,c"))`:                         "a/b//c",
		`join(",", concat(["a"], ["b", "c"]))`:                    "a,b,c",
		`merge({ a = "b", c = "d" }, { c = "z" }).c`:              "z",
		`lookup({ a = "1" }, "b", "none")`:                        "none",
		`lookup({ a = "1" }, "a")`:                                "1",
		`join(",", keys({ b = 1, a = 2 }))`:                       "a,b",
		`join(",", values({ b = 1, a = 2 }))`:                     "2,1",
		`length("héé👨‍👩‍👧") + length([1, 2]) + length({ a = 1 })`: "7",
		`min(12, 54, 3)`:                                          "3",
		`max([12, 54, 3]...)`:                                     "54",
		`join(",", flatten([["a", "b"], [], [["c"]]]))`:           "a,b,c",
		`join(",", distinct(["a", "b", "a"]))`:                    "a,b",
		`join(",", sort(["e", "d", "a"]))`:                        "a,d,e",
		`join(",", toset(["b", "a", "b"]))`:                       "a,b",
		`tolist(toset(["a"]))[0]`:                                 "a",
		`upper("héllo")`:                                          "HÉLLO",
		`lower("HÉLLO")`:                                          "héllo",
		`replace("1 + 2 + 3", "+", "-")`:                          "1 - 2 - 3",
		`replace("hello world", "/w.*d/", "everybody")`:           "hello everybody",
		`trimspace("  hello\n\n")`:                                "hello",
		`jsondecode("{\"hello\": [\"world\"]}").hello[0]`:         "world",
		`trimspace(file("greeting"))`:                             "hello",
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"greeting": "hello\n", "netd.hcl": "locals {\n  x = " + expr + "\n}\n" + smallest + "node \"x\" {\n  address = \"192.168.170.139/24\"\n  blocks = []\n  labels = { x = local.x }\n}\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s, err := Read(filepath.Join(dir, "netd.hcl"), nil)
		if err != nil {
			t.Fatal(err)
		}
		c, ds := s.Parse()
		if ds.HasErrors() {
			t.Errorf("%s: %v", expr, ds)
			continue
		}
		n, _ := c.Node("x")
		if got := n.Labels["x"]; got != want {
			t.Errorf("%s is %q, want %q", expr, got, want)
		}
		for name := range (&parser{source: s}).functions() {
			if strings.Contains(expr, name+"(") {
				seen[name] = true
			}
		}
	}
	for name := range (&parser{source: &Source{}}).functions() {
		if !seen[name] {
			t.Errorf("%s is not tried", name)
		}
	}
}
