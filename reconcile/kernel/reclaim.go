package kernel

import (
	"strings"

	"netd/reconcile/object"
)

// A link bears three marks of netd: its name, its group and its alias, which says whose it is. Who renames it or takes it out of
// its group leaves two that say the same, and netd gives it the third back. A veth must lead to the workload of its alias too.

// rightful is the name that a link with an alias of netd's has to have, and of which workload it is; empty for any other link.
func (l link) rightful() (name string, of object.Place) {
	whose, ok := strings.CutPrefix(l.alias, "netd: ")
	switch {
	case !ok:
	case l.typ == "veth":
		return object.VethName(whose), object.Place(whose)
	case l.typ == "vxlan":
		if second := object.VXLANPortName(l.vxlan.vni, l.vxlan.port); l.name == second {
			return second, ""
		}
		return object.VXLANName(l.vxlan.vni), ""
	}
	return "", ""
}

// reclaim is l with netd's mark where somebody took that away.
func (k *Kernel) reclaim(l link) (link, error) {
	name, of := l.rightful()
	if name != l.name || l.group == object.LinkGroup {
		return l, nil
	}
	ours, err := k.leadsTo(l, of)
	if ours {
		l.group, l.unmarked = object.LinkGroup, true
	}
	return l, err
}

// getOwn reads one link by its name.
func (k *Kernel) getOwn(name string) (l link, there bool, err error) {
	t := k.ask()
	l, there = t.named(name)
	return l, there, t.trouble()
}

// ask is the host's links, of which each is asked for.
func (k *Kernel) ask() linkTable {
	return asking(k.c, func(l link) (link, error) {
		return k.recognise(l, func(name string) (bool, error) {
			_, taken, err := getLink(k.c, 0, name)
			return taken, err
		})
	})
}

// recognise is l with netd's mark and its own name where somebody took one of them away. taken tells of names.
func (k *Kernel) recognise(l link, taken func(name string) (bool, error)) (link, error) {
	name, of := l.rightful()
	switch {
	case name == "":
		return l, nil
	case name == l.name:
		return k.reclaim(l)
	case l.group != object.LinkGroup, l.isNetd() && !k.wires(of): // by name and group alone it is netd's already
		return l, nil
	}
	is, err := taken(name)
	if is && err == nil && l.typ == "vxlan" {
		name = object.VXLANPortName(l.vxlan.vni, l.vxlan.port) // the other port's device has the VNI's own name
		is, err = taken(name)
	}
	if is || err != nil {
		return l, err
	}
	ours, err := k.leadsTo(l, of)
	if ours {
		l.name, l.renamed = name, l.name
	}
	return l, err
}

// recogniseAll is recognise for all links: those that somebody renamed are entered by their own names, so that what is on them
// is known as theirs.
func (k *Kernel) recogniseAll(t linkTable) error {
	taken := func(name string) (bool, error) { _, is := t.byName[name]; return is, nil }
	for i, was := range t.byIndex {
		l, err := k.recognise(was, taken)
		if err != nil {
			return err
		}
		if l.renamed != "" {
			delete(t.byName, was.name)
		}
		t.byName[l.name], t.byIndex[i] = l, l
	}
	return nil
}

// wires reports whether a workload is known.
func (k *Kernel) wires(of object.Place) bool { _, ok := k.endpoints[of]; return ok }

// leadsTo reports whether a veth's other end is the interface of a workload in its namespace: of one that is not wanted, and
// of which nobody says where that is, whether that is some other namespace. A VXLAN device leads nowhere else.
func (k *Kernel) leadsTo(l link, of object.Place) (is bool, err error) {
	if l.typ == "vxlan" {
		return true, nil
	}
	e, known := k.endpoints[of]
	if !known {
		return l.nsid >= 0, nil
	}
	if e.Netns == "" {
		return false, nil
	}
	if id, err := k.nsid(e.Netns); err != nil || id < 0 || id != l.nsid {
		return false, nil // the namespace may be gone
	}
	_, err = k.inside(of, func(p place) error {
		is = p.links.at(l.peer).name == e.Interface
		return nil
	})
	return is, err
}
