package watch

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/mmsg"
	"netd/reconcile/object"
)

var native = binary.NativeEndian

// buffer is the receive buffer of a subscription in bytes: the default overflows after some 256 unread events.
const buffer = 16 << 20

// factsAfter is how long after the first news of others' links the facts are looked at.
const factsAfter = 100 * time.Millisecond

// Kernel pokes whenever an object that concerns netd may have been changed by someone else.
type Kernel struct {
	Own      []uint32                      // netlink addresses of netd's own writers, in no namespace anyone else's: their events are not news
	Wants    func(reconcile.Key) bool      // whether something is wanted in a place
	Bears    func(reconcile.Key) bool      // whether something that is wanted stands on what is in a place
	Leads    func(netip.Prefix) bool       // whether a next hop that is on no link is in a prefix; nil: there is none
	Sends    func(netip.Addr) bool         // whether an address that is not netd's is one that it sends from; nil: there is none
	Default  func(link string) bool        // whether a default route may leave by a link that is not netd's; nil: by none
	PlacesOf func(nsid int) []object.Place // the workloads whose namespace has an id here
	Filter   func() string                 // which chains of iptables decide what is forwarded
	Moved    func()                        // is told of what may be a link on its way into a container or back; nil: nobody is; does not wait
	Rerouted func()                        // is told of a changed route in a container whose routes its runtime changes; as Moved
	Poke     func(reconcile.Poke)          // is given what may have changed; does not wait
	Trouble  func(error)                   // is told of a subscription that had to be opened anew
}

// message is one netlink message. nsid is the namespace that it tells of, -1 the host's.
type message struct {
	unix.NlMsghdr
	nsid int
	body []byte
}

// Follow watches until ctx ends. It survives overflows: what was lost is a whole pass.
func (k Kernel) Follow(ctx context.Context) {
	names, err := newNames()
	if err != nil {
		k.Trouble(err)
	}
	defer names.close()
	who := newCulprits()
	var asked, wanted atomic.Bool
	late := time.AfterFunc(time.Hour, func() { asked.Store(false); k.Poke(reconcile.Poke{Facts: true, Wanted: wanted.Swap(false)}) })
	late.Stop()
	defer late.Stop()
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		defer done.Done()
		last := ""
		k.follow(ctx, k.openRules, func(m message) reconcile.Poke {
			p := generation(m)
			if now := k.Filter(); now != last { // what is wanted depends on it
				last, p.Whole = now, true
			}
			return p
		})
	}()
	k.follow(ctx, k.openRoutes, func(m message) reconcile.Poke {
		h := hints{k, names}.of(m)
		if (h.Facts || h.Wanted) && len(h.Keys) == 0 { // others' links come and go in swarms: one look at all that happens within a while
			if h.Wanted {
				wanted.Store(true)
			}
			if !asked.Swap(true) {
				late.Reset(factsAfter)
			}
			return nothing
		}
		if len(h.Keys) > 0 && m.nsid < 0 { // a port in another namespace may be anyone's
			if by := who.of(m.Pid); by != "" {
				h.By = make(map[reconcile.Key]string, len(h.Keys))
				for _, key := range h.Keys {
					h.By[key] = by
				}
			}
		}
		return h
	})
	done.Wait()
}

// subscribe opens a socket that receives the events of groups.
func subscribe(protocol int, groups ...int) (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if err != nil {
		return -1, fmt.Errorf("opening a subscription: %w", err)
	}
	fail := func(err error) (int, error) {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("opening a subscription: %w", err)
	}
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer) != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, buffer) // without CAP_NET_ADMIN over the machine: what the limit allows
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fail(err)
	}
	for _, g := range groups {
		if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, g); err != nil {
			return fail(err)
		}
	}
	return fd, nil
}

func (k Kernel) openRoutes() (int, error) {
	fd, err := subscribe(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK, unix.RTNLGRP_NEIGH, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF, unix.RTNLGRP_NEXTHOP, unix.RTNLGRP_NSID)
	if err != nil {
		return -1, err
	}
	// What happens in containers, without a descriptor in their namespaces, which would pin them. The host's own events come
	// without that right too (net/netlink/af_netlink.c, netlink_setsockopt).
	if err := unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_LISTEN_ALL_NSID, 1); err != nil {
		k.Trouble(fmt.Errorf("listening to the containers' namespaces, which takes CAP_NET_BROADCAST (what changes there is found by the next look at everything): %w", err))
	}
	return fd, k.filter(fd, 0)
}

