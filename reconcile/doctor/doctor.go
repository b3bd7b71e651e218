package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"netd/config"
	"netd/reconcile/object"
)

// Level is how bad a finding is.
type Level string

const (
	OK   Level = "ok"
	Warn Level = "warn" // it may break the network, or breaks it in part
	Fail Level = "FAIL" // the network cannot work like this
)

// Finding is what a check found.
type Finding struct {
	Level    Level  `json:"level"`
	Evidence string `json:"evidence"`
	Fix      string `json:"fix,omitempty"` // a command, or several lines of them
	Safe     bool   `json:"safe"`          // --fix may run it: it changes nothing of anybody's but what is at fault
}

// Check is one thing to be looked at. It returns one finding at least, of level OK where all is well.
type Check struct {
	Name  string // "udp-port"
	About string // what is well, for the documentation
	Looks string // what it looks at, likewise
	Fix   string // what its fix does, likewise
	Safe  string // which of its fixes --fix runs: "all", "none", or which
	Run   func(ctx context.Context, s *Site) []Finding
}

// Host is this host, to be read.
type Host interface {
	ReadFile(name string) (string, error)
	Glob(pattern string) []string
	Readlink(name string) string                             // empty where there is none
	Run(ctx context.Context, args ...string) (string, error) // a program's standard output
	Password(file string) error                              // what keeps the speaker from a password_file, nil for nothing
	Place(file string) Place
	ForeignRoutes(within []netip.Prefix) ([]object.Held, error) // routes of others to places in these prefixes
}

// Place is where a file is.
type Place struct {
	Link    string // it is a symbolic link to that
	Loose   string // a folder on the way to it, or to where it leads, in which others than root may put another
	Regular bool   // what is there is a file
	Sound   bool   // and root's alone
}

// Wire is what the host's links lead to.
type Wire interface {
	// Claims asks who has addresses on a link and returns the MACs that answered for each.
	Claims(ctx context.Context, link string, addrs []netip.Addr) (map[netip.Addr][]object.MAC, error)
	// Clocks are how far the clocks of IPv4 hosts are ahead of this one's; who does not tell is left out.
	Clocks(ctx context.Context, addrs []netip.Addr) (map[netip.Addr]time.Duration, error)
	// Paths are what each way carries, one for one.
	Paths(ctx context.Context, ways []Way) ([]Path, error)
	// Connects reports whether a TCP connection to an address is answered, refused or not.
	Connects(ctx context.Context, to netip.Addr) bool
}

// Way is from an address of this host, or from whichever the kernel takes, to another.
type Way struct{ From, To netip.Addr }

// Path is what a way carries, in bytes: 0 where nothing answers.
type Path struct {
	MTU     int
	Link    string // by which packets leave
	LinkMTU int
}

// Site is what is looked at: this host, as a node of a file.
type Site struct {
	Host
	Wire    Wire
	Config  *config.Config
	Node    config.Node
	Applied bool                        // netd has made this host what the file asks for, and did not take it away again
	Link    string                      // that holds the node's address; empty where none does
	Dead    string                      // what keeps that link from carrying anything: "is down", "has no carrier"; empty: nothing does
	Held    map[netip.Addr]netip.Prefix // what this host's links hold
	Holder  map[netip.Addr]string       // and which link it is
}

// file is a file's contents without surrounding blanks; empty where it is not there.
func (s *Site) file(name string) string {
	b, _ := s.ReadFile(name)
	return strings.TrimSpace(b)
}

func (s *Site) has(pattern string) bool { return len(s.Glob(pattern)) > 0 }

func (s *Site) uses(m config.Mode) bool {
	for _, n := range s.Config.Networks {
		if n.Uses(m) {
			return true
		}
	}
	return false
}

// pools are those of all networks.
func (s *Site) pools() (out []netip.Prefix) {
	for _, n := range s.Config.Networks {
		out = append(out, n.Pools...)
	}
	return out
}

// others are the addresses of the other nodes, IPv4 first.
func (s *Site) others() (names map[netip.Addr]string, addrs []netip.Addr) {
	names = map[netip.Addr]string{}
	for _, n := range s.Config.Nodes {
		for _, p := range []netip.Prefix{n.Address, n.Address6} {
			if n.Name != s.Node.Name && p.IsValid() {
				names[p.Addr()], addrs = n.Name, append(addrs, p.Addr())
			}
		}
	}
	slices.SortStableFunc(addrs, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return names, addrs
}

func well(format string, args ...any) []Finding {
	return []Finding{{Level: OK, Evidence: fmt.Sprintf(format, args...)}}
}

// unseen is the finding of a check that could not look.
func unseen(err error, fix string) []Finding {
	return []Finding{{Level: Warn, Evidence: "cannot be looked at: " + err.Error(), Fix: fix}}
}
