package kernel_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"netd/config"
	"netd/reconcile/kernel"
	"netd/reconcile/object"
	"netd/testenv/netns"
)

// TestSettingsInOne: the IPv4 settings of a link of netd's come in one write, and without an event that would have the host
// looked at again.
func TestSettingsInOne(t *testing.T) {
	h := newHost(t, config.ModeVXLAN)
	h.converge()
	conf := "net.ipv4.conf." + object.VethName("file/nginx-master")
	read := func() string {
		return strings.Join(strings.Fields(netns.Run(t, "sysctl -n "+conf+".forwarding "+conf+".proxy_arp "+conf+".rp_filter")), " ")
	}
	if got := read(); got != "1 1 1" {
		t.Fatalf("forwarding, proxy_arp, rp_filter: %s", got)
	}
	netns.Run(t, "sysctl -q -w "+conf+".forwarding=0 "+conf+".proxy_arp=0 "+conf+".rp_filter=0")

	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_IPV4_NETCONF - 1)}); err != nil {
		t.Fatal(err)
	}
	writes := 0
	kernel.AfterWrite = func() { writes++ }
	defer func() { kernel.AfterWrite = nil }()
	h.converge()
	if got := read(); got != "1 1 1" || writes != 1 {
		t.Errorf("after the repair, of %d writes: %s", writes, got)
	}
	if _, _, err := unix.Recvfrom(events, make([]byte, 4096), 0); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("an event: %v", err)
	}
}
