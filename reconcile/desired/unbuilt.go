package desired

import (
	"fmt"

	"netd/config"
)

// Unbuilt is something that the file asks for and this version cannot do. It is an error of plan, never ignored.
type Unbuilt struct {
	What string // "network \"lab\": encapsulate = \"cross-subnet\""
	Pos  config.Pos
}

func (u Unbuilt) Error() string {
	return fmt.Sprintf("%s:%d: %s: netd cannot do this yet; take it out of the file", u.Pos.File, u.Pos.Line, u.What)
}

// CannotYet lists what the file asks for and this version cannot do.
func CannotYet(c *config.Config) []Unbuilt {
	var out []Unbuilt
	add := func(p config.Pos, format string, args ...any) {
		out = append(out, Unbuilt{fmt.Sprintf(format, args...), p})
	}
	if c.Daemon.Hold {
		add(c.Daemon.Pos, "daemon: on_change = \"hold\"")
	}
	if c.Daemon.HTTP != "" {
		add(c.Daemon.Pos, "daemon: http")
	}
	return out
}

// count spells a number of things: "1 route", "2 routes".
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
