package speaker

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"unsafe"

	"github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"github.com/osrg/gobgp/v3/pkg/server"
)

// gobgp's WatchEvent tells of each path by a queue and a protobuf message, which is read again on the other side of a function call: with the
// garbage of that it was a third of the work of 100,000 prefixes, and the queue alone a tenth. Before it queues an event, though, it asks the
// watcher's filter of that kind whether to, in its one goroutine; what it shows it has public fields and methods, and only the types' names are
// private. So a filter is put in that reads the best paths as they are and has none of them queued. They are in the rib when gobgp has done
// what there was to do (Observe), and before it queues what is none of them, so that the order stays.
//
// Fields are found by their names and types, and an error says which is missing: TestBest fails where a version of gobgp has them elsewhere.

// overhear has filters asked for each event of gobgp's only watcher, by kind. No request may be made of gobgp meanwhile.
func overhear(s *server.BgpServer, filters map[string]func(event any) bool) error {
	lacks := func(what string) error {
		return fmt.Errorf("following gobgp's best paths: this version of it has no %s", what)
	}
	watchers := reflect.ValueOf(s).Elem().FieldByName("watcherMap")
	if !watchers.IsValid() || watchers.Kind() != reflect.Map || watchers.Type().Key().Kind() != reflect.String {
		return lacks("watcherMap")
	}
	for kind := range filters {
		list := watchers.MapIndex(reflect.ValueOf(kind).Convert(watchers.Type().Key()))
		if !list.IsValid() {
			return fmt.Errorf("following gobgp's best paths: nobody watches its %s", kind)
		}
		if list.Kind() != reflect.Slice || list.Len() != 1 || list.Index(0).Kind() != reflect.Pointer {
			return fmt.Errorf("following gobgp's best paths: its watcherMap holds others than the one watcher")
		}
		at := list.Index(0).Elem().FieldByName("filters")
		if !at.IsValid() || at.Kind() != reflect.Map || at.IsNil() || at.Type().Key() != watchers.Type().Key() {
			return lacks("watcher.filters")
		}
		f := at.Type().Elem()
		if f.Kind() != reflect.Func || f.NumIn() != 1 || f.In(0).Kind() != reflect.Interface || f.In(0).NumMethod() != 0 || f.NumOut() != 1 || f.Out(0).Kind() != reflect.Bool {
			return lacks("watcher.filters of that kind")
		}
	}
	for kind, filter := range filters {
		key := reflect.ValueOf(kind).Convert(watchers.Type().Key())
		at := watchers.MapIndex(key).Index(0).Elem().FieldByName("filters")
		at = reflect.NewAt(at.Type(), at.Addr().UnsafePointer()).Elem()
		at.SetMapIndex(key, reflect.NewAt(at.Type().Elem(), reflect.ValueOf(&filter).UnsafePointer()).Elem()) // an event is an interface of any name
	}
	return nil
}

// gobgpPath is what is asked of gobgp's paths.
type gobgpPath interface {
	GetNlri() bgp.AddrPrefixInterface
	GetPathAttrs() []bgp.PathAttributeInterface
	IsLocal() bool
}

// best reads gobgp's events of best paths.
type best struct {
	event  reflect.Type
	lists  [2]uintptr // where one has all the ways of each prefix, and one of each, where gobgp is not to have several
	path   reflect.Type
	gone   uintptr // where a path has that it is a withdrawal
	source func(path unsafe.Pointer) unsafe.Pointer
	addr   uintptr // where a source has its address

	last   unsafe.Pointer // source, and
	told   netip.Addr     // its address
	asPath *bgp.PathAttributeAsPath
	first  uint32
}

