package config

import (
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// functions are the functions of the language, with Terraform's meaning.
func (p *parser) functions() map[string]function.Function {
	all := map[string]function.Function{
		"cidrsubnet":  cidrsubnet,
		"cidrhost":    cidrhost,
		"cidrnetmask": cidrnetmask,
		"cidrsubnets": cidrsubnets,
		"range":       rangeFunction,
		"format":      stdlib.FormatFunc,
		"formatlist":  stdlib.FormatListFunc,
		"join":        stdlib.JoinFunc,
		"split":       stdlib.SplitFunc,
		"concat":      stdlib.ConcatFunc,
		"merge":       stdlib.MergeFunc,
		"lookup":      lookupFunction,
		"keys":        stdlib.KeysFunc,
		"values":      stdlib.ValuesFunc,
		"length":      lengthFunction,
		"min":         stdlib.MinFunc,
		"max":         stdlib.MaxFunc,
		"flatten":     stdlib.FlattenFunc,
		"distinct":    distinctFunction,
		"sort":        stdlib.SortFunc,
		"toset":       toFunction(cty.SetVal, cty.SetValEmpty),
		"tolist":      toFunction(cty.ListVal, cty.ListValEmpty),
		"upper":       stdlib.UpperFunc,
		"lower":       stdlib.LowerFunc,
		"replace":     replaceFunction,
		"trimspace":   stdlib.TrimSpaceFunc,
		"jsondecode":  stdlib.JSONDecodeFunc,
		"file":        p.fileFunction(),
	}
	for name, f := range all {
		all[name] = p.bounded(name, f)
	}
	return all
}

// lengthFunction is the number of elements of a collection, or of characters of a string.
var lengthFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "value", Type: cty.DynamicPseudoType, AllowMarked: true}},
	Type:   function.StaticReturnType(cty.Number),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		v := args[0]
		if v.Type() == cty.String {
			return stdlib.Strlen(v) // what a reader takes for one character is one
		}
		if !v.CanIterateElements() {
			return cty.NilVal, errors.New("the argument is neither a collection nor a string")
		}
		return cty.NumberIntVal(int64(v.LengthInt())), nil
	},
})

// lookupFunction is an element of a map or object by its key: the default where there is none, an error without one.
var lookupFunction = function.New(&function.Spec{
	Params:   []function.Parameter{{Name: "map", Type: cty.DynamicPseudoType, AllowMarked: true}, stringParam("key")},
	VarParam: &function.Parameter{Name: "default", Type: cty.DynamicPseudoType, AllowNull: true},
	Type: func(args []cty.Value) (cty.Type, error) {
		v, err := lookup(args)
		return v.Type(), err
	},
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return lookup(args) },
})

func lookup(args []cty.Value) (cty.Value, error) {
	if len(args) > 3 {
		return cty.DynamicVal, errors.New("takes a map, a key, and a default")
	}
	m, key := args[0], args[1].AsString()
	switch t := m.Type(); {
	case t.IsObjectType() && t.HasAttribute(key):
		return m.GetAttr(key), nil
	case t.IsMapType() && m.HasIndex(args[1]).True():
		return m.Index(args[1]), nil
	case !t.IsObjectType() && !t.IsMapType():
		return cty.DynamicVal, function.NewArgErrorf(0, "a map is wanted")
	case len(args) == 3:
		return args[2], nil
	}
	return cty.DynamicVal, function.NewArgErrorf(1, "the map has no key %q, and no default is given", key)
}

// toFunction makes a collection of another kind of a list, a tuple or a set.
func toFunction(of func([]cty.Value) cty.Value, empty func(cty.Type) cty.Value) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "v", Type: cty.List(cty.DynamicPseudoType)}},
		Type:   function.StaticReturnType(cty.DynamicPseudoType),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if args[0].LengthInt() == 0 {
				return empty(args[0].Type().ElementType()), nil
			}
			return of(args[0].AsValueSlice()), nil
		},
	})
}

// distinctFunction is a list without what was in it before. The library's compares each with all others.
var distinctFunction = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "list", Type: cty.List(cty.DynamicPseudoType)}},
	Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
	Impl: func(args []cty.Value, t cty.Type) (cty.Value, error) {
		seen := map[int][]cty.Value{} // by hash
		var out []cty.Value
		for _, v := range args[0].AsValueSlice() {
			h := v.Hash()
			if !slices.ContainsFunc(seen[h], v.RawEquals) {
				seen[h], out = append(seen[h], v), append(out, v)
			}
		}
		if len(out) == 0 {
			return cty.ListValEmpty(t.ElementType()), nil
		}
		return cty.ListVal(out), nil
	},
})

