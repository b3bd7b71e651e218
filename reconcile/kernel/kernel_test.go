package kernel_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/desired"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

func TestMain(m *testing.M) { netns.Main(m) }

// memory is a Store that forgets at the end.
type memory map[string]string

func (m memory) Before(name string) (string, bool) { v, ok := m[name]; return v, ok }
func (m memory) Names() []string                   { return slices.Sorted(maps.Keys(m)) }
func (m memory) Forget(name string) error          { delete(m, name); return nil }
func (m memory) Keep(name, value string) error {
	if _, ok := m[name]; !ok {
		m[name] = value
	}
	return nil
}

// host is the test's own namespace with an underlay link and a container.
type host struct {
	t      *testing.T
	k      *kernel.Kernel
	engine *reconcile.Engine
	store  memory
	cfg    *config.Config
	box    *netns.NS
}

func newHost(t *testing.T, mode config.Mode) *host { return newHostOf(t, walkthrough(mode)) }

func newHostOf(t *testing.T, file string) *host {
	netns.Need(t)
	h := &host{t: t, store: memory{}, cfg: parse(t, file)}
	netns.Run(t, "ip link add ens33 type veth peer name wire")
	t.Cleanup(func() { netns.Run(t, "ip link del ens33") })
	netns.Run(t, "ip link set wire up")
	netns.Run(t, "ip link set ens33 up")
	netns.Run(t, "ip addr add 192.168.170.137/24 dev ens33")
	h.box = netns.New(t, "nginx-master")
	k, err := kernel.New(h.store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	h.k, h.engine = k, &reconcile.Engine{Kinds: k.Kinds(), Reading: k.Reading}
	t.Cleanup(func() { // leave nothing for the next test
		if _, out, err := h.engine.Converge(context.Background(), reconcile.Want{}, nil, nil); err != nil {
			t.Errorf("tearing down: %v (%d done)", err, out.Done)
		}
	})
	return h
}

func walkthrough(mode config.Mode) string {
	return fmt.Sprintf(`network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = %q
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
  netns   = "/run/netns/nginx-master"
}
`, mode)
}

func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	file := filepath.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	source, err := config.Read(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ds := source.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	return c
}

// want compiles the configuration with the host's facts of now.
func (h *host) want() reconcile.Want {
	h.t.Helper()
	facts, err := h.k.Host(context.Background())
	if err != nil {
		h.t.Fatal(err)
	}
	es := []object.Endpoint{desired.EndpointOf(h.cfg.Workloads[0])}
	es[0].Ports = []object.Port{{Proto: "tcp", On: 8080, Port: 80}, {Proto: "udp", At: netip.MustParseAddr("192.168.170.137"), On: 53, Port: 5353}}
	h.k.SetEndpoints(es)
	r, err := desired.Compile(h.cfg, h.cfg.Nodes[0], desired.Facts{Host: facts, Endpoints: es})
	if err != nil {
		h.t.Fatal(err)
	}
	return r.Want
}

// kind is the kind of a name.
func (h *host) kind(name string) reconcile.Kind {
	h.t.Helper()
	for _, k := range h.k.Kinds() {
		if k.Name() == name {
			return k
		}
	}
	h.t.Fatalf("no kind %q", name)
	return nil
}

func (h *host) converge() reconcile.Plan {
	h.t.Helper()
	plan, _, err := h.engine.Converge(context.Background(), h.want(), nil, nil)
	if err != nil {
		h.t.Fatalf("converge: %v", err)
	}
	if len(plan.Conflicts) > 0 {
		h.t.Fatalf("conflicts: %+v", plan.Conflicts)
	}
	return plan
}

func (h *host) plan() reconcile.Plan {
	h.t.Helper()
	want := h.want()
	plan, err := h.engine.Plan(context.Background(), &want, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return plan
}

func text(p reconcile.Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		b.WriteString(c.Op.Symbol() + " " + c.Key.String() + "  " + c.Text() + "\n")
	}
	for _, c := range p.Conflicts {
		b.WriteString("! " + c.Key.String() + "  " + c.What + ", " + c.Who + "\n")
	}
	return b.String()
}

// TestConverge leads a fresh host to each mode's state, in which a second plan is empty, and back to nothing.
func TestConverge(t *testing.T) {
	for _, mode := range []config.Mode{config.ModeVXLAN, config.ModeBGP, config.ModeIPIP} {
		t.Run(string(mode), func(t *testing.T) {
			h := newHost(t, mode)
			if mode == config.ModeIPIP {
				needIPIP(t)
			}
			h.converge()
			if again := h.plan(); !again.Empty() {
				t.Errorf("the second plan is not empty:\n%s", text(again))
			}
			if got := h.box.Run(t, "ip route"); got != "default via 169.254.1.1 dev eth0 proto 142 \n169.254.1.1 dev eth0 proto 142 scope link \n" {
				t.Errorf("routes in the container:\n%s", got)
			}
			route := strings.TrimSpace(netns.Run(t, "ip route show 10.10.194.128/26"))
			switch mode {
			case config.ModeVXLAN:
				if route != "10.10.194.128/26 via 10.10.194.128 dev vxlan.netd proto 142 onlink" {
					t.Errorf("route to the other node: %s", route)
				}
			case config.ModeIPIP:
				if route != "10.10.194.128/26 via 192.168.170.138 dev tunl0 proto 142 onlink" {
					t.Errorf("route to the other node: %s", route)
				}
			}
			if _, err := h.box.Output("ping", "-c1", "-W2", "192.168.170.137"); err != nil {
				t.Error(err)
			}
		})
	}
}

// needIPIP stops a test that needs the ipip module. `make vm` runs it in a guest, where it fails without the module.
func needIPIP(t *testing.T) {
	t.Helper()
	switch {
	case strings.Contains(netns.Run(t, "ip -o link"), "tunl0"):
	case os.Getenv("NETD_GUEST") != "":
		t.Fatal("this guest has no ipip")
	default:
		t.Skip("this kernel has no ipip: the same test runs in the guest (make vm)")
	}
}
