package workload

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// handedHost is a kernel in which a runtime moves containers' ends.
type handedHost struct {
	*hostModel
	moved map[object.Place]string // the end's name where it was moved to
	away  bool                    // another link has a default route there
	first object.Place            // whose link has it, where it is one of netd's
	bare  bool                    // no link has
}

func (h *handedHost) Handed(id object.Place, _ string) (string, bool, bool, error) {
	return h.moved[id], h.away || h.first != "" && h.first != id, h.moved[id] != "" && !h.bare, nil
}

// newHanded is a core whose clock stands still, with the namespaces that are there by path.
func newHanded(t *testing.T, db *store.DB) (*Core, *handedHost, map[string]string, *time.Time) {
	t.Helper()
	h := &handedHost{hostModel: newHostModel(t), moved: map[object.Place]string{}}
	c, err := New(db, h)
	if err != nil {
		t.Fatal(err)
	}
	now, spaces := time.Now(), map[string]string{}
	c.now = func() time.Time { return now }
	c.identify = func(path string) (string, error) {
		if id, ok := spaces[path]; ok {
			return id, nil
		}
		return "", problem(Namespace, "no %s", path)
	}
	c.linked = func(name string) bool {
		for id := range h.wired {
			if name == object.VethName(string(id)) || name == object.PeerName(string(id)) && h.moved[id] == "" {
				return true
			}
		}
		return false
	}
	for id := range c.known {
		c.asked[id] = now
	}
	return c, h, spaces, &now
}