// replaceFunction replaces every occurrence of a text, or of what a regular expression in RE2's syntax matches, which is
// written between slashes.
var replaceFunction = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("string"), stringParam("substring"), stringParam("replacement")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		text, what, with := args[0].AsString(), args[1].AsString(), args[2].AsString()
		if len(what) > 1 && what[0] == '/' && what[len(what)-1] == '/' {
			re, err := regexp.Compile(what[1 : len(what)-1])
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(re.ReplaceAllString(text, with)), nil
		}
		return cty.StringVal(strings.ReplaceAll(text, what, with)), nil
	},
})

var rangeFunction = function.New(&function.Spec{
	VarParam: &function.Parameter{Name: "numbers", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.Number)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		start, step := new(big.Float), big.NewFloat(1)
		var limit *big.Float
		switch len(args) {
		case 1:
			limit = args[0].AsBigFloat()
		case 2, 3:
			start, limit = args[0].AsBigFloat(), args[1].AsBigFloat()
			if len(args) == 3 {
				step = args[2].AsBigFloat()
			} else if start.Cmp(limit) > 0 {
				step = big.NewFloat(-1)
			}
		default:
			return cty.NilVal, errors.New("takes one number (the limit), two (start and limit) or three (start, limit, step)")
		}
		if len(args) == 1 && limit.Sign() < 0 {
			step = big.NewFloat(-1)
		}
		if step.Sign() == 0 {
			return cty.NilVal, errors.New("the step must not be zero")
		}
		var out []cty.Value
		for n := new(big.Float).Set(start); n.Cmp(limit)*step.Sign() < 0; n = new(big.Float).Add(n, step) {
			if len(out) == maxRange {
				return cty.NilVal, fmt.Errorf("more than %d numbers", maxRange)
			}
			out = append(out, cty.NumberVal(n))
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.Number), nil
		}
		return cty.ListVal(out), nil
	},
})

func stringParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.String}
}
func numberParam(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.Number}
}

func wholeNumber(v cty.Value) (*big.Int, error) {
	n, accuracy := v.AsBigFloat().Int(nil)
	if accuracy != big.Exact || n.BitLen() > 129 {
		return nil, fmt.Errorf("%s is not a whole number in reach", v.AsBigFloat().Text('g', 10))
	}
	return n, nil
}

// at returns the address n behind first.
func at(first netip.Addr, n *big.Int) (netip.Addr, bool) {
	sum := new(big.Int).Add(new(big.Int).SetBytes(first.AsSlice()), n)
	if sum.Sign() < 0 || sum.BitLen() > first.BitLen() {
		return netip.Addr{}, false
	}
	return netip.AddrFromSlice(sum.FillBytes(make([]byte, first.BitLen()/8)))
}

func subnet(base netip.Prefix, newbits int, num *big.Int) (netip.Prefix, error) {
	bits := base.Bits() + newbits
	if newbits < 0 || bits > base.Addr().BitLen() {
		return netip.Prefix{}, fmt.Errorf("%s cannot be extended by %d bits", base, newbits)
	}
	if num.Sign() < 0 || num.BitLen() > newbits {
		return netip.Prefix{}, fmt.Errorf("%s extended by %d bits has no subnet number %s", base, newbits, num)
	}
	first, ok := at(base.Masked().Addr(), new(big.Int).Lsh(num, uint(base.Addr().BitLen()-bits)))
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%s has no subnet number %s", base, num)
	}
	return netip.PrefixFrom(first, bits), nil
}

var cidrsubnet = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("prefix"), numberParam("newbits"), numberParam("netnum")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		base, err := netip.ParsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, fmt.Errorf("%q is not a prefix such as 10.10.0.0/16", args[0].AsString())
		}
		newbits, err := wholeNumber(args[1])
		if err != nil || !newbits.IsInt64() {
			return cty.NilVal, fmt.Errorf("newbits is not a number of bits")
		}
		num, err := wholeNumber(args[2])
		if err != nil {
			return cty.NilVal, err
		}
		p, err := subnet(base, int(newbits.Int64()), num)
		return cty.StringVal(p.String()), err
	},
})

