package kernel_test

import (
	"context"
	"os/exec"
	"strings"
	"testing"

	"netd/config"
	"netd/reconcile"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

func setAlias(t *testing.T, link, alias string) {
	t.Helper()
	if out, err := exec.Command("ip", "link", "set", link, "alias", alias).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestStranger: a link of somebody else is left alone with two marks of netd's too, where it does not lead to the workload of
// its alias, or where two marks do not say the same.
func TestStranger(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	other := netns.New(t, "other")
	h.converge()
	veth := object.VethName("file/nginx-master")
	strange := func(name, group, alias string) {
		t.Helper()
		netns.Run(t, "ip link add "+name+" type veth peer name lan netns other")
		t.Cleanup(func() { netns.Run(t, "ip link del "+name) })
		netns.Run(t, "ip link set "+name+" group "+group)
		setAlias(t, name, alias)
		other.Run(t, "ip link set lan name "+name)
	}
	strange("foo", "142", "netd: file/nginx-master")                     // it is there already, and leads elsewhere
	strange("bar", "7", "netd: file/other")                              // neither the name nor the group
	strange(object.VethName("file/b"), "0", "netd: b")                   // another's alias
	strange(object.VethName("file/c"), "0", "for c")                     // the name alone
	netns.Run(t, "ip link add here group 142 type veth peer name there") // its other end is in no container
	t.Cleanup(func() { netns.Run(t, "ip link del here") })
	setAlias(t, "here", "netd: file/d")
	if left := h.plan(); !left.Empty() {
		t.Errorf("netd's marks on others' links:\n%s", text(left))
	}

	// In place of netd's own, which is gone, it is none.
	netns.Run(t, "ip link del "+veth)
	plan := h.converge()
	if got := text(plan); !strings.Contains(got, "+ link "+veth) || strings.Contains(got, "foo") {
		t.Errorf("the way back:\n%s", got)
	}
	// With its name, its alias and without its group neither.
	netns.Run(t, "ip link del "+veth)
	strange(veth, "0", "netd: file/nginx-master")
	left := h.plan()
	if len(left.Conflicts) != 1 || left.Conflicts[0].Key != object.LinkKey("", veth) {
		t.Errorf("a stranger by netd's name:\n%s", text(left))
	}
	for _, name := range []string{"foo", "bar", "here", veth, object.VethName("file/b"), object.VethName("file/c")} {
		netns.Run(t, "ip link show "+name)
	}
}

// TestDestroyReclaims: what somebody renamed, or took out of netd's group, goes with the rest.
func TestDestroyReclaims(t *testing.T) {
	veth := object.VethName("file/nginx-master")
	for _, commands := range [][]string{
		{"ip link set " + veth + " down", "ip link set " + veth + " name foo", "ip link set vxlan.netd down", "ip link set vxlan.netd name bar"},
		{"ip link set " + veth + " group 0", "ip link set vxlan.netd group 0"},
	} {
		t.Run(commands[0], func(t *testing.T) {
			h := newHost(t, config.ModeVXLAN)
			h.converge()
			for _, c := range commands {
				netns.Run(t, c)
			}
			h.k.SetEndpoints(nil)
			if _, _, err := h.engine.Converge(context.Background(), reconcile.Want{}, nil, nil); err != nil {
				t.Fatal(err)
			}
			for _, typ := range []string{"veth", "vxlan"} {
				left := strings.TrimSpace(netns.Run(t, "ip -o link show type "+typ))
				if strings.Contains(left, "netd") || strings.Contains(left, "foo") || strings.Contains(left, "bar") {
					t.Errorf("left: %s", left)
				}
			}
		})
	}
}

// TestSameVNI: a foreign device that keeps the kernel from making netd's is in the plan by its name, and one that does not is not.
func TestSameVNI(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	netns.Run(t, "ip link add theirs type vxlan id 4096 dstport 4789 dev ens33")
	t.Cleanup(func() { netns.Run(t, "ip link del theirs") })
	left := h.plan()
	if len(left.Conflicts) != 1 || left.Conflicts[0].Key != object.LinkKey("", "vxlan.netd") || left.Conflicts[0].What != "vxlan theirs" {
		t.Errorf("a foreign device with netd's VNI and port:\n%s", text(left))
	}
	for _, c := range left.Changes {
		if c.Key == object.LinkKey("", "vxlan.netd") {
			t.Errorf("planned all the same: %s", c.Key)
		}
	}
	netns.Run(t, "ip link del theirs")
	netns.Run(t, "ip link add theirs type vxlan id 4096 dstport 4790 dev ens33")
	netns.Run(t, "ip link add six type vxlan id 4096 dstport 4789 local fe80::1 dev ens33")
	t.Cleanup(func() { netns.Run(t, "ip link del six") })
	h.converge() // another port, another family
}
