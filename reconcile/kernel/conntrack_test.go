package kernel

import (
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// TestTranslations: which flows go another way when a port is published, and when it is no more.
func TestTranslations(t *testing.T) {
	set := object.NftSet{Table: nftTables[0], Name: "published"}
	elem := func(text string, op reconcile.Op) []translation {
		e := object.NftElem{Set: set, Elem: text}
		if op == reconcile.Delete {
			return translations([]reconcile.Change{{Op: op, Have: e}})
		}
		return translations([]reconcile.Change{{Op: op, Want: e}})
	}
	own := []netip.Addr{netip.MustParseAddr("192.168.170.137"), netip.MustParseAddr("2001:db8::1")}
	const each, one, six = "udp . 5353 : 10.10.40.130 . 53", "192.168.170.137 . udp . 5353 : 10.10.40.130 . 53", "udp . 5353 : fd00::2 . 53"
	for _, x := range []struct {
		name, elem   string
		op           reconcile.Op
		proto        uint8
		to, answered string // where a flow goes, and who answers it
		want         bool
	}{
		{"to the host itself", each, reconcile.Create, unix.IPPROTO_UDP, "192.168.170.137:5353", "192.168.170.137:5353", true},
		{"to its loopback", each, reconcile.Create, unix.IPPROTO_UDP, "127.0.0.2:5353", "127.0.0.2:5353", true},
		{"to who had the port before", each, reconcile.Create, unix.IPPROTO_UDP, "192.168.170.137:5353", "10.10.40.131:53", true},
		{"to the container already", each, reconcile.Create, unix.IPPROTO_UDP, "192.168.170.137:5353", "10.10.40.130:53", false},
		{"through the host", each, reconcile.Create, unix.IPPROTO_UDP, "192.0.2.1:5353", "192.0.2.1:5353", false},
		{"to another port", each, reconcile.Create, unix.IPPROTO_UDP, "192.168.170.137:5354", "192.168.170.137:5354", false},
		{"by TCP", each, reconcile.Create, unix.IPPROTO_TCP, "192.168.170.137:5353", "192.168.170.137:5353", false},
		{"of the other family", each, reconcile.Create, unix.IPPROTO_UDP, "[2001:db8::1]:5353", "[2001:db8::1]:5353", false},
		{"of IPv6", six, reconcile.Create, unix.IPPROTO_UDP, "[2001:db8::1]:5353", "[2001:db8::1]:5353", true},
		{"to the one address", one, reconcile.Create, unix.IPPROTO_UDP, "192.168.170.137:5353", "192.168.170.137:5353", true},
		{"to another than the one address", one, reconcile.Create, unix.IPPROTO_UDP, "127.0.0.1:5353", "127.0.0.1:5353", false},
		{"over: to the container", each, reconcile.Delete, unix.IPPROTO_UDP, "192.168.170.137:5353", "10.10.40.130:53", true},
		{"over: to another one", each, reconcile.Delete, unix.IPPROTO_UDP, "192.168.170.137:5353", "10.10.40.131:53", false},
		{"over: to the container's own address", each, reconcile.Delete, unix.IPPROTO_UDP, "10.10.40.130:53", "10.10.40.130:53", false},
	} {
		ts := elem(x.elem, x.op)
		if len(ts) != 1 {
			t.Fatalf("%s: %d translations", x.name, len(ts))
		}
		original := tuple{proto: x.proto, dst: netip.MustParseAddrPort(x.to)}
		if got := ts[0].changes(original, tuple{proto: x.proto, src: netip.MustParseAddrPort(x.answered)}, own); got != x.want {
			t.Errorf("%s: %v", x.name, got)
		}
	}
	for _, text := range []string{"tcp . 5353 : 10.10.40.130 . 53", "udp . 5353", "10.10.40.130", `"netd1f0c" . "netd1f0c"`} {
		if ts := elem(text, reconcile.Create); len(ts) != 0 {
			t.Errorf("%s: %+v", text, ts)
		}
	}
}
