package desired

import (
	"fmt"
	"slices"

	"netd/config"
	"netd/reconcile/object"
)

// listener is a port of this host at which netd itself listens, and what for.
type listener struct {
	port object.Port
	what string
	by   string // the attribute of the file that gives it
}

// listeners are those that the file asks for.
func (b *builder) listeners() []listener {
	var out []listener
	for _, n := range b.c.Networks {
		l := listener{object.Port{Proto: "udp", On: n.Port}, "VXLAN", "vxlan.port of network " + n.Name}
		if n.Uses(config.ModeVXLAN) && !slices.ContainsFunc(out, func(o listener) bool { return o.port == l.port }) {
			out = append(out, l)
		}
	}
	if len(b.neighbours) > 0 {
		out = append(out, listener{object.Port{Proto: "tcp", On: b.c.BGP.ListenPort}, "BGP", "bgp.listen_port"})
	}
	return out
}

// Listening tells what netd itself listens for at a port of this host, in words, and "" where for nothing. Nobody can have it published.
func Listening(c *config.Config, self config.Node, f Facts) func(object.Port) string {
	b := newBuilder(c, self, f)
	var listeners []listener
	if err := b.findUnderlays(); err == nil { // else there is nothing yet to listen at
		b.neighbours = b.findNeighbours()
		listeners = b.listeners()
	}
	return func(p object.Port) string {
		for _, l := range listeners {
			if l.port.Meets(p) {
				return fmt.Sprintf("%s (%s)", l.what, l.by)
			}
		}
		return ""
	}
}

// overheard notes ports that are published and that netd itself listens at: the file came to need them later.
func (b *builder) overheard() {
	listeners := b.listeners()
	for _, e := range b.facts.Endpoints {
		for _, p := range e.Ports {
			for _, l := range listeners {
				if l.port.Meets(p) {
					b.note("workload %s has %s published, a port at which netd itself listens for %s: nothing comes to the container by it; publish another one, or change %s in the file",
						e.Who(), p, l.what, l.by)
				}
			}
		}
	}
}
