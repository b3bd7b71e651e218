package probe

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"netd/testenv/netns"
)

// TestClaims: this host, with a second link on the same wire, and one that has its address too. The kernel answers on every link
// for every address of a host, which makes no second holder of it.
func TestClaims(t *testing.T) {
	wire, here, twin := netns.New(t, "wire"), netns.New(t, "here"), netns.New(t, "twin")
	wire.Run(t, "ip link add bridge type bridge mcast_snooping 0")
	wire.Run(t, "ip link set bridge up")
	for _, l := range []struct {
		ns   *netns.NS
		name string
	}{{here, "one"}, {here, "two"}, {twin, "three"}} {
		netns.Run(t, "ip link add "+l.name+" netns "+l.ns.Name+" type veth peer name "+l.name+" netns wire")
		wire.Run(t, "ip link set "+l.name+" master bridge up")
		l.ns.Run(t, "ip link set "+l.name+" up")
	}
	list := []netip.Addr{netip.MustParseAddr("10.77.0.1"), netip.MustParseAddr("2001:db8:77::1")}
	for _, a := range []string{"10.77.0.1/24", "2001:db8:77::1/64"} {
		here.Run(t, "ip addr add "+a+" dev one nodad")
	}
	claims := func() (macs []string) {
		t.Helper()
		if err := here.Do(func() error {
			out, err := Claims(t.Context(), "one", list, 300*time.Millisecond)
			for a, of := range out {
				for _, mac := range of {
					macs = append(macs, a.String()+" "+net.HardwareAddr(mac[:]).String())
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return macs
	}
	here.Run(t, "ip addr add 10.77.0.3/24 dev two") // a link answers that has an address itself
	if got := claims(); len(got) > 0 {
		t.Errorf("this host alone: %s", strings.Join(got, ", "))
	}
	for _, a := range []string{"10.77.0.1/24", "2001:db8:77::1/64"} {
		twin.Run(t, "ip addr add "+a+" dev three nodad")
	}
	if got := claims(); len(got) != 2 {
		t.Errorf("a twin: %s", strings.Join(got, ", "))
	}
}
