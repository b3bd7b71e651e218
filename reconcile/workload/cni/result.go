package cni

import (
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"

	"netd/reconcile/object"
	"netd/reconcile/store"
)

// result is what ADD prints. The library's own type is encoded to JSON, decoded and encoded again, indented, with an encoder of its
// own for each address: 0.4 ms of the 4 that the daemon took for an ADD. A test holds this one against it in each version.
type result struct {
	CNIVersion string     `json:"cniVersion"`
	Interfaces []iface    `json:"interfaces"`
	IPs        []ipConfig `json:"ips"`
	Routes     []route    `json:"routes,omitempty"`
	DNS        *types.DNS `json:"dns,omitempty"`
}

type iface struct {
	Name    string `json:"name"`
	MAC     string `json:"mac"`
	MTU     int    `json:"mtu,omitempty"`
	Sandbox string `json:"sandbox,omitempty"`
}

type ipConfig struct {
	Version   string       `json:"version,omitempty"` // "4" or "6", before 1.0.0
	Interface int          `json:"interface"`         // which of Interfaces
	Address   netip.Prefix `json:"address"`
	Gateway   netip.Addr   `json:"gateway"`
}

type route struct {
	Dst netip.Prefix `json:"dst"`
	GW  netip.Addr   `json:"gw"`
}

// answerOf is an attached endpoint in the words of the configuration's version.
func answerOf(e store.Endpoint, netns string, conf Config) result {
	r := result{CNIVersion: conf.CNIVersion, Interfaces: []iface{
		{Name: object.VethName(string(e.ID)), MAC: object.HostEndMAC.String()},
		{Name: e.Interface, MAC: e.MAC, Sandbox: netns},
	}}
	newer := conf.atLeast("1.0.0")
	if newer {
		r.Interfaces[1].MTU = e.MTU
	}
	for _, addr := range e.Addrs() {
		ip := ipConfig{Interface: 1, Address: netip.PrefixFrom(addr, addr.BitLen()), Gateway: object.Gateway}
		all, version := netip.PrefixFrom(netip.IPv4Unspecified(), 0), "4"
		if addr.Is6() {
			ip.Gateway, all, version = object.Gateway6, netip.PrefixFrom(netip.IPv6Unspecified(), 0), "6"
		}
		if !newer {
			ip.Version = version
		}
		r.IPs = append(r.IPs, ip)
		if !e.Beside {
			r.Routes = append(r.Routes, route{all, ip.Gateway})
		}
	}
	if !conf.DNS.IsEmpty() {
		r.DNS = &conf.DNS
	}
	return r
}
