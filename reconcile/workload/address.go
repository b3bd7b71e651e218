package workload

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"netd/config"
	"netd/reconcile/desired"
	"netd/reconcile/object"
	"netd/reconcile/store"
)

// Site is the configuration in force and which of its nodes this host is.
type Site struct {
	Config *config.Config
	Node   config.Node
}

// network finds the network that a request means: the only one, where it names none.
func (s Site) network(name string) (config.Network, error) {
	var names []string
	for _, n := range s.Config.Networks {
		if n.Name == name || name == "" && len(s.Config.Networks) == 1 {
			return n, nil
		}
		names = append(names, n.Name)
	}
	if name == "" {
		return config.Network{}, problem(Invalid, "the file has several networks, %s: say which one", strings.Join(names, ", "))
	}
	return config.Network{}, problem(Invalid, "the file has no network %q; it has %s", name, strings.Join(names, ", "))
}

// blocks are this node's blocks of a network and family, in the file's order.
func (s Site) blocks(network string, v6 bool) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range s.Config.BlocksIn(s.Node, network) {
		if p.Addr().Is6() == v6 {
			out = append(out, p)
		}
	}
	return out
}

// never are the addresses of a network that are not handed out unasked: the tunnels', those of declared workloads, which
// wait for them, and the reserved ones.
func (s Site) never(n config.Network) (fixed, reserved []netip.Prefix) {
	single := func(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
	for _, v6 := range []bool{false, true} {
		if a, ok := s.Config.Tunnel(s.Node, n.Name, v6); ok {
			fixed = append(fixed, single(a))
		}
	}
	for _, w := range s.Config.Workloads {
		for _, a := range w.Addresses {
			fixed = append(fixed, single(a))
		}
	}
	return fixed, n.Reserved
}

// pick chooses an address: the one that sticky had last, if nobody else has it; else, in the first block with room, one
// that was never handed out, else the one that is unused for longest. ok is false where every block is full.
func pick(tx store.Tx, blocks, never []netip.Prefix, sticky string) (choice netip.Addr, ok bool, err error) {
	for _, b := range blocks {
		var fresh, oldest, again netip.Addr
		var freed uint64
		next := skip(b.Masked().Addr(), never)
		err := tx.Addresses(b, func(a netip.Addr, x store.Address) bool {
			if !fresh.IsValid() && next.IsValid() && next.Less(a) {
				fresh = next
			}
			if next == a {
				next = skip(a.Next(), never)
			}
			switch {
			case x.Holder != "" || within(a, never):
			case x.Sticky == sticky:
				again = a
			case !oldest.IsValid() || x.Freed < freed:
				oldest, freed = a, x.Freed
			}
			return !again.IsValid()
		})
		if err != nil {
			return netip.Addr{}, false, err
		}
		if again.IsValid() {
			return again, true, nil
		}
		if !fresh.IsValid() && next.IsValid() && b.Contains(next) {
			fresh = next
		}
		switch {
		case ok:
		case fresh.IsValid():
			choice, ok = fresh, true
		case oldest.IsValid():
			choice, ok = oldest, true
		}
	}
	return choice, ok, nil
}

// skip returns the first address from a on that is in none of never.
func skip(a netip.Addr, never []netip.Prefix) netip.Addr {
	for a.IsValid() {
		i := slices.IndexFunc(never, func(p netip.Prefix) bool { return p.Contains(a) })
		if i < 0 {
			return a
		}
		a = object.Last(never[i]).Next()
	}
	return a
}

func within(a netip.Addr, in []netip.Prefix) bool {
	return slices.ContainsFunc(in, func(p netip.Prefix) bool { return p.Contains(a) })
}

// full is the error of a node whose blocks are used up: how many addresses, by what, and where to add a block.
func (s Site) full(known map[object.Place]store.Endpoint, n config.Network, v6 bool) error {
	blocks := s.blocks(n.Name, v6)
	family := "IPv4"
	if v6 {
		family = "IPv6"
	}
	where := fmt.Sprintf("%s:%d", s.Node.BlocksPos.File, s.Node.BlocksPos.Line)
	if len(blocks) == 0 {
		return problem(Full, "node %q has no %s block in network %q: add one to its blocks, %s", s.Node.Name, family, n.Name, where)
	}
	var parts []string
	for _, u := range s.Usage(known) {
		if slices.Contains(blocks, u.Block) {
			parts = append(parts, u.String())
		}
	}
	return problem(Full, "node %q has no free %s address in network %q: %s; add a block to its blocks, %s",
		s.Node.Name, family, n.Name, strings.Join(parts, "; "), where)
}

// Usage is what became of one block of this node.
type Usage struct {
	Block    netip.Prefix
	Network  string
	Size     uint64         // addresses that it has; the largest number there is where it has more
	Held     map[string]int // how many are held, by whom: "cni", "docker", "file", "tunnel"
	Reserved uint64
	Pending  int // of those held by the file: nobody has them now, and nobody else gets them
}

// Used is how many addresses cannot be handed out now.
func (u Usage) Used() uint64 {
	n := u.Reserved
	for _, k := range u.Held {
		n += uint64(k)
	}
	return n
}

// Free is how many can.
func (u Usage) Free() uint64 { return u.Size - min(u.Used(), u.Size) }

// By tells by whom a block is used: "60 by cni, 1 by tunnel, 2 reserved".
func (u Usage) By() string {
	var by []string
	for _, who := range []string{"cni", "docker", "file", "tunnel"} {
		if n := u.Held[who]; n > 0 {
			by = append(by, fmt.Sprintf("%d by %s", n, who))
			if who == "file" && u.Pending > 0 {
				by[len(by)-1] += fmt.Sprintf(" (%d pending)", u.Pending)
			}
		}
	}
	if u.Reserved > 0 {
		by = append(by, fmt.Sprintf("%d reserved", u.Reserved))
	}
	return strings.Join(by, ", ")
}

func (u Usage) String() string {
	return fmt.Sprintf("%s has %d of %d addresses in use (%s)", u.Block, u.Used(), u.Size, u.By())
}

// Usage tells, for each block of this node, who holds its addresses.
func (s Site) Usage(known map[object.Place]store.Endpoint) []Usage {
	var out []Usage
	holders := map[netip.Addr]string{}
	for _, w := range s.Config.Workloads {
		for _, a := range w.Addresses {
			holders[a] = "file"
		}
	}
	for _, e := range known {
		for _, a := range e.Addrs() {
			holders[a] = e.Owner
		}
	}
	for _, n := range s.Config.Networks {
		for _, v6 := range []bool{false, true} {
			if a, ok := s.Config.Tunnel(s.Node, n.Name, v6); ok && holders[a] == "" {
				holders[a] = "tunnel"
			}
		}
		for _, b := range s.Config.BlocksIn(s.Node, n.Name) {
			u := Usage{Block: b, Network: n.Name, Size: size(b), Held: map[string]int{}}
			for a, who := range holders {
				if b.Contains(a) {
					u.Held[who]++
				}
			}
			for _, r := range n.Reserved {
				switch {
				case r.Bits() <= b.Bits() && r.Contains(b.Addr()):
					u.Reserved = u.Size
				case b.Contains(r.Addr()):
					u.Reserved += size(r)
				}
			}
			for a := range holders {
				if b.Contains(a) && within(a, n.Reserved) && u.Reserved > 0 {
					u.Reserved--
				}
			}
			out = append(out, u)
		}
	}
	return out
}

func size(p netip.Prefix) uint64 {
	host := p.Addr().BitLen() - p.Bits()
	if host >= 64 {
		return 1<<64 - 1
	}
	return 1 << host
}

// declared reports whether an address belongs to a workload of the file, and to which.
func (s Site) declared(a netip.Addr) (object.Place, bool) {
	for _, w := range s.Config.Workloads {
		if slices.Contains(w.Addresses, a) {
			return desired.WorkloadID(w), true
		}
	}
	return "", false
}
