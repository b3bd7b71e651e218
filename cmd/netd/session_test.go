package main

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"netd/reconcile/desired"
	"netd/testenv/netns"
)

// TestSession finds the connection that a process holds, as sudo leaves it to be found, and takes the variable's word first.
func TestSession(t *testing.T) {
	netns.Need(t)
	if s, ok := sessionOf(os.Getpid()); ok {
		t.Fatalf("%v before there is a connection", s)
	}
	for _, address := range []string{"192.0.2.1", "2001:db8::1"} {
		a := netip.MustParseAddr(address)
		netns.Run(t, "ip addr replace "+netip.PrefixFrom(a, a.BitLen()).String()+" dev lo nodad")
		l, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		for deadline := time.Now().Add(time.Minute); errors.Is(err, unix.ENETUNREACH) && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond) // the kernel puts an IPv6 address's route in later, on a thread of its own
			c, err = net.Dial("tcp", l.Addr().String())
		}
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := sessionOf(os.Getpid()); !ok || s != (desired.Session{Here: a, There: a}) {
			t.Errorf("%s: %v, %v", address, s, ok)
		}
		_ = c.Close()
		_ = l.Close()
	}
	want := desired.Session{Here: netip.MustParseAddr("192.168.170.137"), There: netip.MustParseAddr("192.168.170.9")}
	if s := session("192.168.170.9 50000 192.168.170.137 22"); s != want {
		t.Errorf("%v", s)
	}
}
