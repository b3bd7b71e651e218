package speaker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"reflect"

	"github.com/eapache/channels"
	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// gobgp's WatchEvent makes a protobuf message of each path, which is read again on the other side of a function call: with the garbage of that
// it was a third of the work of 100,000 prefixes. It keeps its events in a queue of a public type, though, and what it puts there of the best
// paths has public fields and methods; only the types' names are private. So the queue is exchanged for one that is read here: the best paths
// are taken from it as they are, everything else goes on into gobgp's own queue and to WatchEvent, one at a time, so that the order stays.
//
// Fields are found by their names and types, and an error says which is missing: TestBest fails where a version of gobgp has them elsewhere.

// divert exchanges the queue of gobgp's only watcher. No request may be made of gobgp meanwhile, and the watcher must have delivered something:
// its own goroutine has looked for its queue then.
func divert(s *server.BgpServer) (events, others *channels.InfiniteChannel, err error) {
	watchers := reflect.ValueOf(s).Elem().FieldByName("watcherMap")
	if !watchers.IsValid() || watchers.Kind() != reflect.Map {
		return nil, nil, fmt.Errorf("following gobgp's best paths: this version of it has no watcherMap")
	}
	var only reflect.Value
	for _, list := range watchers.Seq2() {
		if list.Kind() != reflect.Slice || list.Len() != 1 || list.Index(0).Kind() != reflect.Pointer || only.IsValid() && list.Index(0).Pointer() != only.Pointer() {
			return nil, nil, fmt.Errorf("following gobgp's best paths: its watcherMap holds others than the one watcher")
		}
		only = list.Index(0)
	}
	if !only.IsValid() {
		return nil, nil, fmt.Errorf("following gobgp's best paths: nobody watches")
	}
	queue := only.Elem().FieldByName("ch")
	if !queue.IsValid() || queue.Type() != reflect.TypeFor[*channels.InfiniteChannel]() {
		return nil, nil, fmt.Errorf("following gobgp's best paths: this version of it has no watcher.ch")
	}
	events = channels.NewInfiniteChannel()
	at := (**channels.InfiniteChannel)(queue.Addr().UnsafePointer())
	others, *at = *at, events
	return events, others, nil
}

// gobgpPath is what is asked of gobgp's paths.
type gobgpPath interface {
	GetNlri() bgp.AddrPrefixInterface
	GetPathAttrs() []bgp.PathAttributeInterface
	IsLocal() bool
}

// best reads gobgp's events of best paths.
type best struct {
	event reflect.Type // of those
	lists [2]int       // fields: all the ways of each prefix; one of each, where gobgp is not to have several
	path  reflect.Type
	gone  int // fields and methods of a path: it is a withdrawal
	from  int // who told it
	addr  int // field of that: the address

	source reflect.Value // the last neighbour, and
	told   netip.Addr    // its address
	asPath *bgp.PathAttributeAsPath
	first  uint32
}

// learn notes where gobgp has what of an event's type. ok is false where it is none of best paths.
func (b *best) learn(event reflect.Type) (ok bool, err error) {
	if event.Kind() != reflect.Pointer || event.Elem().Name() != "watchEventBestPath" {
		return false, nil
	}
	lacks := func(what string) (bool, error) {
		return false, fmt.Errorf("following gobgp's best paths: this version of it has no %s", what)
	}
	several, ok := event.Elem().FieldByName("MultiPathList")
	if !ok || several.Type.Kind() != reflect.Slice || several.Type.Elem().Kind() != reflect.Slice {
		return lacks("MultiPathList")
	}
	one, ok := event.Elem().FieldByName("PathList")
	if !ok || one.Type != several.Type.Elem() || !one.Type.Elem().Implements(reflect.TypeFor[gobgpPath]()) {
		return lacks("PathList")
	}
	b.path = one.Type.Elem()
	gone, ok := b.path.Elem().FieldByName("IsWithdraw")
	if !ok || gone.Type.Kind() != reflect.Bool {
		return lacks("Path.IsWithdraw")
	}
	from, ok := b.path.MethodByName("GetSource")
	if !ok || from.Type.NumIn() != 1 || from.Type.NumOut() != 1 || from.Type.Out(0).Kind() != reflect.Pointer {
		return lacks("Path.GetSource")
	}
	addr, ok := from.Type.Out(0).Elem().FieldByName("Address")
	if !ok || addr.Type != reflect.TypeFor[net.IP]() {
		return lacks("PeerInfo.Address")
	}
	b.event, b.lists, b.gone, b.from, b.addr = event, [2]int{several.Index[0], one.Index[0]}, gone.Index[0], from.Index, addr.Index[0]
	return true, nil
}