// TestHanded is the way of a container of Docker's: promised, made, joined, in its namespace, left, gone. What gets stuck on the
// way is given up.
func TestHanded(t *testing.T) {
	s, ctx := site(t, file), context.Background()
	db := newStore(t)
	c, h, spaces, now := newHanded(t, db)
	everything := netip.MustParsePrefix("0.0.0.0/0")
	promise := func(in netip.Prefix, wanted string) (string, error) {
		var w netip.Addr
		if wanted != "" {
			w = netip.MustParseAddr(wanted)
		}
		a, err := c.Promise(ctx, s, "", in, w)
		return a.String(), err
	}
	attach := func(id, addr, netns string) (store.Endpoint, error) {
		r := c.Attach(ctx, s, []Request{{ID: object.Place("docker/" + id), Owner: "docker", Container: id, Interface: "eth0", Handed: true,
			Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Netns: netns}})[0]
		return r.Endpoint, r.Err
	}
	live := func() (alive, inside, gone int) {
		es, g := c.Live()
		for _, e := range es {
			if e.Netns != "" {
				inside++
			}
		}
		return len(es), inside, len(g)
	}
	counts := func(what string, alive, inside, gone int) {
		t.Helper()
		if a, i, g := live(); a != alive || i != inside || g != gone {
			t.Errorf("%s: %d alive, %d of them to be looked into, %d gone; want %d, %d, %d", what, a, i, g, alive, inside, gone)
		}
	}

	// What is promised is nobody else's, and for a while alone. 128 is the tunnel's, 131 declared, 135 reserved.
	for _, want := range []string{"10.10.40.129", "10.10.40.130", "10.10.40.132"} {
		if a, err := promise(everything, ""); a != want || err != nil {
			t.Errorf("promised %s, %v; want %s", a, err, want)
		}
	}
	if _, err := promise(everything, "10.10.40.130"); err == nil || !strings.Contains(err.Error(), "was just given to another container") {
		t.Errorf("promised twice: %v", err)
	}
	if a, err := promise(netip.MustParsePrefix("10.10.50.4/30"), ""); a != "10.10.50.4" || err != nil {
		t.Errorf("of a part of a block: %s, %v", a, err)
	}
	if _, err := promise(everything, "10.10.40.131"); err == nil {
		t.Error("a declared workload's address is promised")
	}
	c.Unpromise(netip.MustParseAddr("10.10.40.132"))
	*now = now.Add(promiseLasts / 2)
	if a, _ := promise(everything, ""); a != "10.10.40.132" {
		t.Errorf("after one was taken back: %s", a)
	}
	*now = now.Add(promiseLasts)
	if a, _ := promise(everything, ""); a != "10.10.40.129" {
		t.Errorf("after the promises ran out: %s", a)
	}

	// Nor does another runtime get it.
	spaces["/ns/cni"] = "cni"
	cni := c.Attach(ctx, s, []Request{{ID: "cni/c1/eth0", Owner: "cni", Container: "c1", Interface: "eth0", Open: "/ns/cni", Netns: "/ns/cni"}})[0]
	if cni.Err != nil || cni.Endpoint.IPv4.String() != "10.10.40.130" {
		t.Errorf("beside a promise of 129: %s, %v", cni.Endpoint.IPv4, cni.Err)
	}
	c.Detach(ctx, []object.Place{"cni/c1/eth0"})

	// Made, and joined to a namespace that is not there yet.
	made, err := attach("e1", "10.10.40.129", "")
	if err != nil || made.IPv4.String() != "10.10.40.129" {
		t.Fatal(made, err)
	}
	if _, err := attach("e2", "10.10.40.129", ""); err == nil {
		t.Error("one address for two")
	}
	counts("made", 1, 0, 0)
	if _, err := attach("e1", "10.10.40.129", "/ns/1"); err != nil {
		t.Fatal(err)
	}
	if !c.Unsettled() {
		t.Error("nobody waits for it")
	}
	spaces["/ns/1"] = "one"
	if settled, err := c.Settle(ctx, s); len(settled) != 0 || err != nil {
		t.Errorf("settled before it was moved: %v, %v", settled, err)
	}
	counts("on its way", 1, 0, 0)
	h.moved["docker/e1"] = "eth7"
	settled, err := c.Settle(ctx, s)
	if err != nil || len(settled) != 1 || settled[0].Interface != "eth7" || settled[0].Identity != "one" || c.Unsettled() {
		t.Errorf("settled: %+v, %v", settled, err)
	}
	counts("in its namespace", 1, 1, 0)
	if _, err := attach("e1", "10.10.40.129", "/ns/1"); err != nil { // asked again
		t.Error(err)
	}
	counts("joined twice", 1, 1, 0)
	h.away = true
	if settled, _ := c.Settle(ctx, s); len(settled) != 1 || !settled[0].Beside {
		t.Errorf("another default route: %+v", settled)
	}
	// A second endpoint of the network in one container is refused.
	if _, err := attach("e3", "10.10.40.140", "/ns/1"); err == nil || !strings.Contains(err.Error(), "in network \"lab\" already") {
		t.Errorf("twice in one container: %v", err)
	}

	// Its runtime puts the end back without a word, or the namespace goes: it is swept.
	h.moved["docker/e1"] = ""
	counts("put back", 0, 0, 1)
	delete(spaces, "/ns/1")
	counts("put back, and the namespace gone", 0, 0, 1)
	again, _ := c.Known("docker/e1")
	h.moved["docker/e1"], spaces["/ns/1"] = "eth7", "one"
	counts("and there again", 1, 1, 0)
	if _, err := promise(everything, "10.10.40.129"); err == nil {
		t.Error("the address of a container that is there is promised")
	}
	// One that is gone does not keep its address from whom Docker wants to have it.
	h.moved["docker/e1"] = ""
	delete(spaces, "/ns/1")
	if a, err := promise(everything, "10.10.40.129"); a != "10.10.40.129" || err != nil {
		t.Errorf("the address of one that is gone: %s, %v", a, err)
	}
	if _, ok := c.Known("docker/e1"); ok {
		t.Error("and it is attached still")
	}
	if _, err := attach("e1", again.IPv4.String(), again.Netns); err != nil {
		t.Fatal(err)
	}
	h.moved["docker/e1"], spaces["/ns/1"] = "eth7", "one"
	if settled, err := c.Settle(ctx, s); len(settled) != 1 || err != nil {
		t.Fatal(settled, err)
	}

	// A port is one container's, until that is gone or out of its namespace.
	port := []object.Port{{Proto: "tcp", On: 8080, Port: 80}}
	publish := func(id string) error { return c.Publish(ctx, object.Place("docker/"+id), port) }
	if err := publish("e1"); err != nil {
		t.Fatal(err)
	}
	if _, err := attach("e5", "10.10.40.142", "/ns/5"); err != nil {
		t.Fatal(err)
	}
	if err := publish("e5"); err == nil || !strings.Contains(err.Error(), "port 8080/tcp of this host is published for docker/e1 already") {
		t.Errorf("a port of one that is there: %v", err)
	}
	h.moved["docker/e1"] = ""
	delete(spaces, "/ns/1")
	if err := publish("e5"); err != nil {
		t.Errorf("the port of one that is gone: %v", err)
	}
	if _, ok := c.Known("docker/e1"); ok {
		t.Error("and it is attached still")
	}
	if err := c.Leave("docker/e5"); err != nil {
		t.Error(err)
	}
	if _, err := attach("e1", again.IPv4.String(), again.Netns); err != nil {
		t.Fatal(err)
	}
	h.moved["docker/e1"], spaces["/ns/1"] = "eth7", "one"
	if settled, err := c.Settle(ctx, s); len(settled) != 1 || err != nil {
		t.Fatal(settled, err)
	}
	if err := publish("e1"); err != nil {
		t.Errorf("the port of one that left: %v", err)
	}
	c.Detach(ctx, []object.Place{"docker/e5"})

	// A daemon that starts forgets what was never joined, and what was left; not what is in a container.
	if _, err := attach("e4", "10.10.40.141", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := promise(everything, "10.10.40.143"); err != nil {
		t.Fatal(err)
	}
	if err := c.Unjoined(ctx); err != nil {
		t.Error(err)
	}
	for _, a := range []string{"10.10.40.141", "10.10.40.143"} { // nobody has to wait for what a dockerd that died began with them
		if _, err := promise(everything, a); err != nil {
			t.Error(err)
		}
		c.Unpromise(netip.MustParseAddr(a))
	}
	if _, ok := c.Known("docker/e4"); ok || len(c.All()) != 1 {
		t.Errorf("after a start: %v", c.All())
	}
	if err := c.Leave("docker/e1"); err != nil {
		t.Error(err)
	}
	h.moved["docker/e1"] = ""
	counts("left", 1, 0, 0)
	*now = now.Add(patience + time.Second)
	counts("left, and never deleted", 0, 0, 1)
	_, gone := c.Live()
	if swept, _ := c.Sweep(ctx, gone); len(swept) != 0 {
		t.Error("swept at first sight")
	}
	*now = now.Add(Sightings)
	if swept, err := c.Sweep(ctx, gone); len(swept) != 1 || err != nil {
		t.Errorf("swept %v, %v", swept, err)
	}
	if len(c.All()) != 0 || len(h.wired) != 0 {
		t.Errorf("left over: %v, %v", c.All(), h.wired)
	}
}

// TestSecond: of the endpoints that their runtime knows no gateway by one has the default route when nobody has it or is given it,
// and gives way to the runtime's.
func TestSecond(t *testing.T) {
	text := strings.Replace(file, `"10.10.50.0/29"]`, `"10.10.50.0/29", "10.20.1.0/29", "10.30.1.0/29"]`, 1)
	for _, n := range []string{"20", "30"} {
		text += "network \"n" + n + "\" {\n  pools = [\"10." + n + ".0.0/16\"]\n  mode  = \"bgp\"\n}\n"
	}
	s, ctx := site(t, text), context.Background()
	db := newStore(t)
	c, h, spaces, _ := newHanded(t, db)
	spaces["/ns"] = "ns"
	port := []object.Port{{Proto: "tcp", On: 8080, Port: 80}}
	for i, addr := range []string{"10.10.40.140", "10.20.1.3", "10.30.1.3"} {
		id := object.Place("docker/e" + string(rune('0'+i)))
		for _, netns := range []string{"", "/ns"} {
			if r := c.Attach(ctx, s, []Request{{ID: id, Owner: "docker", Container: strings.TrimPrefix(string(id), "docker/"), Interface: "eth0", Handed: true, Addrs: []netip.Addr{netip.MustParseAddr(addr)}, Netns: netns, Ports: port}})[0]; r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		h.moved[id], h.first = "eth0", "docker/e0"
		if settled, err := c.Settle(ctx, s); err != nil || len(settled) != 1 || settled[0].Beside != (i > 0) || settled[0].Second != (i > 0) || len(settled[0].Asked) != 1 {
			t.Fatalf("%s: %+v, %v", id, settled, err)
		}
	}
	h.first = ""
	settles := func(when string, want ...string) {
		t.Helper()
		es, err := c.Settle(ctx, s)
		var got []string
		for _, e := range es {
			got = append(got, strings.TrimPrefix(string(e.ID), "docker/")+map[bool]string{true: " beside", false: " first"}[e.Beside])
		}
		if err != nil || strings.Join(got, ", ") != strings.Join(want, ", ") {
			t.Errorf("%s: %v, %v; want %v", when, got, err, want)
		}
	}
	h.bare = true
	settles("while the first has it taken away, which the next pass puts back")
	h.moved["docker/e0"] = ""
	if err := c.Leave("docker/e0"); err != nil {
		t.Fatal(err)
	}
	settles("the first has left", "e1 first")
	settles("and again")
	h.moved["docker/e1"] = ""
	if err := c.Leave("docker/e1"); err != nil {
		t.Fatal(err)
	}
	settles("that has left too", "e2 first")
	h.bare, h.away = false, true
	settles("the runtime gives it to another", "e2 beside")
	h.bare, h.away = true, false
	settles("and takes it from that", "e2 first")
	if r := c.Attach(ctx, s, []Request{{ID: "docker/e0", Owner: "docker", Container: "e0", Interface: "eth0", Handed: true, Addrs: []netip.Addr{netip.MustParseAddr("10.10.40.140")}, Netns: "/ns"}})[0]; r.Err != nil || !r.Endpoint.Second {
		t.Errorf("one that comes back: %+v, %v", r.Endpoint, r.Err)
	}
}

// TestPutBack: an endpoint whose end its runtime has put back without a word has left, and is put into no namespace again, whether its
// container is there or not, and whatever becomes of the wire.
func TestPutBack(t *testing.T) {
	s, ctx := site(t, file), context.Background()
	db := newStore(t)
	c, h, spaces, now := newHanded(t, db)
	spaces["/ns"] = "ns"
	const id = "docker/e1"
	for _, netns := range []string{"", "/ns"} {
		if r := c.Attach(ctx, s, []Request{{ID: id, Owner: "docker", Container: "e1", Interface: "eth0", Handed: true, Addrs: []netip.Addr{netip.MustParseAddr("10.10.40.140")}, Netns: netns}})[0]; r.Err != nil {
			t.Fatal(r.Err)
		}
	}
	h.moved[id] = "eth0"
	if settled, err := c.Settle(ctx, s); len(settled) != 1 || err != nil {
		t.Fatal(settled, err)
	}
	h.moved[id] = ""
	if settled, err := c.Settle(ctx, s); len(settled) != 0 || err != nil {
		t.Fatal(settled, err)
	}
	c.linked = func(string) bool { return false } // a wire that nobody wants is taken away
	if e, ok := c.Known(id); !ok || e.Netns != "" {
		t.Errorf("it is in %q", e.Netns)
	}
	for range 2 {
		live, gone := c.Live()
		if len(live) != 0 || len(gone) != 1 {
			t.Fatalf("%v live, %v gone", live, gone)
		}
		if _, err := c.Sweep(ctx, gone); err != nil {
			t.Fatal(err)
		}
		*now = now.Add(Sightings)
	}
	if _, ok := c.Known(id); ok {
		t.Error("it keeps its address")
	}
}

// TestPool: a runtime is told at once of a network that it can have no address of.
func TestPool(t *testing.T) {
	one, two := site(t, file), site(t, strings.Replace(file, `"10.10.0.0/16"]`, `"10.10.0.0/16", "fd00:10::/48"]`, 1)+"network \"six\" {\n  pools = [\"fd00:20::/48\"]\n  mode  = \"bgp\"\n}\n")
	two.Node.Blocks = append(two.Node.Blocks, netip.MustParsePrefix("fd00:20:0:1::/64"))
	for _, x := range []struct {
		s                Site
		name, pool, want string
		v6               bool
	}{
		{one, "", "", "lab", false},
		{one, "", "", `node "one" has no IPv6 block in network "lab": add one to its blocks, netd.hcl:9`, true},
		{one, "", "10.10.40.128/28", "lab", false},
		{one, "", "10.10.194.128/26", `10.10.194.128/26 holds no address of node "one"`, false},
		{two, "", "", "the file has several networks, lab, six: say which one", true},
		{two, "six", "", "six", true},
		{two, "six", "", `node "one" has no IPv4 block in network "six": add one to its blocks`, false},
		{two, "lab", "fd00:20::/48", `fd00:20::/48 is in no pool of network "lab", which has fd00:10::/48 (lab)`, true},
		{two, "", "fd00:10::/48", `fd00:10::/48 holds no address of node "one", whose blocks in network "lab" are none`, true},
	} {
		pool, _ := netip.ParsePrefix(x.pool)
		got, err := x.s.Pool(x.name, pool, x.v6)
		if err != nil {
			got = err.Error()
		}
		if got != x.want && (err == nil || !strings.HasPrefix(got, x.want)) {
			t.Errorf("%q %q: %s\nwant %s", x.name, x.pool, got, x.want)
		}
	}
}
