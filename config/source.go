package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// File is a file as it was read.
type File struct {
	Name  string `json:"name"` // as messages show it
	Bytes []byte `json:"bytes"`
}

// Source is all that a configuration is made from: the files, the variables that were set, and what file() read. Parsing
// the same Source gives the same Config.
type Source struct {
	Path   string            `json:"path"` // what was asked for: a file or a folder
	Files  []File            `json:"files"`
	Vars   map[string]string `json:"vars"`
	Inputs []File            `json:"inputs"` // what file() read, by the name it was given

	dir   string // where relative names of file() begin
	saved bool   // it comes from disk whole: nothing else is to be read
}

// VarsFromEnv are the variables that the environment sets: NETD_VAR_x is x.
func VarsFromEnv(environ []string) map[string]string {
	vars := map[string]string{}
	for _, e := range environ {
		if rest, ok := strings.CutPrefix(e, "NETD_VAR_"); ok {
			if name, value, ok := strings.Cut(rest, "="); ok && name != "" {
				vars[name] = value
			}
		}
	}
	return vars
}

// Read reads a file, or all *.hcl and *.hcl.json files of a folder in the order of their names. "-" is not special.
func Read(path string, vars map[string]string) (*Source, error) {
	names, err := FilesOf(path)
	if err != nil {
		return nil, err
	}
	s := &Source{Path: path, Vars: vars, dir: dirOf(path, names[0])}
	total := 0
	for _, name := range names {
		b, err := readBounded(name)
		if err != nil {
			return nil, fmt.Errorf("reading the configuration: %w", err)
		}
		total += len(b)
		s.Files = append(s.Files, File{name, b})
	}
	if total > maxBytes && len(names) > 1 {
		return nil, fmt.Errorf("reading the configuration: %s holds more than %d bytes in all", path, maxBytes)
	}
	return s, nil
}

// FilesOf are the files that a path means, in the order in which they are merged: the file itself, or those of a folder.
func FilesOf(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	return configFiles(path)
}

func configFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading the configuration: %w", err)
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); !strings.HasPrefix(n, ".") && (strings.HasSuffix(n, ".hcl") || strings.HasSuffix(n, ".hcl.json")) {
			names = append(names, filepath.Join(dir, n))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("reading the configuration: the folder %s holds no *.hcl or *.hcl.json file", dir)
	}
	return names, nil
}

// readBounded reads a file of at most maxBytes.
func readBounded(name string) ([]byte, error) {
	f, err := Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return ReadBounded(f, name)
}

// Open opens a file of a configuration to be read. Anything but a regular file is refused: a pipe or a device would keep a
// daemon waiting for what never comes.
func Open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENXIO) { // a socket
		return nil, notRegular(name)
	}
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notRegular(name)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func notRegular(name string) error {
	return fmt.Errorf("%s is not a regular file: write what it would give into one", name)
}

// ReadBounded reads what a configuration file may hold; more is an error.
func ReadBounded(r io.Reader, name string) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxBytes {
		return nil, fmt.Errorf("%s is larger than %d MiB, which no configuration is", name, maxBytes>>20)
	}
	return b, nil
}

// Same reports whether what o was parsed from, with all that file() read then, is what is there now for s, which was only
// read: parsing it would give the same.
func (s *Source) Same(o *Source) bool {
	now := *s
	now.Inputs = nil
	for _, f := range o.Inputs {
		if _, err := now.input(f.Name); err != nil {
			return false
		}
	}
	same := func(a, b File) bool { return a.Name == b.Name && bytes.Equal(a.Bytes, b.Bytes) }
	return now.Path == o.Path && maps.Equal(now.Vars, o.Vars) && slices.EqualFunc(now.Files, o.Files, same) && slices.EqualFunc(now.Inputs, o.Inputs, same)
}

// Watch lists the paths whose change may change the configuration.
func (s *Source) Watch() []string {
	paths := []string{s.Path}
	for _, f := range s.Inputs {
		p := f.Name
		if !filepath.IsAbs(p) {
			p = filepath.Join(s.dir, p)
		}
		paths = append(paths, p)
	}
	return paths
}

// digest is over everything that the outcome depends on, of the variables those that are declared.
func (s *Source) digest(declared []string) string {
	h := sha256.New()
	put := func(label string, b []byte) { fmt.Fprintf(h, "%s %d\n%s\n", label, len(b), b) }
	for _, f := range s.Files {
		put(filepath.Base(f.Name), f.Bytes)
	}
	for _, name := range declared {
		if value, set := s.Vars[name]; set {
			put("var "+name, []byte(value))
		}
	}
	inputs := slices.Clone(s.Inputs)
	slices.SortFunc(inputs, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range inputs {
		put("input "+f.Name, f.Bytes)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Marshal is the source as it is kept on disk.
func (s *Source) Marshal() ([]byte, error) { return json.MarshalIndent(s, "", " ") }

// Unmarshal reads what Marshal wrote. The source touches no other file from then on.
func Unmarshal(b []byte) (*Source, error) {
	s, err := Handed(b)
	if err != nil {
		return nil, fmt.Errorf("reading the kept configuration: %w", err)
	}
	s.saved = true
	return s, nil
}

// Handed reads what Marshal wrote of a source that another process has read. What file() names is read from disk where it is
// not in it.
func Handed(b []byte) (*Source, error) {
	s := &Source{}
	if err := json.Unmarshal(b, s); err != nil {
		return nil, err
	}
	if len(s.Files) == 0 {
		return nil, errors.New("it holds no file")
	}
	s.dir = dirOf(s.Path, s.Files[0].Name)
	return s, nil
}

// dirOf is where relative names begin: in a folder that was asked for, else beside the file.
func dirOf(path, first string) string {
	if first == path {
		return filepath.Dir(path)
	}
	return path
}
