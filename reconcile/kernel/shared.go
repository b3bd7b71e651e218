package kernel

// shared is what the kinds use together: between the calls of Together one socket in each container's namespace, and between
// those of Reading, when nothing is written, one reading of its links, and what was asked of the host's.
type shared struct {
	depth   int
	sockets map[string]*conn // by the path of the namespace
	reading bool
	tables  map[*conn]linkTable
	host    *linkTable
}

// sharedMost is how many containers' namespaces are held open at a time: a namespace that is held does not go.
const sharedMost = 64

// Together has the sockets of containers' namespaces stay open until done is called. It is for a few containers and for moments.
func (k *Kernel) Together() (done func()) {
	s := &k.shared
	s.depth++
	return func() {
		if s.depth--; s.depth > 0 {
			return
		}
		for _, c := range s.sockets {
			c.close()
		}
		s.sockets = nil
	}
}

// Reading has what is read of links be read once until done is called. Nothing is written meanwhile.
func (k *Kernel) Reading() (done func()) {
	s := &k.shared
	together := k.Together()
	s.reading, s.tables, s.host = true, map[*conn]linkTable{}, nil
	return func() {
		s.reading, s.tables, s.host = false, nil, nil
		together()
	}
}

// dial is dialAt, and done takes the place of close.
func (s *shared) dial(path string) (c *conn, done func(), err error) {
	if c := s.sockets[path]; c != nil {
		return c, func() {}, nil
	}
	if c, err = dialAt(path); err != nil {
		return nil, nil, err
	}
	if s.depth == 0 || len(s.sockets) >= sharedMost {
		return c, c.close, nil
	}
	if s.sockets == nil {
		s.sockets = map[string]*conn{}
	}
	s.sockets[path] = c
	return c, func() {}, nil
}

// links is readLinks.
func (s *shared) links(c *conn) (linkTable, error) {
	if t, ok := s.tables[c]; ok {
		return t, nil
	}
	t, err := readLinks(c)
	if err == nil && s.reading {
		s.tables[c] = t
	}
	return t, err
}

// hostNow is the host's own namespace, of which each link is asked for when it is needed.
func (k *Kernel) hostNow() place {
	if k.shared.host != nil {
		return place{c: k.c, links: *k.shared.host}
	}
	t := k.ask()
	if k.shared.reading {
		k.shared.host = &t
	}
	return place{c: k.c, links: t}
}
