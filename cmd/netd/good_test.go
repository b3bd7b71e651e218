package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"netd/testenv/netns"
)

// TestLastGood applies configurations that are not carried out: the one before stays the last good one, and a host that had
// none still has none.
func TestLastGood(t *testing.T) {
	netns.Need(t)
	dir := t.TempDir()
	netns.Run(t, "ip link add ens33 type veth peer name far")
	t.Cleanup(func() { netns.Run(t, "ip link del ens33") })
	netns.Run(t, "ip addr add 192.168.170.137/24 dev ens33")
	netns.Run(t, "ip link set far up")
	netns.Run(t, "ip link set ens33 up")
	file, good := filepath.Join(dir, "netd.hcl"), filepath.Join(dir, "state/config/good.json")
	a := &app{node: "baihl-master", config: file, stateDir: filepath.Join(dir, "state"), runDir: filepath.Join(dir, "run")}
	ctx := context.Background()
	apply := func(text, id string) (applyView, error) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return local{a}.apply(ctx, file, agreement{ID: id}, nil)
	}
	first := fmt.Sprintf(walkthrough, "bgp")
	bad := map[string]func() error{
		"another plan than the one that was shown": func() error {
			v, err := apply(fmt.Sprintf(walkthrough, "vxlan"), "another")
			if err == nil && !v.Stale {
				t.Error("the plan is not stale")
			}
			return err
		},
		"what this host cannot have": func() error {
			_, err := apply(strings.Replace(first, "192.168.170.137/24\"", "192.168.170.137/24\"\n  interface = \"nosuch\"", 1), "")
			if err == nil || !strings.Contains(err.Error(), "no link nosuch") {
				t.Errorf("the error is %v", err)
			}
			return nil
		},
	}
	for what, try := range bad {
		if err := try(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if _, err := os.Stat(good); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s, on a fresh host: there is a last good configuration (%v)", what, err)
		}
	}
	t.Cleanup(func() {
		if _, err := (local{a}).destroy(ctx, "", nil); err != nil {
			t.Error(err)
		}
	})
	if v, err := apply(first, ""); err != nil || len(v.Errors) > 0 {
		t.Fatal(err, v.Errors)
	}
	was, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for what, try := range bad {
		if err := try(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if now, err := os.ReadFile(good); err != nil || string(now) != string(was) {
			t.Errorf("%s: the last good configuration is now %s (%v)", what, now, err)
		}
	}
}
