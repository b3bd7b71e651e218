package desired_test

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
)

// TestDefaultsPage goes through the tables of docs/reference-bgp.md of what is accepted and announced by default, row by row, as they stand
// there: what each says is so, by the code that decides it, and differs where the file has what its last column names. What the kernel, the
// speaker or the other end decides is shown by labs, which are named; one that is no more fails this test. So does a row that is new,
// gone or has other words: look at what shows it.
func TestDefaultsPage(t *testing.T) {
	rows := tableRows(t, "Between nodes", "With a router outside the file (peer)")
	labs := testNames(t)
	for _, x := range slices.Concat(betweenNodes, withRouters) {
		name, _, _ := strings.Cut(x.row, " | ")
		i := slices.Index(rows, x.row)
		if i < 0 {
			t.Errorf("no such row is in the page: %s", x.row)
			continue
		}
		rows = slices.Delete(rows, i, i+1)
		if x.so == nil && x.labs == "" {
			t.Errorf("nothing shows the row %q", name)
		}
		for lab := range strings.FieldsSeq(x.labs) {
			if !labs[lab] {
				t.Errorf("%s is shown by %s, and there is no such test", name, lab)
			}
		}
		if x.so != nil {
			t.Run(name, x.so)
		}
	}
	for _, row := range rows {
		t.Errorf("nothing shows the row: %s", row)
	}
}

// pageRow is a row of the page, without the marks of code, and what shows it.
type pageRow struct {
	row  string
	labs string
	so   func(*testing.T)
}

// The addresses of the file's nodes and of the routers that are given below.
const (
	here, here6     = "192.168.170.137", "2001:db8:170::137"
	here2           = "192.168.200.137" // on another link of the host that is looked at
	there, there6   = "192.168.170.138", "2001:db8:170::138"
	far             = "192.168.171.139" // in another subnet
	ext, ext6       = "192.168.170.1", "2001:db8:170::1"
	inner, nobody   = "192.168.170.4", "192.168.170.77"
	linkLocal       = "fe80::1%ens33"
	hereBGP         = "10.10.40.128/26"
	thereBGP        = "10.10.194.128/26"
	thereBGP6       = "fd10:0:0:2::/64"
	farBGP          = "10.10.7.0/24"
	hereTun         = "10.20.1.0/24"
	thereTun        = "10.20.2.0/24"
	external        = "\npeer \"ext\" {\n  address = \"" + ext + "\"\n  asn = 65101\n"
	internal        = "\npeer \"inner\" {\n  address = \"" + inner + "\"\n  asn = 64512\n"
	routers         = external + "}" + internal + "}\n"
	all             = "  import = [\"0.0.0.0/0 le 32\", \"::/0 le 128\"]\n"
	reflectingThere = "\x00" // a file where node there reflects
)

// at is what a node makes of a file with more in it.
type at struct {
	t       *testing.T
	told    map[string]object.Path // by prefix
	peer    map[string]object.Peer
	refused func(from, prefix, via string) bool
}

// compiled compiles the file of policyFile and more for a node.
func compiled(t *testing.T, node, more string) at {
	t.Helper()
	text := policyFile
	if rest, ok := strings.CutPrefix(more, reflectingThere); ok {
		text, more = strings.Replace(text, "\"fd10:0:0:2::/64\", \"10.20.2.0/24\"]\n", "\"fd10:0:0:2::/64\", \"10.20.2.0/24\"]\n  route_reflector = \"192.168.170.138\"\n", 1), rest
	}
	if !strings.Contains(more, "peer ") {
		more += routers // nodes of two subnets need some
	}
	c := parseWhole(t, text+more)
	n, ok := c.Node(node)
	if !ok {
		t.Fatalf("no node %s", node)
	}
	f := facts(c, n)
	f.Host.Links = append(f.Host.Links, object.HostLink{Name: "up0", Index: 3, MTU: 1500, Up: true, Addrs: []netip.Prefix{netip.MustParsePrefix(here2 + "/24")}})
	f.Passwords = map[string]string{"/etc/netd/secret": "0badf00d"}
	r, err := desired.Compile(c, n, f)
	if err != nil {
		t.Fatal(err)
	}
	a := at{t: t, told: map[string]object.Path{}, peer: map[string]object.Peer{}}
	judge := desired.Judge(c, n, f)
	for _, x := range r.Want.State {
		switch x := x.(type) {
		case object.Path:
			a.told[x.Prefix.String()] = x
		case object.Peer:
			a.peer[x.Addr.String()] = x
		}
	}
	a.refused = func(from, prefix, via string) bool {
		p := object.BestPath{Prefix: netip.MustParsePrefix(prefix), NextHop: netip.MustParseAddr(via), Peer: netip.MustParseAddr(from)}
		if as := a.peer[from].ASN; as != n.ASN {
			p.FirstAS = as
		}
		return judge(p).Why != ""
	}
	return a
}

