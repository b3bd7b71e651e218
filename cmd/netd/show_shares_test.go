package main

import "testing"

// TestShares: a next hop that a route names several times is shown once, with its share; anything else as it is.
func TestShares(t *testing.T) {
	for text, want := range map[string]string{
		"via 192.168.170.1 dev eth0":                                                                                 "via 192.168.170.1 dev eth0",
		"via 192.168.170.1 dev eth0, via 192.168.170.2 dev eth0":                                                     "via 192.168.170.1 dev eth0, via 192.168.170.2 dev eth0",
		"via 10.0.0.1 dev a weight 2, via 10.0.0.2 dev a weight 2, via 10.0.0.1 dev a, via 10.0.0.2 dev a":           "50 % via 10.0.0.1 dev a, 50 % via 10.0.0.2 dev a",
		"via 10.0.0.1 dev a, via 10.0.0.2 dev a, via 10.0.0.1 dev a":                                                 "67 % via 10.0.0.1 dev a, 33 % via 10.0.0.2 dev a",
		"via 10.0.0.1 dev a onlink, via 10.0.0.1 dev b onlink, via 10.0.0.1 dev a onlink, via 10.0.0.1 dev b onlink": "50 % via 10.0.0.1 dev a onlink, 50 % via 10.0.0.1 dev b onlink",
		"blackhole": "blackhole",
		"dev netd0668 scope link src 10.10.40.128": "dev netd0668 scope link src 10.10.40.128",
	} {
		if got := shares(text); got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}
