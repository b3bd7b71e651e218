package kernel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// ErrEnded is the error of what cannot be done for a container because that is gone.
var ErrEnded = errors.New("the container has ended")

// Ended reports whether a wanted object is in a container, or on its link, whose namespace is gone: that it could not be made
// is nobody's fault then.
func (k *Kernel) Ended(r reconcile.Resource) bool {
	keys := append([]reconcile.Key{r.Key()}, r.Requires()...)
	for id, e := range k.endpoints {
		if e.Netns == "" || !concerns(id, keys) {
			continue
		}
		var fs unix.Statfs_t
		if err := unix.Statfs(e.Netns, &fs); errors.Is(err, unix.ENOENT) || err == nil && fs.Type != unix.NSFS_MAGIC {
			return true
		}
	}
	return false
}

// concerns reports whether one of the places is a container's, or its link.
func concerns(id object.Place, keys []reconcile.Key) bool {
	link, inside := object.LinkKey("", object.VethName(string(id))), id.In("")
	return slices.ContainsFunc(keys, func(k reconcile.Key) bool { return k == link || strings.HasPrefix(k.Name, inside) })
}

// A veth pair. Its peer is made in the container's namespace by the very request that makes the host's end: moving it there
// afterwards costs a grace period of the kernel, some 20 ms.

// Get reads single links, asked for one by one. Only what keeps a VXLAN device from being made may be any link.
func (s links) Get(_ context.Context, keys []reconcile.Key, want []reconcile.Resource) (own []reconcile.Resource, foreign []reconcile.Holder, err error) {
	h := s.k.hostNow()
	asked := make(map[reconcile.Key]reconcile.Resource, len(want))
	for _, r := range want {
		asked[r.Key()] = r
	}
	for _, k := range keys {
		var r reconcile.Resource
		l, there := h.links.named(k.Name)
		if there {
			if r, err = s.resource(h, l, asked[k] != nil); err != nil {
				return nil, nil, fmt.Errorf("link %s: %w", k.Name, err)
			}
		}
		if w, is := asked[k].(object.VXLAN); is && !l.hasVNI(w) {
			names := make(map[string]bool, len(keys))
			for _, k := range keys {
				names[k.Name] = true
			}
			return s.look(want, func(name string) bool { return names[name] })
		}
		switch {
		case r != nil:
			own = append(own, r)
		case there && asked[k] != nil:
			foreign = append(foreign, notNetds(l))
		}
	}
	return own, foreign, h.links.trouble()
}

// nsid is the id by which the host's namespace knows the one at path; -1 where it has none yet, and so no veth into it.
func (k *Kernel) nsid(path string) (int, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(fd)
	var req encoder
	req.raw(unix.AF_UNSPEC, 0, 0, 0) // struct rtgenmsg, padded
	req.u32(unix.NETNSA_FD, uint32(fd))
	id := -1
	err = k.c.get(unix.RTM_GETNSID, 0, req.b, func(body []byte) error {
		if len(body) < 4 {
			return nil
		}
		for a := range attributes(body[4:]) {
			if a.typ == unix.NETNSA_NSID {
				id = int(int32(a.u32()))
			}
		}
		return nil
	})
	return id, err
}

// veth is the pair of which l is the host's end. master is of what that is a port.
func (s links) veth(l link, master string) (reconcile.Resource, error) {
	v := object.Veth{Name: l.name, MAC: l.mac, MTU: l.mtu, Up: l.up(), Alias: l.alias, Renamed: l.renamed, Unmarked: l.unmarked, Master: master}
	e, known := s.k.endpoints[s.k.veths[l.name]]
	switch {
	case !known:
		return v, nil // of a workload that is not wanted: Replaces says that it must go
	case e.Netns == "": // alive, and not to be looked into: its end is taken to be as it was made
		v.Workload, v.Peer, v.PeerMAC, v.PeerMTU, v.PeerUp = e.ID, e.Interface, e.MAC, l.mtu, true
		return v, nil
	}
	if id, err := s.k.nsid(e.Netns); err != nil || id < 0 || id != l.nsid {
		return v, nil // in another namespace than the workload's
	}
	s.k.places.add(l.nsid, e.ID)
	v.Workload = e.ID
	_, err := s.k.inside(e.ID, func(p place) error {
		if peer, ok := p.links.byIndex[l.peer]; ok {
			v.Peer, v.PeerMAC, v.PeerMTU, v.PeerUp = peer.name, peer.mac, peer.mtu, peer.up()
		}
		return nil
	})
	return v, err
}