// takes and refuses: whether a neighbour may tell prefixes, each by a next hop.
func (a at) takes(from, via string, prefixes ...string) {
	a.t.Helper()
	a.judged(false, from, via, prefixes)
}
func (a at) refuses(from, via string, prefixes ...string) {
	a.t.Helper()
	a.judged(true, from, via, prefixes)
}

func (a at) judged(refused bool, from, via string, prefixes []string) {
	a.t.Helper()
	for _, p := range prefixes {
		if got := a.refused(from, p, via); got != refused {
			a.t.Errorf("%s via %s from %s: refused: %v", p, via, from, got)
		}
	}
}

// neighbours holds the nodes that a node has sessions with against those that it is to have.
func (a at) neighbours(want ...string) {
	a.t.Helper()
	var got []string
	for name, p := range a.peer {
		if !p.Outside {
			got = append(got, name)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		a.t.Errorf("sessions with %v, want %v", got, want)
	}
}

// to is whom a block of the node is told.
func (a at) to(block string, want ...string) {
	a.t.Helper()
	got := strings.Fields(a.told[block].To)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		a.t.Errorf("%s is told to %v, want %v", block, got, want)
	}
}

func (a at) is(so bool, what string) {
	a.t.Helper()
	if !so {
		a.t.Errorf("not so: %s", what)
	}
}

func bgp(attributes string) string { return "\nbgp {\n  " + attributes + "\n}\n" }

