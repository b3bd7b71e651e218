package watch

import (
	"errors"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

// TestFilter gives the filters of both subscriptions messages of every writer, of which netd has none or many: they let through what others
// caused, and of the rules' what ends a transaction alone.
func TestFilter(t *testing.T) {
	const route = unix.RTM_NEWROUTE
	for n := range 21 {
		k := Kernel{Own: make([]uint32, n)}
		for i := range k.Own {
			k.Own[i] = 0x12345600 + uint32(i)
		}
		for _, only := range []uint16{0, newGeneration} {
			ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(ends[0])
			defer unix.Close(ends[1])
			if err := k.filter(ends[0], only); err != nil {
				t.Fatal(err)
			}
			for _, typ := range []uint16{route, newGeneration, newGeneration>>8 | newGeneration&0xff<<8} {
				for _, port := range append(slices.Clone(k.Own), 0, 1, 0x123455ff, 0x12345600+uint32(n), 0x00563412) {
					head := make([]byte, 4, unix.SizeofNlMsghdr)
					head = native.AppendUint16(head, typ)
					head = native.AppendUint16(head, 0)
					head = native.AppendUint32(head, 0x12345600) // the sequence number, which is nobody's address
					head = native.AppendUint32(head, port)
					if _, err := unix.Write(ends[1], head); err != nil && !errors.Is(err, unix.EPERM) { // EPERM: a filter dropped it
						t.Fatal(err)
					}
					_, err := unix.Read(ends[0], make([]byte, len(head)))
					if err != nil && !errors.Is(err, unix.EAGAIN) {
						t.Fatal(err)
					}
					want := !slices.Contains(k.Own, port) && (only == 0 || only == typ)
					if got := err == nil; got != want {
						t.Errorf("%d writers, only %#x: type %#x from %#x is delivered: %t", n, only, typ, port, got)
					}
				}
			}
		}
	}
}
