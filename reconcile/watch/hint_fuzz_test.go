package watch

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// FuzzHint: whatever bytes a message has, it is read without a panic, and what it asks for are places of a kind that there is.
// Messages are the kernel's, but much in them is what users of the machine and containers gave: names, addresses, attributes.
func FuzzHint(f *testing.F) {
	attr := func(typ uint16, data ...byte) []byte {
		b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(data)))
		b = append(binary.NativeEndian.AppendUint16(b, typ), data...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	seed := func(typ uint16, nsid int, head int, family byte, attrs ...[]byte) {
		body := make([]byte, head)
		if head > 0 {
			body[0] = family
		}
		for _, a := range attrs {
			body = append(body, a...)
		}
		f.Add(typ, nsid, body)
	}
	seed(unix.RTM_NEWLINK, -1, unix.SizeofIfInfomsg, 0, attr(unix.IFLA_IFNAME, []byte("vxlan.netd\x00")...))
	seed(unix.RTM_NEWLINK, -1, unix.SizeofIfInfomsg, unix.AF_BRIDGE)
	seed(unix.RTM_DELADDR, -1, unix.SizeofIfAddrmsg, unix.AF_INET, attr(unix.IFA_LOCAL, 10, 10, 40, 128))
	seed(unix.RTM_NEWADDR, -1, unix.SizeofIfAddrmsg, unix.AF_INET6, attr(unix.IFA_ADDRESS, make([]byte, 16)...))
	seed(unix.RTM_DELROUTE, -1, unix.SizeofRtMsg, unix.AF_INET, attr(unix.RTA_DST, 10, 10, 194, 128), attr(unix.RTA_TABLE, 254, 0, 0, 0))
	seed(unix.RTM_NEWROUTE, 3, unix.SizeofRtMsg, unix.AF_INET6, attr(unix.RTA_DST, make([]byte, 16)...), attr(unix.RTA_PRIORITY, 0, 4, 0, 0))
	seed(unix.RTM_NEWROUTE, -1, unix.SizeofRtMsg, unix.AF_INET, attr(unix.RTA_DST, 10, 10))
	seed(unix.RTM_NEWNEIGH, -1, unix.SizeofNdMsg, unix.AF_BRIDGE, attr(unix.NDA_LLADDR, 2, 0, 0, 0, 0, 1), attr(unix.NDA_DST, 192, 168, 170, 138))
	seed(unix.RTM_NEWNETCONF, -1, 4, unix.AF_INET, attr(netconfIndex, 2, 0, 0, 0), attr(2, 0, 0, 0, 0))
	seed(unix.RTM_NEWNEXTHOP, -1, 8, unix.AF_INET, attr(unix.NHA_ID, 1, 0, 0, 0))
	seed(unix.RTM_DELNSID, -1, 4, 0, attr(unix.NETNSA_NSID, 1, 0, 0, 0))
	seed(newGeneration, -1, 4, 0, attr(unix.NFTA_GEN_PROC_PID, 0, 0, 0, 7), attr(unix.NFTA_GEN_PROC_NAME, []byte("nft\x00")...))
	seed(unix.RTM_NEWLINK, -1, 3, 0)
	onLo := make([]byte, 4, 64)
	f.Add(uint16(unix.RTM_NEWADDR), -1, append(append([]byte{unix.AF_INET, 32, 0, 0}, 1, 0, 0, 0), attr(unix.IFA_LOCAL, 127, 0, 0, 1)...))
	f.Add(uint16(unix.RTM_NEWNEIGH), -1, append(append(onLo, 1, 0, 0, 0, 0x80, 0, 0, 0), attr(unix.NDA_DST, 10, 10, 40, 129)...))

	kinds := map[string]bool{object.KindLink: true, object.KindAddr: true, object.KindRoute: true, object.KindNeigh: true, object.KindFDB: true,
		object.KindSysctl: true, object.KindNexthop: true, object.KindNft: true, object.KindAccept: true}
	wanted := Kernel{
		Wants:    func(k reconcile.Key) bool { return k.Name != "" && len(k.Name)%2 == 0 },
		Bears:    func(k reconcile.Key) bool { return k.Name == "lo" },
		PlacesOf: func(nsid int) []object.Place { return []object.Place{"file/nginx-master"}[:nsid&1] },
	}
	links, err := newNames() // of lo at least, whose index is 1
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(links.close)
	h := hints{wanted, links}
	f.Fuzz(func(t *testing.T, typ uint16, nsid int, body []byte) {
		m := message{unix.NlMsghdr{Type: typ, Len: uint32(unix.SizeofNlMsghdr + len(body))}, max(nsid, -1), body}
		for _, p := range []reconcile.Poke{h.of(m), generation(m)} {
			for _, k := range p.Keys {
				if !kinds[k.Kind] || k.Name == "" {
					t.Errorf("a message asks for %q", k)
				}
			}
			for _, k := range p.Kinds {
				if !kinds[k] {
					t.Errorf("a message asks for all of %q", k)
				}
			}
		}
	})
}