var betweenNodes = []pageRow{
	{row: "sessions | each node with each, where the file has a network of mode bgp; with reflectors alone where a node reflects | bgp.mesh, node.route_reflector",
		labs: "TestReflectors TestMeshToReflectors",
		so: func(t *testing.T) {
			compiled(t, "here", "").neighbours(there, there6, far)
			compiled(t, "here", reflectingThere).neighbours(there, there6)
			compiled(t, "here", bgp("mesh = false")).neighbours()
			compiled(t, "here", reflectingThere+bgp("mesh = true")).neighbours(there, there6, far)
			c := parseWhole(t, "network \"t\" {\n  pools = [\"10.20.0.0/16\"]\n  mode = \"vxlan\"\n}\n"+
				"node \"here\" {\n  address = \""+here+"/24\"\n  blocks = [\"10.20.1.0/24\"]\n}\nnode \"there\" {\n  address = \""+there+"/24\"\n  blocks = [\"10.20.2.0/24\"]\n}\n")
			n, _ := c.Node("here")
			if desired.UsesBGP(c) || len(desired.NeighbourAddrs(c, n)) != 0 {
				t.Error("nodes have sessions without a network of mode bgp")
			}
		}},
	{row: "who dials | the higher address; the lower one listens | –", labs: "TestCalicoPage TestPairs",
		so: func(t *testing.T) {
			lower, higher := compiled(t, "here", ""), compiled(t, "there", "")
			lower.is(lower.peer[there].Opens == object.Listens && lower.peer[there6].Opens == object.Listens, "the lower address listens")
			higher.is(higher.peer[here].Opens == object.Dials && higher.peer[here6].Opens == object.Dials, "the higher one dials")
		}},
	{row: "accepted from a node | its blocks in networks of mode bgp, next hop its address | –", labs: "TestLook",
		so: func(t *testing.T) {
			a := compiled(t, "here", "")
			a.takes(there, there, thereBGP)
			a.takes(there6, there6, thereBGP6)
			a.takes(far, far, farBGP)
			a.refuses(there, there, thereTun, farBGP)
			a.refuses(there, far, thereBGP)
		}},
	{row: "accepted from a reflector | every node's blocks, next hop that node's address | –", labs: "TestReflectors TestForeignReflectors",
		so: func(t *testing.T) {
			a := compiled(t, "here", reflectingThere)
			a.takes(there, far, farBGP)
			a.takes(there, there, thereBGP)
			a.refuses(there, there, farBGP, "172.30.0.0/24")
		}},
	{row: "announced to a node | this node's blocks in networks of mode bgp | bgp.advertise", labs: "TestLook TestNodesOfTwoAS",
		so: func(t *testing.T) {
			a := compiled(t, "here", "")
			a.to(hereBGP, object.ToNodes, ext, inner)
			a.to("fd10:0:0:1::/64", object.ToNodes, ext, inner)
			a.to(hereTun, ext, inner)
			compiled(t, "here", bgp(`advertise = ["workloads"]`)).to(hereBGP)
		}},
	{row: "told on by a reflector, to clients | nodes' blocks, next hop unchanged | –", labs: "TestReflectors TestReflectedNoMore",
		so: func(t *testing.T) {
			reflector, client := compiled(t, "there", reflectingThere), compiled(t, "here", reflectingThere)
			reflector.is(reflector.peer[here].Reflected && reflector.peer[far].Reflected, "clients are told of others")
			client.is(!client.peer[there].Reflected, "a client tells of nobody")
		}},
	{row: "never | another's block, a part of one, what covers one, a default route, a next hop that is a third host or this one, an own AS in the path, blocks of networks of mode ipip or vxlan | –",
		labs: "TestLook", // of them an own AS, which the speaker refuses
		so: func(t *testing.T) {
			for _, file := range []string{"", reflectingThere} {
				a := compiled(t, "here", file)
				a.refuses(there, there, hereBGP, farBGP, "10.10.194.128/27", "10.10.194.130/32", "10.10.0.0/16", "10.10.194.0/24", "0.0.0.0/0", thereTun, hereTun)
				a.refuses(there, nobody, thereBGP)
				a.refuses(there, here, thereBGP)
				a.refuses(there, far, thereBGP)
			}
		}},
	{row: "password | none | bgp.password_file (TCP MD5)", labs: "TestWords TestPairs",
		so: func(t *testing.T) {
			a, b := compiled(t, "here", routers), compiled(t, "here", bgp(`password_file = "/etc/netd/secret"`)+routers)
			a.is(a.peer[there].Password == "", "none")
			b.is(b.peer[there].Password != "" && b.peer[far].Password != "" && b.peer[ext].Password == "", "the nodes' alone by bgp.password_file")
		}},
	{row: "TTL security | on where both share a subnet | bgp.ttl_security", labs: "TestWords TestSubnets",
		so: func(t *testing.T) {
			a := compiled(t, "here", "")
			a.is(a.peer[there].TTLSecurity && a.peer[there6].TTLSecurity && !a.peer[far].TTLSecurity, "on in one subnet")
			a = compiled(t, "here", bgp("ttl_security = false"))
			a.is(!a.peer[there].TTLSecurity, "off")
		}},
	{row: "hold time | 9 s, keepalives every third of it | bgp.hold_time", labs: "TestSilence",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.is(a.peer[there].HoldTime == 9*time.Second && a.peer[there].Keepalive == 3*time.Second, "9 s and 3 s")
			a = compiled(t, "here", bgp(`hold_time = "30s"`))
			a.is(a.peer[there].HoldTime == 30*time.Second && a.peer[there].Keepalive == 10*time.Second, "30 s and 10 s")
		}},
	{row: "graceful restart | 120 s | bgp.graceful_restart", labs: "TestRestart TestStale",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.is(a.peer[there].GracefulRestart == 2*time.Minute, "120 s")
			a = compiled(t, "here", bgp(`graceful_restart = "0s"`)+routers)
			a.is(a.peer[there].GracefulRestart == 0, "off")
		}},
}

