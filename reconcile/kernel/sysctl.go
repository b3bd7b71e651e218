package kernel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"netd/reconcile"
	"netd/reconcile/object"
)

// sysctls is the kind of kernel settings. Before the first write of one that is not of a link of netd's own the value found
// is kept; Delete puts it back. What is neither wanted nor kept is not looked at. Those in a container are of netd's link
// there and go with it.
type sysctls struct{ k *Kernel }

func (sysctls) Name() string { return object.KindSysctl }

func readSysctl(s object.Sysctl) (value string, there bool, err error) {
	b, err := os.ReadFile(s.Path())
	if errors.Is(err, os.ErrNotExist) {
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("reading %s: %w", s.Name, err)
	}
	return strings.TrimSpace(string(b)), true, nil
}

func (s sysctls) List(_ context.Context, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	kept, err := s.k.keptNow(asking(s.k.c, nil))
	if err != nil {
		return nil, nil, err
	}
	return s.read(want, kept)
}

// read reads what is wanted, and what is kept besides.
func (s sysctls) read(want []reconcile.Resource, kept []string) (own []reconcile.Resource, _ []reconcile.Holder, err error) {
	asked := make(map[string]bool, len(want))
	look := func(name string) error {
		r := object.Sysctl{Name: name}
		value, there, err := readSysctl(r)
		if there {
			r.Value = value
			own = append(own, r)
		}
		return err
	}
	inside := map[object.Place][]object.Sysctl{}
	for _, r := range want {
		w := r.(object.Sysctl)
		if w.In != "" {
			inside[w.In] = append(inside[w.In], w)
			continue
		}
		asked[w.Name] = true
		if err := look(w.Name); err != nil {
			return nil, nil, err
		}
	}
	for in, there := range inside {
		err := s.at(in, func() error {
			for _, w := range there {
				value, ok, err := readSysctl(w)
				if err != nil {
					return err
				}
				if ok {
					own = append(own, object.Sysctl{In: in, Name: w.Name, Value: value})
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) { // else the namespace is gone
			return nil, nil, err
		}
	}
	for _, name := range kept {
		if asked[name] || strings.HasPrefix(name, "link/") {
			continue
		}
		if err := look(name); err != nil {
			return nil, nil, err
		}
	}
	return own, nil, nil
}

// at calls f where a setting lives: /proc/sys/net shows the network namespace of the thread that looks.
func (s sysctls) at(in object.Place, f func() error) error {
	if in == "" {
		return f()
	}
	path := s.k.endpoints[in].Netns
	if path == "" {
		return fmt.Errorf("the network namespace of %s is not known: %w", in, unix.ENOENT)
	}
	return inNetns(path, f)
}

func (s sysctls) Get(ctx context.Context, keys []reconcile.Key, want []reconcile.Resource) ([]reconcile.Resource, []reconcile.Holder, error) {
	if len(want) == len(keys) {
		return s.read(want, nil)
	}
	all, _, err := s.List(ctx, want)
	return only(all, keys), nil, err
}

// withLink reports whether a setting goes with a link of netd, so that there is nothing to put back.
func withLink(x object.Sysctl) bool {
	l := link{name: x.Link(), group: object.LinkGroup}
	for _, l.typ = range []string{"veth", "vxlan"} {
		if l.isNetd() {
			return true
		}
	}
	return false
}

func (s sysctls) Create(ctx context.Context, want reconcile.Resource) error {
	return s.Update(ctx, nil, want)
}

func (s sysctls) Update(_ context.Context, _, want reconcile.Resource) error {
	return s.set(want, asking(s.k.c, nil))
}

// Batch carries out changes in their order. Those of one link of netd's follow each other, right after a look at whose it is.
func (s sysctls) Batch(ctx context.Context, changes []reconcile.Change) []error {
	errs := make([]error, len(changes))
	links, last := asking(s.k.c, nil), ""
	for i, n := 0, 0; i < len(changes); i += n {
		c := changes[i]
		n = 1
		if c.Op == reconcile.Delete {
			errs[i] = s.Delete(ctx, c.Have)
			continue
		}
		if w, ok := c.Want.(object.Sysctl); ok && w.Link() != last {
			links.forget()
			last = w.Link()
		}
		if together := inOne(changes[i:]); len(together) > 0 {
			n = len(together)
			err := s.setInOne(together, links)
			for j := range n {
				errs[i+j] = err
			}
			continue
		}
		errs[i] = s.set(c.Want, links)
	}
	return errs
}

// set writes a setting and keeps what it was before.
func (s sysctls) set(want reconcile.Resource, links linkTable) error {
	w, ok := want.(object.Sysctl)
	if !ok {
		return fmt.Errorf("not a sysctl: %T", want)
	}
	if w.In == "" && withLink(w) { // by the name; it is to be netd's now too
		if _, err := links.own(w.Link()); err != nil {
			return err
		}
	} else if w.In == "" {
		before, there, err := readSysctl(w)
		if err != nil {
			return err
		}
		if there {
			as, err := s.k.keptAs(w.Name, links)
			if err != nil {
				return err
			}
			if err := s.k.store.Keep(as, before); err != nil {
				return fmt.Errorf("keeping what %s was: %w", w.Name, err)
			}
		}
	}
	return s.at(w.In, func() error { return writeSysctl(w) })
}

// writeSysctl goes without os.File, which asks of each file whether it can be waited for.
func writeSysctl(w object.Sysctl) error {
	fd, err := unix.Open(w.Path(), unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("writing %s: %w", w.Name, err)
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Write(fd, []byte(w.Value+"\n"))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("writing %s to %s: %w", w.Value, w.Name, err)
		}
		wrote()
		return nil
	}
}

// Delete puts a setting back. A link's forwarding switch goes to what ip_forward says now, since that is what it would be
// had netd never been there.
func (s sysctls) Delete(_ context.Context, have reconcile.Resource) error {
	h, ok := have.(object.Sysctl)
	if !ok {
		return fmt.Errorf("not a sysctl: %T", have)
	}
	as, err := s.k.keptAs(h.Name, asking(s.k.c, nil))
	if err != nil {
		return err
	}
	before, kept := s.k.store.Before(as)
	if !kept || h.In != "" {
		return nil
	}
	to := object.Sysctl{Name: h.Name, Value: before}
	if strings.HasPrefix(h.Name, "net.ipv4.conf.") && strings.HasSuffix(h.Name, ".forwarding") {
		all, there, err := readSysctl(object.Sysctl{Name: "net.ipv4.ip_forward"})
		if err != nil {
			return err
		}
		if there {
			to.Value = all
		}
	}
	if _, there, err := readSysctl(h); err != nil {
		return err
	} else if there {
		if err := writeSysctl(to); err != nil {
			return err
		}
	}
	return s.k.store.Forget(as)
}
