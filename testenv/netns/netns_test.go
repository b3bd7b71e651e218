package netns

import (
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

func TestOwnNamespace(t *testing.T) {
	Need(t)
	if links := Run(t, "ip -o link"); strings.Count(strings.TrimSpace(links), "\n") > 1 { // lo, and tunl0 where the module is loaded
		t.Errorf("a fresh namespace has more than lo and tunl0:\n%s", links)
	}
	entries, err := os.ReadDir("/sys/class/net")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 2 {
		t.Errorf("/sys shows the links of another namespace: %v", entries)
	}
}

func TestNamed(t *testing.T) {
	a := New(t, "a")
	a.Run(t, "ip link add x type veth peer name y")
	if out := a.Run(t, "ip -o link"); !strings.Contains(out, "x@y") {
		t.Errorf("the veth is not in the namespace:\n%s", out)
	}
	if out := Run(t, "ip -o link"); strings.Contains(out, "x@y") {
		t.Errorf("the veth is outside of the namespace:\n%s", out)
	}
	if out := Run(t, "ip netns list"); !strings.Contains(out, "a") {
		t.Errorf("ip netns does not see the namespace: %q", out)
	}
}
