package netd

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// only lists, for an import path's beginning, the packages that may import it. Tests are free.
var only = map[string][]string{
	"github.com/vishvananda/netlink": {"netd/reconcile/kernel", "netd/reconcile/workload", "netd/reconcile/watch"},
	"github.com/mdlayher/netlink":    {"netd/reconcile/kernel", "netd/reconcile/workload", "netd/reconcile/watch"},
	"github.com/google/nftables":     {"netd/reconcile/kernel"},
	"github.com/osrg/gobgp":          {"netd/reconcile/speaker"},
	"go.uber.org/zap":                {"netd/cmd/netd", "netd/reconcile/watch"},
	"github.com/fsnotify/fsnotify":   {"netd/cmd/netd", "netd/reconcile/watch"},
	"github.com/hashicorp/hcl":       {"netd/config"},
	"netd/testenv":                   {"netd/cmd/netd", "netd/testenv/containerd", "netd/testenv/bench", "netd/testenv/console", "netd/testenv/docker", "netd/testenv/lab", "netd/testenv/netns", "netd/testenv/router", "netd/testenv/stream", "netd/testenv/vm"},
}

// within lists what a package may import of this module.
var within = map[string][]string{
	"netd/config":            {},
	"netd/reconcile":         {},
	"netd/reconcile/object":  {"netd/reconcile"},
	"netd/reconcile/desired": {"netd/config", "netd/reconcile", "netd/reconcile/object"},
}

// TestImports holds the rules of who may import whom.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	type pkg struct {
		ImportPath string
		Imports    []string
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		allowed, bound := within[p.ImportPath]
		for _, imp := range p.Imports {
			for prefix, who := range only {
				if strings.HasPrefix(imp, prefix) && !slices.Contains(who, p.ImportPath) {
					t.Errorf("%s imports %s", p.ImportPath, imp)
				}
			}
			if bound && strings.HasPrefix(imp, "netd/") && !slices.Contains(allowed, imp) {
				t.Errorf("%s imports %s", p.ImportPath, imp)
			}
			if p.ImportPath == "netd/reconcile" && strings.Contains(imp, ".") {
				t.Errorf("%s imports %s: it is on the standard library alone", p.ImportPath, imp)
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d packages seen", seen)
	}
}