// read gives the paths of an event to take, in gobgp's order: the ways to a prefix follow each other. ok is false where the event
// is none of best paths.
func (b *best) read(event any, take func(netip.Prefix, hop, bool, error)) (ok bool, err error) {
	v := reflect.ValueOf(event)
	if b.event == nil {
		if ok, err := b.learn(v.Type()); !ok {
			return false, err
		}
	}
	if v.Type() != b.event {
		return false, nil
	}
	each := func(list reflect.Value) {
		for i := range list.Len() {
			if p := list.Index(i); !p.IsNil() { // a prefix of which the best path stays
				prefix, h, err := b.readPath(p)
				take(prefix, h, p.Elem().Field(b.gone).Bool(), err)
			}
		}
	}
	if several := v.Elem().Field(b.lists[0]); several.Len() > 0 {
		for i := range several.Len() {
			each(several.Index(i))
		}
	} else {
		each(v.Elem().Field(b.lists[1]))
	}
	return true, nil
}

// readPath reads the prefix, the next hop, the first AS and the sender of a path. A withdrawal has the prefix and the sender.
func (b *best) readPath(v reflect.Value) (prefix netip.Prefix, h hop, err error) {
	p := v.Interface().(gobgpPath)
	switch n := p.GetNlri().(type) {
	case *bgp.IPAddrPrefix:
		prefix, err = prefixOf(n.Prefix.To4(), n.Length)
	case *bgp.IPv6AddrPrefix:
		prefix, err = prefixOf(n.Prefix.To16(), n.Length)
	default:
		err = fmt.Errorf("reading a prefix: %s is none of IPv4 or IPv6", n)
	}
	if err != nil {
		return prefix, h, err
	}
	h.peer = b.sender(p, v)
	if v.Elem().Field(b.gone).Bool() {
		return prefix, h, nil
	}
	for _, a := range p.GetPathAttrs() {
		switch a := a.(type) {
		case *bgp.PathAttributeNextHop:
			h.nextHop = addrOf(a.Value)
		case *bgp.PathAttributeMpReachNLRI:
			h.nextHop = addrOf(a.Nexthop)
		case *bgp.PathAttributeAsPath:
			if a != b.asPath { // what a neighbour tells in one UPDATE shares it
				b.asPath, b.first = a, firstAS(a)
			}
			h.firstAS = b.first
		}
	}
	if !h.nextHop.IsValid() {
		return prefix, h, fmt.Errorf("%s has no next hop", prefix)
	}
	h.nextHop = soleNextHop(h)
	return prefix, h, nil
}

// sender is who told a path, invalid where it is this host's own.
func (b *best) sender(p gobgpPath, v reflect.Value) netip.Addr {
	if p.IsLocal() {
		return netip.Addr{}
	}
	source := v.Method(b.from).Call(nil)[0]
	if !b.source.IsValid() || source.Pointer() != b.source.Pointer() { // it is kept, so that no other can come to its place
		b.source, b.told = source, addrOf(source.Elem().Field(b.addr).Bytes())
	}
	return b.told
}

func addrOf(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

func prefixOf(ip net.IP, bits uint8) (netip.Prefix, error) {
	a, _ := netip.AddrFromSlice(ip)
	p := netip.PrefixFrom(a, int(bits)).Masked()
	if !p.IsValid() {
		return p, fmt.Errorf("reading a prefix: %s/%d", ip, bits)
	}
	return p, nil
}

// firstAS is what an AS_PATH begins with, 0 where it is empty or begins with a set.
func firstAS(a *bgp.PathAttributeAsPath) uint32 {
	if len(a.Value) > 0 && a.Value[0].GetType() == bgp.BGP_ASPATH_ATTR_TYPE_SEQ {
		if as := a.Value[0].GetAS(); len(as) > 0 {
			return as[0]
		}
	}
	return 0
}

// bests takes gobgp's events until ctx ends or gobgp stops telling. What is none of best paths goes to others, and handled says that it has arrived.
func (s *sessions) bests(ctx context.Context, events, others *channels.InfiniteChannel, handled <-chan struct{}) {
	defer others.Close() // gobgp waits for that where it stops its watcher
	b := &best{}
	for event := range events.Out() {
		ok, err := s.heard(b, event)
		if err != nil {
			s.fatal <- err
			return
		}
		if ok {
			continue
		}
		others.In() <- event
		select {
		case <-handled:
		case <-ctx.Done():
			return
		}
	}
}