var cidrhost = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("prefix"), numberParam("hostnum")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		base, err := netip.ParsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, fmt.Errorf("%q is not a prefix such as 10.10.0.0/16", args[0].AsString())
		}
		n, err := wholeNumber(args[1])
		if err != nil {
			return cty.NilVal, err
		}
		first := base.Masked().Addr()
		if n.Sign() < 0 { // from the end
			n = new(big.Int).Add(n, new(big.Int).Lsh(big.NewInt(1), uint(first.BitLen()-base.Bits())))
		}
		a, ok := at(first, n)
		if !ok || !base.Contains(a) {
			return cty.NilVal, fmt.Errorf("%s has no address number %s", base, args[1].AsBigFloat().Text('g', 10))
		}
		return cty.StringVal(a.String()), nil
	},
})

var cidrnetmask = function.New(&function.Spec{
	Params: []function.Parameter{stringParam("prefix")},
	Type:   function.StaticReturnType(cty.String),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		p, err := netip.ParsePrefix(args[0].AsString())
		if err != nil || !p.Addr().Is4() {
			return cty.NilVal, fmt.Errorf("%q is not an IPv4 prefix such as 10.10.0.0/16", args[0].AsString())
		}
		return cty.StringVal(netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), p.Bits()).Masked().Addr().String()), nil
	},
})

var cidrsubnets = function.New(&function.Spec{
	Params:   []function.Parameter{stringParam("prefix")},
	VarParam: &function.Parameter{Name: "newbits", Type: cty.Number},
	Type:     function.StaticReturnType(cty.List(cty.String)),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		base, err := netip.ParsePrefix(args[0].AsString())
		if err != nil {
			return cty.NilVal, fmt.Errorf("%q is not a prefix such as 10.10.0.0/16", args[0].AsString())
		}
		next := base.Masked().Addr()
		var out []cty.Value
		for _, arg := range args[1:] {
			n, err := wholeNumber(arg)
			if err != nil || !n.IsInt64() || n.Sign() <= 0 || base.Bits()+int(n.Int64()) > next.BitLen() {
				return cty.NilVal, fmt.Errorf("%s cannot be extended by so many bits", base)
			}
			bits := base.Bits() + int(n.Int64())
			size := new(big.Int).Lsh(big.NewInt(1), uint(next.BitLen()-bits))
			// Up to the next multiple of the subnet's size.
			offset := new(big.Int).Mod(new(big.Int).SetBytes(next.AsSlice()), size)
			first := next
			if offset.Sign() != 0 {
				var ok bool
				if first, ok = at(next, new(big.Int).Sub(size, offset)); !ok {
					return cty.NilVal, fmt.Errorf("not enough room in %s", base)
				}
			}
			if !base.Contains(first) {
				return cty.NilVal, fmt.Errorf("not enough room in %s", base)
			}
			out = append(out, cty.StringVal(netip.PrefixFrom(first, bits).String()))
			var ok bool
			if next, ok = at(first, size); !ok {
				next = first // past the last address: whatever follows has no room
			}
		}
		if len(out) == 0 {
			return cty.ListValEmpty(cty.String), nil
		}
		return cty.ListVal(out), nil
	},
})

// fileFunction reads a file relative to the configuration. What it read becomes part of the Source.
func (p *parser) fileFunction() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{stringParam("path")},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			b, err := p.source.input(args[0].AsString())
			if err != nil {
				return cty.NilVal, err
			}
			if !utf8.Valid(b) {
				return cty.NilVal, fmt.Errorf("%s is not text in UTF-8", args[0].AsString())
			}
			return cty.StringVal(string(b)), nil
		},
	})
}

// input returns the bytes of a file that file() names, from what was read before or from disk.
func (s *Source) input(name string) ([]byte, error) {
	for _, f := range s.Inputs {
		if f.Name == name {
			return f.Bytes, nil
		}
	}
	if s.saved {
		return nil, fmt.Errorf("%s was not read when this configuration was kept", name)
	}
	path := name
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.dir, path)
	}
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxString+1)) // its size is what was read: it may grow meanwhile
	if err != nil {
		return nil, err
	}
	if len(b) > maxString {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxString)
	}
	s.Inputs = append(s.Inputs, File{name, b})
	return b, nil
}
