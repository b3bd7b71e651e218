package doctor

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"netd/config"
	"netd/reconcile/object"
)

// recorded is a host and its wire as a test has them: files, links, what programs print.
type recorded struct {
	files, links, programs map[string]string
	routes                 []object.Held
	claims                 map[netip.Addr][]object.MAC
	clocks                 map[netip.Addr]time.Duration
	paths                  []Path
	tcp                    bool
	held                   string // what ens33 has the node's address as
	nowhere                bool   // no link has the node's address
}

func (r recorded) ReadFile(name string) (string, error) {
	text, ok := r.files[name]
	if !ok {
		return "", os.ErrNotExist
	}
	return text, nil
}

func (r recorded) Glob(pattern string) (out []string) {
	for _, of := range []map[string]string{r.files, r.links} {
		for name := range of {
			for at := name; at != "/"; at = path.Dir(at) { // folders are there by what is in them
				if ok, _ := path.Match(pattern, at); ok && !slices.Contains(out, at) {
					out = append(out, at)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func (r recorded) Readlink(name string) string { return r.links[name] }

func (r recorded) Password(file string) error {
	text, err := r.ReadFile(file)
	if err == nil && text != "" {
		err = errors.New(text)
	}
	return err
}

// Place is a file of root's in a folder of root's, but for the words in its name.
func (r recorded) Place(file string) Place {
	text, err := r.ReadFile(file)
	at := Place{Link: r.links[file], Regular: err == nil && !strings.HasSuffix(text, "regular file")}
	at.Sound = at.Regular && strings.Contains(text, "must hold")
	if strings.HasPrefix(file, "/home/") {
		at.Loose = "/home/x"
	}
	return at
}

func (r recorded) Run(_ context.Context, args ...string) (string, error) {
	if text, ok := r.programs[strings.Join(args, " ")]; ok {
		return text, nil
	}
	return "", errors.New(args[0] + " is not installed")
}

func (r recorded) ForeignRoutes([]netip.Prefix) ([]object.Held, error) { return r.routes, nil }

func (r recorded) Claims(context.Context, string, []netip.Addr) (map[netip.Addr][]object.MAC, error) {
	return r.claims, nil
}

func (r recorded) Clocks(context.Context, []netip.Addr) (map[netip.Addr]time.Duration, error) {
	return r.clocks, nil
}

func (r recorded) Paths(_ context.Context, ways []Way) ([]Path, error) {
	if r.paths == nil {
		return make([]Path, len(ways)), nil
	}
	return r.paths, nil
}

func (r recorded) Connects(context.Context, netip.Addr) bool { return r.tcp }

const file = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "%MODE%"
}
node "a" {
  address = "192.168.170.137/24"
  blocks  = ["10.10.40.128/26"]
}
node "b" {
  address = "192.168.170.138/24"
  blocks  = ["10.10.194.128/26"]
}
`

func site(t *testing.T, mode string, r recorded) *Site {
	t.Helper()
	name := path.Join(t.TempDir(), "netd.hcl")
	if err := os.WriteFile(name, []byte(strings.Replace(file, "%MODE%", mode, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	src, err := config.Read(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ds := src.Parse()
	if ds.HasErrors() {
		t.Fatal(ds)
	}
	a := slices.IndexFunc(c.Nodes, func(n config.Node) bool { return n.Name == "a" })
	return &Site{Host: r, Wire: r, Config: c, Node: c.Nodes[a], Link: "ens33"}
}
