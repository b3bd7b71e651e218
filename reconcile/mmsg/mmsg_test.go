package mmsg_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"netd/reconcile/mmsg"
)

// TestRead sends 100 datagrams, some longer than the reader has room for: they come whole and in order, in two calls, and those
// that are too long say so.
func TestRead(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	const room = 32
	r := mmsg.New(make([]byte, room*mmsg.Most), nil)
	next, sent := 0, 0
	send := func() {
		for ; sent < 100; sent++ {
			d := make([]byte, 1+sent%40)
			d[0] = byte(sent)
			if err := unix.Sendto(fds[0], d, 0, nil); errors.Is(err, unix.EAGAIN) { // as many as the socket holds
				return
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
	calls := 0
	for next < 100 {
		send()
		before := next
		if err := r.Read(fds[1], func(d mmsg.Datagram) error {
			size := 1 + next%40
			if d.Data[0] != byte(next) || len(d.Data) != min(size, room) || d.Long != (size > room) {
				t.Errorf("datagram %d: %d bytes, long %v", next, len(d.Data), d.Long)
			}
			next++
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if calls++; next == before {
			t.Fatal("nothing was read")
		}
	}
	if calls > 20 {
		t.Errorf("%d calls for 100 datagrams", calls)
	}
	if err := r.Read(fds[1], nil); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("where there is none: %v", err)
	}
	if err := unix.Sendto(fds[0], []byte{1}, 0, nil); err != nil {
		t.Fatal(err)
	}
	mine := errors.New("mine")
	if err := r.Read(fds[1], func(mmsg.Datagram) error { return mine }); !errors.Is(err, mine) {
		t.Errorf("who takes fails: %v", err)
	}
}
