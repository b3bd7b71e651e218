package kernel

import (
	"net/netip"
	"testing"

	"netd/reconcile/object"
)

// TestOwnsAddress tells netd's addresses from others', on kernels that say who put an address there and on those before 5.18,
// which say nothing.
func TestOwnsAddress(t *testing.T) {
	vxlan := link{name: "vxlan.netd", typ: "vxlan", group: object.LinkGroup}
	tunl0, eth0, inside := link{name: "tunl0", typ: "ipip"}, link{name: "eth0"}, link{name: "eth0", typ: "veth"}
	global, local := netip.MustParsePrefix("10.10.40.128/32"), netip.MustParsePrefix("fe80::1/64")
	lo := heldAddr{prefix: netip.MustParsePrefix("127.0.0.1/8"), proto: 1} // IFAPROT_KERNEL_LO
	for _, x := range []struct {
		what     string
		in       object.Place
		l        link
		h        heldAddr
		new, old bool // netd's, on the two kernels
	}{
		{"marked", "", vxlan, heldAddr{prefix: global, proto: object.Protocol}, true, true},
		{"unmarked on a link of netd", "", vxlan, heldAddr{prefix: global}, false, true},
		{"the kernel's own on a link of netd", "", vxlan, heldAddr{prefix: local, proto: ifaProtoKernelLL}, true, true},
		{"the kernel's own elsewhere", "", eth0, heldAddr{prefix: local, proto: ifaProtoKernelLL}, false, false},
		{"unmarked elsewhere", "", eth0, heldAddr{prefix: global}, false, false},
		{"unmarked on tunl0", "", tunl0, heldAddr{prefix: global, label: "tunl0"}, false, false},
		{"labelled on tunl0", "", tunl0, heldAddr{prefix: global, label: tunl0Label}, true, true},
		{"unmarked in a container", "file/web", inside, heldAddr{prefix: global}, false, true},
		{"link-local in a container", "file/web", inside, heldAddr{prefix: local}, false, false},
	} {
		if got := x.h.owns(x.in, x.l, marked("6.1.0-18-cloud-amd64", []heldAddr{x.h})); got != x.new {
			t.Errorf("%s: netd's on a kernel that marks addresses: %t", x.what, got)
		}
		if x.h.proto != 0 { // such a kernel tells of none
			continue
		}
		if got := x.h.owns(x.in, x.l, marked("5.14.0-427.el9.x86_64", []heldAddr{x.h})); got != x.old {
			t.Errorf("%s: netd's on a kernel that does not: %t", x.what, got)
		}
	}
	for release, want := range map[string]bool{"5.17.9": false, "5.18.0-rc1": true, "6.0": true, "4.18.0-553.el8": false, "": false} {
		if got := marked(release, []heldAddr{{prefix: global}}); got != want {
			t.Errorf("%q marks addresses: %t", release, got)
		}
	}
	if !marked("5.14.0-600.el9", []heldAddr{{prefix: global}, lo}) {
		t.Error("a kernel that marks the loopback's address marks others")
	}
}
