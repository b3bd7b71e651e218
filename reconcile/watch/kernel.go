// Package watch tells when something may have changed: the kernel's objects, the configuration, the containers' namespaces.
// What it delivers are pokes, not facts: a poke may come for nothing, several may come as one, and the loop reads what is.
package watch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// buffer is the receive buffer of a subscription in bytes: the default overflows after some 256 unread events.
const buffer = 16 << 20

// Kernel pokes whenever an object that concerns netd may have been changed by someone else, until ctx ends. own are the
// netlink addresses of netd's own writers, whose events are not news. It survives overflows: they are a poke too.
func Kernel(ctx context.Context, own []uint32, poke func(), trouble func(error)) {
	routes := func() (*nl.NetlinkSocket, error) {
		s, err := nl.Subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
			unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_NEXTHOP)
		if err != nil {
			return nil, err
		}
		// Links and addresses in containers, without a descriptor in their namespaces, which would pin them.
		return s, unix.SetsockoptInt(s.GetFd(), unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1)
	}
	rules := func() (*nl.NetlinkSocket, error) {
		return nl.Subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		follow(ctx, rules, func(m unix.NlMsghdr, _ []byte) bool {
			return m.Type == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN && !slices.Contains(own, m.Pid)
		}, poke, trouble)
	}()
	follow(ctx, routes, func(m unix.NlMsghdr, data []byte) bool {
		return !slices.Contains(own, m.Pid) && concerns(m, data)
	}, poke, trouble)
	<-done
}

// concerns drops the one flood that is none of netd's business: routes of other protocols. One that replaced another may
// have replaced one of netd's, and a default route decides which links forward.
func concerns(m unix.NlMsghdr, data []byte) bool {
	if m.Type != unix.RTM_NEWROUTE && m.Type != unix.RTM_DELROUTE {
		return m.Type != unix.RTM_NEWNEIGH && m.Type != unix.RTM_DELNEIGH || permanent(m, data)
	}
	if len(data) < unix.SizeofRtMsg {
		return true
	}
	const dstLen, protocol = 1, 5 // struct rtmsg
	return data[protocol] == object.Protocol || m.Flags&unix.NLM_F_REPLACE != 0 || data[dstLen] == 0
}

// permanent reports whether a neighbour event is of a lasting entry; the others come and go with traffic.
func permanent(m unix.NlMsghdr, data []byte) bool {
	const state = 8 // struct ndmsg
	return len(data) < unix.SizeofNdMsg || m.Type == unix.RTM_DELNEIGH || data[state]&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0
}

// follow reads a subscription, and opens it anew after whatever went wrong with it.
func follow(ctx context.Context, open func() (*nl.NetlinkSocket, error), news func(unix.NlMsghdr, []byte) bool, poke func(), trouble func(error)) {
	for ctx.Err() == nil {
		s, err := open()
		if err == nil {
			err = unix.SetsockoptInt(s.GetFd(), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer)
			if err != nil { // without CAP_NET_ADMIN over the machine: what the limit allows
				err = s.SetReceiveBufferSize(buffer, false)
			}
		}
		if err == nil {
			poke() // what happened while nobody listened
			err = receive(ctx, s, news, poke)
		}
		if s != nil {
			s.Close()
		}
		if err != nil && ctx.Err() == nil {
			trouble(err)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func receive(ctx context.Context, s *nl.NetlinkSocket, news func(unix.NlMsghdr, []byte) bool, poke func()) error {
	// Nothing wakes a thread that reads a netlink socket; the end of ctx wakes a poll, by a pipe. No timer runs meanwhile.
	var end [2]int
	if err := unix.Pipe2(end[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	defer unix.Close(end[0])
	stop := context.AfterFunc(ctx, func() { _ = unix.Close(end[1]) })
	defer func() {
		if stop() {
			_ = unix.Close(end[1])
		}
	}()
	for {
		fds := []unix.PollFd{{Fd: int32(s.GetFd()), Events: unix.POLLIN}, {Fd: int32(end[0]), Events: unix.POLLIN}}
		_, err := unix.Poll(fds, -1)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return err
		}
		msgs, from, err := s.Receive()
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if from.Pid != 0 { // only the kernel's word counts
			continue
		}
		for _, m := range msgs {
			h := unix.NlMsghdr{Len: m.Header.Len, Type: m.Header.Type, Flags: m.Header.Flags, Seq: m.Header.Seq, Pid: m.Header.Pid}
			if news(h, m.Data) {
				poke()
			}
		}
	}
}