const vethInfoPeer = 1 // VETH_INFO_PEER (include/uapi/linux/veth.h)

// oneQueue asks for what a veth has anyway. Where nobody asks, the kernel makes a queue for each CPU and takes all but one away
// again, with a grace period for each end (drivers/net/veth.c, veth_init_queues).
func oneQueue(e *encoder) {
	e.u32(unix.IFLA_NUM_TX_QUEUES, 1)
	e.u32(unix.IFLA_NUM_RX_QUEUES, 1)
}

func (s links) createVeth(w object.Veth) error {
	e := s.k.endpoints[w.Workload]
	name := w.Peer
	was := unix.Stat_t{}
	var peer, data, info encoder
	peer.ifinfo(0, 0, 0) // it cannot be up before the pair is one (drivers/net/veth.c, veth_open)
	peer.attr(unix.IFLA_ADDRESS, w.PeerMAC[:])
	peer.u32(unix.IFLA_MTU, uint32(w.PeerMTU))
	oneQueue(&peer)
	switch {
	case e.Netns != "":
		fd, err := unix.Open(e.Netns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			var fs unix.Statfs_t
			if err = errors.Join(unix.Fstatfs(fd, &fs), unix.Fstat(fd, &was)); err == nil && fs.Type != unix.NSFS_MAGIC { // its mount went, and the file it stood on not yet
				err = unix.ENOENT
			}
		}
		if errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("opening the network namespace %s: %w", e.Netns, ErrEnded)
		}
		if err != nil {
			return fmt.Errorf("opening the network namespace %s: %w", e.Netns, err)
		}
		peer.u32(unix.IFLA_NET_NS_FD, uint32(fd))
	case e.Handed: // its runtime takes it from here
		name = object.PeerName(string(e.ID))
	default:
		return fmt.Errorf("the network namespace of %s is not known", w.Workload)
	}
	peer.attr(unix.IFLA_IFNAME, cString(name))
	data.attr(vethInfoPeer|unix.NLA_F_NESTED, peer.b)
	info.attr(unix.IFLA_INFO_KIND, []byte("veth"))
	info.attr(unix.IFLA_INFO_DATA|unix.NLA_F_NESTED, data.b)
	b := &batch{}
	b.begin(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.ifinfo(0, 0, 0)
	b.attr(unix.IFLA_IFNAME, cString(w.Name))
	b.attr(unix.IFLA_ADDRESS, w.MAC[:])
	b.u32(unix.IFLA_MTU, uint32(w.MTU))
	b.u32(unix.IFLA_GROUP, object.LinkGroup)
	oneQueue(&b.encoder)
	b.attr(unix.IFLA_LINKINFO|unix.NLA_F_NESTED, info.b)
	b.end()
	err := s.k.c.run(b, nil)[0]
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("%s or, in the container, %s exists already: %w", w.Name, name, err)
	}
	if err != nil {
		return err
	}
	if err = s.settle(w); err != nil && e.Netns != "" {
		var now unix.Stat_t
		if unix.Stat(e.Netns, &now) != nil || now.Dev != was.Dev || now.Ino != was.Ino { // the next one may stand there already
			return fmt.Errorf("%w: %w", ErrEnded, err)
		}
	}
	return err
}

// settle sets what the message that creates a pair cannot (the alias, the states) or may lose (the MAC), from what
// the pair is now to w.
func (s links) settle(w object.Veth) error {
	l, there, err := s.k.getOwn(w.Name)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("%w: %s", errNoLink, w.Name)
	}
	if err := l.usurped(); err != nil {
		return err
	}
	s.k.places.add(l.nsid, w.Workload) // what happens in its namespace is news from here on
	if !l.up() {
		if err := noLinkLocal(w.Name); err != nil {
			return err
		}
	}
	if err := s.k.c.set(l, setting{mac: w.MAC, mtu: w.MTU, up: w.Up, alias: w.Alias, free: true}); err != nil {
		return err
	}
	if s.k.endpoints[w.Workload].Netns == "" {
		return nil
	}
	gone, err := s.k.toWrite(w.Workload, func(p place) error {
		peer := p.links.at(l.peer)
		if err := p.links.trouble(); err != nil {
			return err
		}
		if peer.index == 0 {
			return fmt.Errorf("%w: %s in the container", errNoLink, w.Peer)
		}
		return p.c.set(peer, setting{mac: w.PeerMAC, mtu: w.PeerMTU, up: w.PeerUp, alias: peer.alias})
	})
	if gone {
		return fmt.Errorf("the network namespace of %s is gone", w.Workload)
	}
	return err
}
