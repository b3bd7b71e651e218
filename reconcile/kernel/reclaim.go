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
	if l, there, err = getLink(k.c, name); err == nil && there {
		l, err = k.reclaim(l)
	}
	return l, there, err
}

// reclaimAll is reclaim for all links, and finds those that somebody renamed: they are entered by their own names, so that
// what is on them is known as theirs.
func (k *Kernel) reclaimAll(t linkTable) error {
	for i, l := range t.byIndex {
		name, of := l.rightful()
		switch {
		case name == "":
			continue
		case name == l.name:
			var err error
			if l, err = k.reclaim(l); err != nil {
				return err
			}
		case l.group == object.LinkGroup && (!l.isNetd() || k.wires(of)): // by name and group alone it is netd's already
			if _, taken := t.byName[name]; taken && l.typ == "vxlan" {
				name = object.VXLANPortName(l.vxlan.vni, l.vxlan.port) // the other port's device has the VNI's own name
			}
			if _, taken := t.byName[name]; taken {
				continue
			}
			ours, err := k.leadsTo(l, of)
			if err != nil {
				return err
			}
			if !ours {
				continue
			}
			delete(t.byName, l.name)
			l.name, l.renamed = name, l.name
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
		is = p.links.byIndex[l.peer].name == e.Interface
		return nil
	})
	return is, err
}
