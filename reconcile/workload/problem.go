package workload

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile/object"
)

// Kind says what is wrong, for runtimes that act on it.
type Kind string

const (
	Invalid   Kind = "invalid"   // the request itself; asking again does not help
	Namespace Kind = "namespace" // what is given as a network namespace is none, or the host's own
	Unknown   Kind = "unknown"   // no such endpoint, or its namespace went
	Full      Kind = "full"      // no address is free
	Storage   Kind = "storage"   // the store cannot be written
	Later     Kind = "later"     // not now: the host is not configured, or rests
)

// Problem is an error with its kind.
type Problem struct {
	Kind Kind
	Err  error
}

func (p *Problem) Error() string { return p.Err.Error() }
func (p *Problem) Unwrap() error { return p.Err }

func problem(k Kind, format string, args ...any) error {
	return &Problem{k, fmt.Errorf(format, args...)}
}

// KindOf is the kind of an error; empty where it has none.
func KindOf(err error) Kind {
	var p *Problem
	if errors.As(err, &p) {
		return p.Kind
	}
	return ""
}

// check refuses what no runtime means: ids become parts of names, paths and keys.
func (r Request) check() error {
	for _, f := range []struct{ what, is string }{{"container id", r.Container}, {"id", strings.ReplaceAll(string(r.ID), "/", "-")}} {
		if err := CheckID(f.what, f.is); err != nil {
			return err
		}
	}
	if err := CheckInterface(r.Interface); err != nil {
		return err
	}
	if strings.ContainsRune(r.Sticky, 0) || len(r.Sticky) > 512 {
		return problem(Invalid, "the name that its address is kept for is longer than 512 bytes or has a NUL in it")
	}
	v4, v6 := 0, 0
	for _, a := range r.Addrs {
		if a.Is4() {
			v4++
		} else {
			v6++
		}
	}
	if v4 > 1 || v6 > 1 {
		return problem(Invalid, "%s: a container has one IPv4 and one IPv6 address", texts(r.Addrs))
	}
	if r.MTU != 0 && (r.MTU < 576 || r.MTU > 65535) {
		return problem(Invalid, "the MTU %d: 576 to 65535 are possible", r.MTU)
	}
	if r.MAC[0]&1 != 0 {
		return problem(Invalid, "the MAC address %s is a multicast address", r.MAC)
	}
	if r.MAC == object.HostEndMAC { // its own link-local address would be the gateway's
		return problem(Invalid, "the MAC address %s is the gateway's, the same on every wire; take another", r.MAC)
	}
	return nil
}

// ParseMAC reads the MAC address that a runtime asks for.
func ParseMAC(text string) (object.MAC, error) {
	m, err := object.ParseMAC(text)
	if err == nil && m == (object.MAC{}) { // which a Request takes for none
		err = fmt.Errorf("%q is no MAC address that a link can have", text)
	}
	return m, err
}

// CheckID refuses ids that are not what the CNI specification allows: "must start with an alphanumeric character, optionally
// followed by any combination of one or more alphanumeric characters, underscore, dot or hyphen". So none is a path.
func CheckID(what, id string) error {
	if id == "" {
		return problem(Invalid, "there is no %s", what)
	}
	if len(id) > 512 {
		return problem(Invalid, "the %s has %d bytes; 512 are the most", what, len(id))
	}
	for i, c := range []byte(id) {
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && (i == 0 || c != '_' && c != '.' && c != '-') {
			return problem(Invalid, "the %s %q has a %q at place %d: letters, digits, and after the first of them . _ - are allowed", what, id, c, i+1)
		}
	}
	return nil
}

// CheckInterface refuses what the kernel refuses as a link's name (net/core/dev.c, dev_valid_name), and names with which
// it means something else.
func CheckInterface(name string) error {
	switch {
	case name == "" || len(name) >= unix.IFNAMSIZ:
		return problem(Invalid, "the interface name %q has %d bytes; 1 to %d are possible", name, len(name), unix.IFNAMSIZ-1)
	case name == "." || name == ".." || name == "all" || name == "default" || name == "lo":
		return problem(Invalid, "the interface name %q means something else", name)
	case strings.ContainsAny(name, "/:% \t\n\v\f\r\x00"):
		return problem(Invalid, "the interface name %q has a character that no name may have", name)
	}
	for _, c := range name {
		if c < 0x20 || c == 0x7f {
			return problem(Invalid, "the interface name %q has a character that no name may have", name)
		}
	}
	return nil
}

// CNI is the id of what a CNI runtime attached.
func CNI(container, iface string) object.Place {
	return object.Place("cni/" + container + "/" + iface)
}