// filter has a subscription delivered what others caused, only of one type where that is given: 100,000 routes of netd's own are as many
// events. A filter does not learn of which namespace an event is, but nobody in another one knows the writers' addresses, to take them
// there (kernel.Kernel.PortIDs). Where it fails the subscription is closed.
//
// A socket filter (classic BPF) loads a message's fields as if they were big-endian.
func (k Kernel) filter(fd int, only uint16) error {
	var code []unix.SockFilter
	drop := len(k.Own) + 2 // where the last instruction is, which drops a message, counted from the load of its address
	if only != 0 {
		code = append(code, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: 4}, // nlmsg_type
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: uint32(binary.BigEndian.Uint16(native.AppendUint16(nil, only))), Jf: uint8(drop)})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 12}) // nlmsg_pid
	for i, port := range k.Own {
		own := binary.BigEndian.Uint32(native.AppendUint32(nil, port))
		code = append(code, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: own, Jt: uint8(drop - 2 - i)})
	}
	code = append(code, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0xffffffff}, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K})
	err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	if err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("filtering a subscription: %w", err)
	}
	return nil
}

const newGeneration = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWGEN

// openRules subscribes to the end of each transaction of nftables, and to nothing of what is in it: ten thousand elements
// in one would overflow any buffer.
func (k Kernel) openRules() (int, error) {
	fd, err := subscribe(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return -1, err
	}
	return fd, k.filter(fd, newGeneration)
}

// follow reads a subscription, and opens it anew after whatever went wrong with it.
func (k Kernel) follow(ctx context.Context, open func() (int, error), hint func(message) reconcile.Poke) {
	for ctx.Err() == nil {
		fd, err := open()
		if err == nil {
			k.Poke(reconcile.Poke{Whole: true}) // what happened while nobody listened
			err = k.receive(ctx, fd, hint)
			_ = unix.Close(fd)
		}
		if err != nil && ctx.Err() == nil {
			k.Trouble(err)
			select {
			case <-ctx.Done():
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}

func (k Kernel) receive(ctx context.Context, fd int, hint func(message) reconcile.Poke) error {
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
	in := mmsg.New(make([]byte, 1<<18), make([]byte, 64*mmsg.Most)) // 4 KiB an event, which few are longer than
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}, {Fd: int32(end[0]), Events: unix.POLLIN}}
	for {
		err := in.Read(fd, func(d mmsg.Datagram) error {
			if !d.Kernel { // only the kernel's word counts
				return nil
			}
			nsid := namespaceOf(d.Control)
			for b := d.Data; len(b) >= unix.SizeofNlMsghdr; {
				h := *(*unix.NlMsghdr)(unsafe.Pointer(&b[0]))
				if int(h.Len) > len(b) && d.Long { // what it is about comes first: a link's other names, a route's next hops are behind that
					h.Len = uint32(len(b))
				}
				if int(h.Len) < unix.SizeofNlMsghdr || int(h.Len) > len(b) {
					break
				}
				if p := hint(message{h, nsid, b[unix.SizeofNlMsghdr:h.Len]}); !p.Empty() {
					k.Poke(p)
				}
				b = b[min((int(h.Len)+3)&^3, len(b)):]
			}
			return nil
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err == nil, errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
				return os.NewSyscallError("poll", err)
			}
		default:
			return err
		}
	}
}

// namespaceOf is the id of the namespace that a datagram tells of, -1 where that is the socket's own.
func namespaceOf(control []byte) int {
	cs, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return -1
	}
	for _, c := range cs {
		if c.Header.Level == unix.SOL_NETLINK && c.Header.Type == unix.NETLINK_LISTEN_ALL_NSID && len(c.Data) >= 4 {
			return int(int32(native.Uint32(c.Data)))
		}
	}
	return -1
}
