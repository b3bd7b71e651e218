package kernel

import (
	"strconv"
	"strings"

	"netd/reconcile/object"
)

// What a setting was before netd wrote it is kept under the setting's name; a link's under the link's index in place of its name,
// since it stays with the link when that is renamed, and is none of another link's that comes to have the name. The kernel gives no
// index twice. Where a netd of before kept it by name, that counts until the next boot.

// keptAs is what a setting is kept under. A link's name has no colon (net/core/dev.c, dev_valid_name).
func (k *Kernel) keptAs(name string, links linkTable) (string, error) {
	of := object.Sysctl{Name: name}.Link()
	if of == "" {
		return name, nil
	}
	l, there := links.named(of)
	if !there {
		return name, links.trouble()
	}
	by := withLinkName(name, ":"+strconv.Itoa(l.index))
	if _, kept := k.store.Before(by); !kept {
		if _, kept = k.store.Before(name); kept {
			return name, nil
		}
	}
	return by, nil
}

// keptNow are the settings that have a value from before, by the names that links have now. Those of links that are gone went
// with them.
func (k *Kernel) keptNow(links linkTable) (names []string, err error) {
	for _, name := range k.store.Names() {
		if index, by := strings.CutPrefix(object.Sysctl{Name: name}.Link(), ":"); by {
			i, _ := strconv.Atoi(index)
			l := links.at(i)
			if l.name == "" {
				continue
			}
			name = withLinkName(name, l.name)
		}
		names = append(names, name)
	}
	return names, links.trouble()
}

// withLinkName is a link's setting by another name of the link.
func withLinkName(name, link string) string {
	part := strings.Split(name, ".")
	return object.LinkSysctl(part[1], part[2], link, part[4])
}
