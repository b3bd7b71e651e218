package config

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
)

// handedOver fails unless what another process would take over is c in everything that outlives its parsing.
func handedOver(t *testing.T, s *Source, c *Config) {
	t.Helper()
	var wire bytes.Buffer
	if err := s.Hand(&wire, c); err != nil {
		t.Fatal(err)
	}
	there := &Source{Path: s.Path, Files: s.Files}
	got, err := there.Take(&wire)
	if err != nil {
		t.Fatal(err)
	}
	want := *c
	forget(reflect.ValueOf(&want).Elem())
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("taken over:\n%+v\nparsed:\n%+v", *got, want)
	}
	if len(there.Inputs)+len(s.Inputs) > 0 && !reflect.DeepEqual(there.Inputs, s.Inputs) {
		t.Errorf("file() read %v here and %v there", s.Inputs, there.Inputs)
	}
}

// forget clears the ranges, which only the checks of one parsing know. The lists that hold them are copied.
func forget(v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		switch {
		case f.Type() == reflect.TypeFor[hcl.Range]():
			reflect.NewAt(f.Type(), f.Addr().UnsafePointer()).Elem().SetZero()
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct && f.Len() > 0 && f.CanSet():
			f.Set(reflect.AppendSlice(reflect.MakeSlice(f.Type(), 0, f.Len()), f))
			for j := range f.Len() {
				if f.Index(j).Type().PkgPath() == v.Type().PkgPath() {
					forget(f.Index(j))
				}
			}
		}
	}
}

// filled gives everything that a Config exports a value that is not zero, each another. It fails for what gob would lose: a
// pointer to a zero value, say, comes back as nil.
func filled(t *testing.T, v reflect.Value, name string, n *int) {
	*n++
	switch v.Interface().(type) {
	case netip.Prefix:
		v.Set(reflect.ValueOf(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(*n >> 8), byte(*n), 1}), 1+*n%32)))
		return
	case netip.Addr:
		v.Set(reflect.ValueOf(netip.MustParseAddr(fmt.Sprintf("fe80::%x%%eth%d", *n, *n))))
		return
	case time.Duration:
		v.SetInt(int64(*n) * 1_000_001)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() {
				filled(t, v.Field(i), name+"."+f.Name, n)
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		filled(t, v.Index(0), name+"[0]", n)
		filled(t, v.Index(1), name+"[1]", n)
	case reflect.Array:
		for i := range v.Len() {
			filled(t, v.Index(i), name+"[…]", n)
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		filled(t, k, name, n)
		filled(t, e, name, n)
		v.SetMapIndex(k, e)
	case reflect.String:
		v.SetString(fmt.Sprintf("ü\x00%d", *n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(-*n))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		v.SetUint(uint64(*n) % 251)
	default:
		t.Errorf("%s is of a kind (%s) that may not come back as it was", name, v.Kind())
	}
}

// TestHanded: a configuration that another process parsed is the one that parsing it here would give.
func TestHanded(t *testing.T) {
	s := &Source{Files: []File{{Name: "netd.hcl"}}, Inputs: []File{{"mode", []byte("bgp")}}}
	var full Config
	n := 0
	filled(t, reflect.ValueOf(&full).Elem(), "Config", &n)
	full.index()
	handedOver(t, s, &full)
	empty := &Config{}
	empty.index()
	handedOver(t, s, empty)

	files, err := filepath.Glob("testdata/fuzz/FuzzParse/*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	files = append(files, "reference.hcl")
	parsed := 0
	try := func(name string, b []byte) {
		s := &Source{Path: name, Files: []File{{Name: name, Bytes: b}}, saved: true}
		if c, _ := s.Parse(); c != nil {
			parsed++
			handedOver(t, s, c)
		}
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"x.hcl", "x.hcl.json"} {
			try(name, b)
		}
	}
	if parsed == 0 {
		t.Error("reference.hcl does not parse")
	}
	try("x.hcl", []byte(smallest+`
bgp {
  ttl_security = false
  advertise    = []
}
node "z" {
  address = "192.168.170.9/24"
  blocks  = []
  labels  = {}
}
peer "nobody" {
  address      = "192.168.170.250"
  asn          = 65000
  nodes        = []
  communities  = []
  import       = []
  export       = []
}
`))
	if parsed == 1 {
		t.Error("the file of empty lists does not parse")
	}
}

// TestHandedInPart: what a process that died had written is no configuration.
func TestHandedInPart(t *testing.T) {
	s := &Source{Path: "x.hcl", Files: []File{{Name: "x.hcl", Bytes: []byte(smallest)}}, saved: true}
	c, ds := s.Parse()
	if c == nil {
		t.Fatal(ds)
	}
	var wire bytes.Buffer
	if err := s.Hand(&wire, c); err != nil {
		t.Fatal(err)
	}
	for n := range wire.Len() {
		if c, err := s.Take(bytes.NewReader(wire.Bytes()[:n])); err == nil || c != nil {
			t.Fatalf("%d of %d bytes: %+v, %v", n, wire.Len(), c, err)
		}
	}
}
