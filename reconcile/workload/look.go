package workload

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Declared is a workload that the file declares, and where its container was found. Its Netns is empty where none runs.
type Declared struct {
	object.Endpoint
	Container string // how people call it: `container "web-1"`; empty: by its namespace's path
	Identity  string // which namespace was found at Netns, where the path may come to mean another one
	Unknown   error  // why it is not known whether the container runs
}

// String is how the workload's container is spoken of.
func (d Declared) String() string {
	if d.Container != "" {
		return d.Container
	}
	return d.Netns
}

// Pending is a workload that cannot be attached now.
type Pending struct {
	ID      object.Place `json:"id"`
	Reason  string       `json:"reason"`
	Refused bool         `json:"refused"` // it is there, and netd will not touch it
	Soon    bool         `json:"-"`       // its file is there, and the namespace comes in a moment: a bind mount follows the file
}

// inode tells network namespaces apart.
type inode struct{ dev, ino uint64 }

// Look tells which declared endpoints have a namespace that can be attached: one that is there, not the host's own, not
// that of an attached one or of an endpoint before it, and with room for the link and the default route. It keeps no
// descriptor, which would pin the namespace. One that is attached, and of which the runtime cannot say where it is, stays
// so: it has no Netns then.
func Look(ds []Declared, attached []object.Endpoint) (present []object.Endpoint, pending []Pending) {
	taken := map[inode]object.Place{}
	for _, e := range attached {
		if id, err := identify(e.Netns); err == nil {
			taken[id] = e.ID
		}
	}
	if own, err := identify("/proc/thread-self/ns/net"); err == nil {
		taken[own] = ""
	}
	linked := make([]bool, len(ds))
	for i, d := range ds {
		linked[i] = linkExists(object.VethName(string(d.ID)))
	}
	there, not := map[object.Place]object.Endpoint{}, map[object.Place]Pending{}
	for _, wired := range []bool{true, false} { // who has a namespace keeps it, wherever in the file it stands
		for i, d := range ds {
			if linked[i] != wired {
				continue
			}
			if d.Unknown != nil && wired {
				d.Netns = ""
				there[d.ID] = d.Endpoint
				continue
			}
			id, refused, err := d.look(taken, wired)
			if err != nil {
				not[d.ID] = Pending{ID: d.ID, Reason: err.Error(), Refused: refused, Soon: errors.Is(err, errYet) && d.Container == ""}
				continue
			}
			taken[id] = d.ID
			there[d.ID] = d.Endpoint
		}
	}
	for _, d := range ds {
		if e, ok := there[d.ID]; ok {
			present = append(present, e)
		} else if p, ok := not[d.ID]; ok {
			pending = append(pending, p)
		}
	}
	return present, pending
}

// look is the namespace of one endpoint, or why it cannot be attached.
func (d Declared) look(taken map[inode]object.Place, wired bool) (id inode, refused bool, err error) {
	none := fmt.Errorf("no network namespace %s", d.Netns)
	if d.Container != "" {
		none = fmt.Errorf("no %s", d.Container)
	}
	switch {
	case d.Unknown != nil && !errors.Is(d.Unknown, fs.ErrNotExist) && !errors.Is(d.Unknown, unix.ECONNREFUSED):
		return id, false, fmt.Errorf("%w: %w", none, d.Unknown)
	case d.Netns == "" || d.Unknown != nil:
		return id, false, none
	}
	f, err := open(d.Netns)
	if errors.Is(err, fs.ErrNotExist) {
		return id, false, none
	}
	if err != nil {
		return id, false, err
	}
	defer f.Close()
	if id, err = inodeOf(f); err != nil {
		return id, false, err
	}
	if holder, held := taken[id]; held && holder == "" && d.Container != "" {
		return id, true, fmt.Errorf("%s is in the host's own network namespace", d)
	} else if held && holder == "" {
		return id, true, fmt.Errorf("%s is the host's own network namespace", d)
	} else if held && d.Container != "" {
		return id, true, fmt.Errorf("%s is in the network namespace of %s", d, holder)
	} else if held {
		return id, true, fmt.Errorf("%s is the namespace of %s too", d, holder)
	}
	if d.Identity != "" {
		if now, err := Identify(d.Netns); err != nil || now != d.Identity {
			return id, false, none
		}
	}
	if wired { // what is in the way of a container that is attached is a conflict, or drift
		return id, false, nil
	}
	if err := d.room(f); err != nil && !d.renamed(f) {
		return id, true, err
	}
	return id, false, nil
}

// renamed reports whether the interface in a namespace is the other end of a link of netd's that somebody renamed on the host.
func (d Declared) renamed(f *os.File) bool {
	peer := 0
	err := inNamespace(f, func() error {
		i, err := net.InterfaceByName(d.Interface)
		if err == nil {
			peer = i.Index
		}
		return err
	})
	if err != nil {
		return false
	}
	links, err := netlink.LinkList()
	return err == nil && slices.ContainsFunc(links, func(l netlink.Link) bool {
		a := l.Attrs()
		return l.Type() == "veth" && a.Group == object.LinkGroup && a.Alias == "netd: "+string(d.ID) && a.ParentIndex == peer
	})
}

// room looks for what is in the way in a namespace that nothing of netd's is in.
func (d Declared) room(f *os.File) error {
	advice := ""
	if d.Container != "" {
		advice = "; start it without a network of its own (docker run --network none)"
	}
	return inNamespace(f, func() error {
		if _, err := net.InterfaceByName(d.Interface); err == nil {
			return fmt.Errorf("%s has an interface %s already, which is not netd's%s", d, d.Interface, advice)
		}
		for _, a := range d.Addrs() {
			family := netlink.FAMILY_V4
			if a.Is6() {
				family = netlink.FAMILY_V6
			}
			rs, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return fmt.Errorf("reading the routes of %s: %w", d, err)
			}
			for _, r := range rs {
				if ones := 0; r.Dst != nil {
					if ones, _ = r.Dst.Mask.Size(); ones > 0 {
						continue
					}
				}
				if r.Type == unix.RTN_UNICAST && r.Protocol != object.Protocol {
					return fmt.Errorf("%s has a default route already, which is not netd's%s", d, advice)
				}
			}
		}
		return nil
	})
}
