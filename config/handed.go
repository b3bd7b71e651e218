package config

import (
	"encoding/gob"
	"fmt"
	"io"
)

// maxHanded bounds what is read of a configuration that another process parsed. 10,000 nodes are 0.9 MB; the largest file
// expands to some tens of megabytes.
const maxHanded = 128 << 20

// handed is what a process that has parsed a source gives to the one that read it, in the encoding of the standard library
// (gob) that both, one program, share. It carries all that a Config exports; what is not exported serves the checks, which
// were made, or is computed anew.
type handed struct {
	Inputs []File
	Config *Config
}

// Hand writes c, which was parsed from s, for the process that s came from.
func (s *Source) Hand(w io.Writer, c *Config) error {
	return gob.NewEncoder(w).Encode(handed{s.Inputs, c})
}

// Take reads what Hand wrote of the same source in another process: the configuration, and into s what file() read there.
// Nothing of the source is parsed here.
func (s *Source) Take(r io.Reader) (*Config, error) {
	var h handed
	if err := gob.NewDecoder(io.LimitReader(r, maxHanded)).Decode(&h); err != nil {
		return nil, fmt.Errorf("reading the parsed configuration (of at most %d MiB): %w", maxHanded>>20, err)
	}
	if h.Config == nil {
		return nil, fmt.Errorf("reading the parsed configuration: there is none")
	}
	h.Config.index()
	s.Inputs = h.Inputs
	return h.Config, nil
}
