package probe

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"
)

// TestReadClock: how far a clock is ahead, around midnight too.
func TestReadClock(t *testing.T) {
	now := time.Date(2026, 11, 25, 0, 0, 1, 0, time.UTC)
	for _, c := range []struct {
		sent, there uint32
		ahead       time.Duration
		ok          bool
	}{
		{900, 950, 0, true},
		{900, 61000, 60050 * time.Millisecond, true},
		{day - 1000, 0, 0, true},
		{900, day - 50, -time.Second, true},
		{900, 1<<31 + 5, 0, false},
	} {
		b := make([]byte, 20)
		b[0] = 14
		binary.BigEndian.PutUint32(b[8:], c.sent)
		binary.BigEndian.PutUint32(b[12:], c.there)
		if ahead, ok := readClock(b, now); ok != c.ok || ahead != c.ahead {
			t.Errorf("sent at %d, there %d: %s, %v", c.sent, c.there, ahead, ok)
		}
	}
	if _, ok := readClock([]byte{14, 0}, now); ok {
		t.Error("half a reply is read")
	}
}

// TestClocks: a real host answers, one that is not there is left out.
func TestClocks(t *testing.T) {
	near, _ := hosts(t)
	there, gone := netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("10.77.0.9")
	if err := near.Do(func() error {
		got, err := Clocks(context.Background(), []netip.Addr{there, gone}, time.Second)
		if d, ok := got[there]; !ok || d.Abs() > 5*time.Second || len(got) != 1 {
			t.Errorf("%v", got)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