var withRouters = []pageRow{
	{row: "accepted | nothing | the file's blocks in networks of mode bgp | import", labs: "TestOutsideLies TestForeignReflectors",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.refuses(ext, ext, "172.30.0.0/24", thereBGP, "0.0.0.0/0", "8.8.8.0/24")
			a.is(a.peer[ext].Import == "" && a.peer[inner].Import != "", "the speaker's lists")
			a.takes(inner, there, thereBGP)
			a.takes(inner, far, farBGP)
			a.refuses(inner, inner, "172.30.0.0/24", "0.0.0.0/0", thereTun)
			list := "  import = [\"172.30.0.0/16 le 24\"]\n}"
			a = compiled(t, "here", external+list+internal+list)
			a.takes(ext, ext, "172.30.0.0/24")
			a.takes(inner, inner, "172.30.0.0/24")
			a.refuses(inner, there, thereBGP)
		}},
	{row: "… of that, never unless listed itself | default routes, what covers a pool, special-purpose addresses (RFC 6890), this node's subnet | the same | import, default_route",
		labs: "TestOutsideLies TestPeerAttributes",
		so: func(t *testing.T) {
			never := []string{"0.0.0.0/0", "10.10.0.0/16", "10.0.0.0/8", "10.0.0.0/12", "192.0.2.0/24", "127.0.0.0/8", "169.254.1.0/24", "192.168.170.0/24", "192.168.170.0/25"}
			a := compiled(t, "here", external+all+"}"+internal+all+"}")
			a.refuses(ext, ext, never...)
			a.refuses(inner, inner, never...)
			a.takes(ext, ext, "172.30.0.0/24", "192.168.0.0/16")
			listed := "  default_route = true\n  import = [\"10.10.0.0/16\", \"10.0.0.0/8\", \"10.0.0.0/12\", \"192.0.2.0/24\", \"127.0.0.0/8\", \"169.254.1.0/24\", \"192.168.170.0/24 le 25\"]\n}"
			a = compiled(t, "here", external+listed+internal+listed)
			a.takes(ext, ext, never...)
			a.takes(inner, inner, never...)
			a = compiled(t, "here", external+"  import = [\"0.0.0.0/0\"]\n}")
			a.takes(ext, ext, "0.0.0.0/0") // listed, as by default_route
		}},
	{row: "… of that, never | this node's blocks and what lies in them, more specifics of a node's block, networks whose routes the file gives | the same | –",
		labs: "TestOutsideLies TestPeerAttributes",
		so: func(t *testing.T) {
			never := []string{hereBGP, "10.10.40.128/27", "10.10.40.129/32", hereTun, "10.10.194.128/27", "10.10.194.130/32", thereTun, "10.20.0.0/16", "10.20.99.0/24"}
			list := "  import = [\"0.0.0.0/0 le 32\", \"10.10.40.128/26\", \"10.10.40.129/32\", \"10.10.194.128/27\", \"10.20.2.0/24\", \"10.20.1.0/24\"]\n}"
			a := compiled(t, "here", external+list+internal+list)
			a.refuses(ext, ext, never...)
			a.refuses(inner, inner, never...)
		}},
	{row: "next hop | the router's own address, or the node's whose block it is | for a block: the router's or that node's; else any that is no node's | –",
		labs: "TestOutsideLies TestForeignReflectors",
		so: func(t *testing.T) {
			a := compiled(t, "here", external+all+"}"+internal+all+"}")
			a.takes(ext, ext, "172.30.0.0/24", thereBGP)
			a.takes(ext, there, thereBGP)
			a.refuses(ext, nobody, "172.30.0.0/24", thereBGP)
			a.refuses(ext, there, "172.30.0.0/24", farBGP)
			a.takes(inner, inner, "172.30.0.0/24", thereBGP)
			a.takes(inner, there, thereBGP)
			a.refuses(inner, nobody, thereBGP)
			a.takes(inner, nobody, "172.30.0.0/24")
			a.refuses(inner, there, "172.30.0.0/24", farBGP)
		}},
	{row: "… where the session is over the other family or a link-local address | any that is no node's, or the node's whose block it is | the same | –",
		labs: "TestDualStack TestOtherLink",
		so: func(t *testing.T) {
			local := strings.Replace(external, ext, "fe80::1", 1)
			local6 := strings.Replace(internal, inner, "fe80::4", 1)
			a := compiled(t, "here", external+all+"}"+internal+all+"}")
			b := compiled(t, "here", local+all+"}"+local6+all+"}")
			for _, x := range []struct {
				at
				from string
			}{{a, ext}, {a, inner}, {b, linkLocal}, {b, "fe80::4%ens33"}} {
				x.takes(x.from, ext6, "fd77::/48")
				x.takes(x.from, "2001:db8:170::77", "fd77::/48")
				x.takes(x.from, there6, thereBGP6)
				x.refuses(x.from, there6, "fd77::/48")
			}
			b.takes(linkLocal, nobody, "172.30.0.0/24") // of both families
		}},
	{row: "… never | this host's, of another family than the prefix (RFC 8950) | the same | –", labs: "TestOutsideLies TestFewerFamilies",
		so: func(t *testing.T) {
			a := compiled(t, "here", external+all+"}"+internal+all+"}")
			for _, from := range []string{ext, inner} {
				a.refuses(from, here, "172.30.0.0/24")
				a.refuses(from, here2, "172.30.0.0/24")
				a.refuses(from, here6, "fd77::/48")
				a.refuses(from, ext6, "172.30.0.0/24")
				a.refuses(from, ext, "fd77::/48")
			}
		}},
	{row: "preference | 100, whatever it sends (RFC 4271 §5.1.5) | as it comes | local_pref", labs: "TestPreference TestPeerAttributes",
		so: func(t *testing.T) {
			a := compiled(t, "here", external+all+"}"+internal+all+"}")
			a.is(a.peer[ext].LocalPref == "100" && a.peer[inner].LocalPref == "", "100, and as it comes")
			a = compiled(t, "here", external+all+"  local_pref = 300\n}"+internal+all+"  local_pref = 300\n}")
			a.is(a.peer[ext].LocalPref == "300" && a.peer[inner].LocalPref == "300", "300")
		}},
	{row: "announced | this node's blocks, of all networks | the same | export", labs: "TestInterop TestPeerAttributes",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.to(hereBGP, object.ToNodes, ext, inner)
			a.to(hereTun, ext, inner)
			list := "  export = [\"10.20.1.0/24\"]\n}"
			a = compiled(t, "here", external+list+internal+list)
			a.to(hereBGP, object.ToNodes)
			a.to(hereTun, ext, inner)
		}},
	{row: "what others told | nothing: no transit | nothing | export", labs: "TestInterop TestCommunities",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.is(a.peer[ext].Transit == "" && a.peer[inner].Transit == "", "nothing")
			list := "  export = [\"172.30.0.0/16 le 24\"]\n}"
			a = compiled(t, "here", external+list+internal+list)
			a.is(a.peer[ext].Transit != "" && a.peer[inner].Transit != "", "what the list has")
		}},
	{row: "… of that, never | what has the community no-export, no-export-subconfed or no-advertise (RFC 1997) | what has no-advertise | –", labs: "TestCommunities"},
	{row: "what it tells with the community graceful-shutdown (RFC 8326) | gives way to all that others tell: LOCAL_PREF 1, whatever local_pref says | as any other | –",
		labs: "TestDrain TestCommunities"},
	{row: "other communities that it sends | are kept, shown and told on, and change nothing here, blackhole neither | the same | –", labs: "TestCommunities"},
	{row: "prefixes a family | 1,000, then the session is closed and tried again from 60 s on | the same | max_prefixes", labs: "TestTooMany",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.is(a.peer[ext].MaxPrefixes == 1000 && a.peer[inner].MaxPrefixes == 1000, "1,000")
			a = compiled(t, "here", external+"  max_prefixes = 5\n}"+internal+"  max_prefixes = 5\n}")
			a.is(a.peer[ext].MaxPrefixes == 5 && a.peer[inner].MaxPrefixes == 5, "5")
		}},
	{row: "hops | 1 | any | multihop", labs: "TestInterop",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.is(a.peer[ext].Multihop == 0 && a.peer[inner].Multihop == 0, "gobgp counts hops of sessions with other AS alone, one where it is 0")
			a = compiled(t, "here", external+"  multihop = 2\n}")
			a.is(a.peer[ext].Multihop == 2, "2")
		}},
	{row: "TTL security | off | off | ttl_security", labs: "TestInterop",
		so: func(t *testing.T) {
			a := compiled(t, "here", routers)
			a.is(!a.peer[ext].TTLSecurity && !a.peer[inner].TTLSecurity, "off")
			a = compiled(t, "here", external+"  ttl_security = true\n}"+internal+"  ttl_security = true\n}")
			a.is(a.peer[ext].TTLSecurity && a.peer[inner].TTLSecurity, "on")
		}},
}

// parseWhole is a file as it stands.
func parseWhole(t *testing.T, text string) *config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return parse(t, path, config.ModeBGP)
}

// tableRows are the rows of the first table of each section of the page on BGP, cells between " | ", without heads and marks of code.
func tableRows(t *testing.T, sections ...string) (rows []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference-bgp.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(strings.ReplaceAll(string(b), "`", ""), "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		i := slices.Index(sections, title)
		if i < 0 {
			continue
		}
		sections = slices.Delete(slices.Clone(sections), i, i+1)
		_, table, ok := strings.Cut(text, "--- |\n")
		if !ok {
			t.Fatalf("%s has no table", title)
		}
		for line := range strings.Lines(table) {
			line, ok := strings.CutPrefix(strings.TrimSpace(line), "| ")
			if !ok {
				break
			}
			rows = append(rows, strings.TrimSuffix(line, " |"))
		}
	}
	if len(sections) > 0 {
		t.Fatalf("the page has no %q", sections)
	}
	return rows
}

// testNames are the tests of the repository.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names, function := map[string]bool{}, regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(`)
	if err := filepath.WalkDir(filepath.Join("..", ".."), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range function.FindAllStringSubmatch(string(b), -1) {
			names[m[1]] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}
