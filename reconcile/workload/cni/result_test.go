package cni

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// TestResult holds what ADD prints against what the library makes of the same endpoint, in each version, and has the library
// read it.
func TestResult(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.10.0.5"), netip.MustParseAddr("2001:db8::5")
	dns := types.DNS{Nameservers: []string{"192.0.2.53"}, Search: []string{"example"}}
	for name, e := range map[string]store.Endpoint{
		"IPv4":                 {IPv4: v4},
		"IPv6":                 {IPv6: v6},
		"both":                 {IPv4: v4, IPv6: v6},
		"beside another's":     {IPv4: v4, Beside: true},
		"with an MTU asked of": {IPv4: v4, MTU: 1400},
	} {
		for _, version := range Versions {
			for _, d := range []types.DNS{{}, dns} {
				t.Run(fmt.Sprint(name, "/", version, "/", len(d.Nameservers)), func(t *testing.T) {
					e.ID, e.Interface, e.MAC = "cni/box/eth0", "eth0", "02:00:00:00:00:01"
					conf := Config{PluginConf: types.PluginConf{CNIVersion: version, DNS: d}}
					got, err := json.Marshal(answerOf(e, "/run/netns/box", conf))
					if err != nil {
						t.Fatal(err)
					}
					r, err := library(e, d).GetAsVersion(version)
					if err != nil {
						t.Fatal(err)
					}
					want, err := json.Marshal(r)
					if err != nil {
						t.Fatal(err)
					}
					if g, w := decoded(t, got), decoded(t, want); !reflect.DeepEqual(g, w) {
						t.Errorf("got  %s\nwant %s", got, want)
					}
					read, err := create.Create(version, got)
					if err != nil {
						t.Fatal(err)
					}
					if again, err := json.Marshal(read); err != nil || !reflect.DeepEqual(decoded(t, again), decoded(t, want)) {
						t.Errorf("%v: read as %s\nwant %s", err, again, want)
					}
				})
			}
		}
	}
}

// library is an endpoint in the library's words.
func library(e store.Endpoint, dns types.DNS) *types100.Result {
	r := &types100.Result{CNIVersion: types100.ImplementedSpecVersion, DNS: dns, Interfaces: []*types100.Interface{
		{Name: object.VethName(string(e.ID)), Mac: "ee:ee:ee:ee:ee:ee"},
		{Name: e.Interface, Mac: e.MAC, Mtu: e.MTU, Sandbox: "/run/netns/box"},
	}}
	for _, addr := range e.Addrs() {
		gw, all := net.ParseIP("169.254.1.1"), net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
		if addr.Is6() {
			gw, all = net.ParseIP("fe80::ecee:eeff:feee:eeee"), net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
		}
		r.IPs = append(r.IPs, &types100.IPConfig{Interface: types100.Int(1), Gateway: gw,
			Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(addr.BitLen(), addr.BitLen())}})
		if !e.Beside {
			r.Routes = append(r.Routes, &types.Route{Dst: all, GW: gw})
		}
	}
	return r
}

// decoded is a JSON object; an empty dns, which older versions print, says as much as none.
func decoded(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	if d, ok := v["dns"].(map[string]any); ok && len(d) == 0 {
		delete(v, "dns")
	}
	return v
}