// learn notes where gobgp has what of an event's type.
func (b *best) learn(event reflect.Type) error {
	lacks := func(what string) error {
		return fmt.Errorf("following gobgp's best paths: this version of it has no %s", what)
	}
	if event.Kind() != reflect.Pointer || event.Elem().Kind() != reflect.Struct {
		return lacks("watchEventBestPath")
	}
	several, ok := event.Elem().FieldByName("MultiPathList")
	if !ok || several.Type.Kind() != reflect.Slice || several.Type.Elem().Kind() != reflect.Slice {
		return lacks("MultiPathList")
	}
	one, ok := event.Elem().FieldByName("PathList")
	if !ok || one.Type != several.Type.Elem() || one.Type.Elem().Kind() != reflect.Pointer || !one.Type.Elem().Implements(reflect.TypeFor[gobgpPath]()) {
		return lacks("PathList")
	}
	path := one.Type.Elem()
	gone, ok := path.Elem().FieldByName("IsWithdraw")
	if !ok || gone.Type.Kind() != reflect.Bool {
		return lacks("Path.IsWithdraw")
	}
	source, ok := path.MethodByName("GetSource")
	if !ok || source.Type.NumIn() != 1 || source.Type.NumOut() != 1 || source.Type.Out(0).Kind() != reflect.Pointer || source.Type.Out(0).Elem().Kind() != reflect.Struct {
		return lacks("Path.GetSource")
	}
	addr, ok := source.Type.Out(0).Elem().FieldByName("Address")
	if !ok || addr.Type != reflect.TypeFor[net.IP]() {
		return lacks("PeerInfo.Address")
	}
	call := reflect.New(source.Type) // of a pointer to a pointer, whatever they are called: reflection would cost more than all the rest
	call.Elem().Set(source.Func)
	b.source = *(*func(unsafe.Pointer) unsafe.Pointer)(call.UnsafePointer())
	b.lists, b.path, b.gone, b.addr = [2]uintptr{several.Offset, one.Offset}, path, gone.Offset, addr.Offset
	b.event = event
	return nil
}

// news is one way to a prefix, or that it is gone.
type news struct {
	at   packed
	hop  hop
	gone bool
	more bool // it is another way to the prefix of the one before
}

// read appends the ways that an event tells, in gobgp's order. Paths that cannot be read are told to unread.
func (b *best) read(event any, ways []news, unread func(error)) ([]news, error) {
	v := reflect.ValueOf(event)
	if v.Type() != b.event {
		if err := b.learn(v.Type()); err != nil {
			return ways, err
		}
	}
	if several := *(*[][]unsafe.Pointer)(unsafe.Add(v.UnsafePointer(), b.lists[0])); len(several) > 0 {
		for _, list := range several {
			ways = b.readList(list, ways, unread)
		}
		return ways, nil
	}
	return b.readList(*(*[]unsafe.Pointer)(unsafe.Add(v.UnsafePointer(), b.lists[1])), ways, unread), nil
}

func (b *best) readList(list []unsafe.Pointer, ways []news, unread func(error)) []news {
	first := len(ways)
	for _, p := range list {
		if p == nil { // a prefix of which the best path stays
			continue
		}
		w, err := b.readPath(p)
		if err != nil {
			unread(err)
		}
		if err != nil && !w.gone { // nobody knows of which prefix it is
			continue
		}
		w.more = len(ways) > first && ways[len(ways)-1].at == w.at
		ways = append(ways, w)
	}
	return ways
}

// readPath reads the prefix, the next hop, the first AS and the sender of a path. A withdrawal has the prefix and the sender; so has, with an error,
// what leads nowhere.
func (b *best) readPath(at unsafe.Pointer) (w news, err error) {
	var prefix netip.Prefix
	p := reflect.NewAt(b.path.Elem(), at).Interface().(gobgpPath)
	switch n := p.GetNlri().(type) {
	case *bgp.IPAddrPrefix:
		prefix, err = prefixOf(n.Prefix.To4(), n.Length)
	case *bgp.IPv6AddrPrefix:
		prefix, err = prefixOf(n.Prefix.To16(), n.Length)
	default:
		err = fmt.Errorf("reading a prefix: %s is none of IPv4 or IPv6", n)
	}
	if err != nil {
		return w, err
	}
	w.at, w.gone = pack(prefix), *(*bool)(unsafe.Add(at, b.gone))
	h := &w.hop
	if !p.IsLocal() {
		h.peer = b.sender(at)
	}
	if w.gone {
		return w, nil
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
		w.gone = true // what it is in the place of does not stay
		return w, fmt.Errorf("%s has no next hop", prefix)
	}
	h.nextHop = soleNextHop(*h)
	return w, nil
}

// sender is who told a path that is not this host's own.
func (b *best) sender(path unsafe.Pointer) netip.Addr {
	if source := b.source(path); source != b.last { // it is kept, so that no other can come to its place
		b.last, b.told = source, addrOf(*(*net.IP)(unsafe.Add(source, b.addr)))
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
