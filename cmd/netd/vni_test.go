package main

import (
	"strings"
	"testing"
)

const oneVNI = `network "lab" {
  pools = ["10.10.0.0/16"]
  mode  = "vxlan"
  vxlan {
    port = 8472
  }
}
network "other" {
  pools = ["10.20.0.0/16"]
  mode  = "vxlan"
  vxlan {
    vni = 7
  }
}
node "a" {
  address = "192.168.1.1/24"
  blocks  = ["10.10.1.0/24", "10.20.1.0/24"]
}
node "b" {
  address = "192.168.1.2/24"
  blocks  = ["10.10.2.0/24", "10.20.2.0/24"]
}
workload "c-a" {
  node    = "a"
  address = "10.10.1.10"
  netns   = "/run/netns/c-a"
}
workload "c-b" {
  node    = "b"
  address = "10.20.2.10"
  netns   = "/run/netns/c-b"
}
`

// TestOneVNI has two networks share a VNI at different ports, which takes a device each. The second gets the VNI while the
// first is in use, and has the lower port: the first's device gives its name away, and has it back in the end. With and
// without a daemon.
func TestOneVNI(t *testing.T) {
	apart, shared := oneVNI, strings.Replace(oneVNI, "vni = 7", "vni = 4096", 1)
	l := newUnderlay(t, apart, "a", "b")
	l.wire("a eth0 192.168.1.1/24", "b eth0 192.168.1.2/24")
	l.destroyed()
	l.apply()
	a, b := l.hosts[0], l.hosts[1]
	pings := func() {
		t.Helper()
		l.pings(a.container, "10.20.2.10", 1450)
		l.pings(b.container, "10.10.1.10", 1450)
		l.pings(b.NS, "10.10.1.10", 1450)
	}
	both := func(lead func()) {
		t.Helper()
		l.write(shared)
		lead()
		a.has("ip -d link show vxlan.netd", "dstport 4789")
		a.has("ip -d link show netdx0010002118", "vxlan id 4096")
		a.has("ip -d link show netdx0010002118", "dstport 8472")
		pings()
		l.write(apart)
		lead()
		a.has("ip -d link show vxlan.netd", "dstport 8472")
		a.has("ip -d link show netdvx7", "dstport 4789")
		pings()
	}
	both(l.apply)

	l.write(shared)
	l.apply()
	for _, name := range []string{"vxlan.netd", "netdx0010002118"} { // a name that somebody took away is given back, to either
		a.Run(t, "ip link set "+name+" down")
		a.Run(t, "ip link set "+name+" name mine")
		l.apply()
		pings()
	}

	for _, h := range l.hosts {
		h.start()
	}
	l.settled()
	both(l.settled)
}
