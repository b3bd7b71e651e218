package config

import (
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// Bounds on what expressions may make.
const (
	maxRange  = 65536
	maxString = 1 << 20
	maxBlocks = 65536
	maxMixed  = 1000 // elements of different types in what is to be a list: the library compares each type with all others

	// A step is an evaluation of the body of a `for` that makes a list. One that makes an object takes about as long as four,
	// and a function as one for some elements, or bytes of a string, that it is given or gives.
	maxSteps     = 1_000_000
	objectSteps  = 4
	elementsStep = 2
	bytesStep    = 256
	lookupStep   = 8 // elements: all that takes time is that the library looks for marks in all of the map
)

// counter puts a counter around the body of each `for` expression. It does so on the way out, so that a `for` right inside a
// `for` is seen before it is hidden in a wrapper.
type counter struct{ left *int }

func (counter) Enter(hclsyntax.Node) hcl.Diagnostics { return nil }

func (c counter) Exit(n hclsyntax.Node) hcl.Diagnostics {
	if f, ok := n.(*hclsyntax.ForExpr); ok {
		steps := 1
		if f.KeyExpr != nil {
			steps = objectSteps
		}
		f.ValExpr = counted{f.ValExpr, c.left, steps}
	}
	return nil
}

// counted is the body of a `for` expression: it counts its evaluations, since nested ones multiply.
type counted struct {
	hclsyntax.Expression
	left  *int
	steps int
}

// exhausted ends an evaluation in the middle: where the budget of steps or of blocks ran out. Parse recovers it.
type exhausted struct {
	at              hcl.Range
	summary, detail string
}

// Value implements hcl.Expression.
func (c counted) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if *c.left -= c.steps; *c.left < 0 {
		panic(exhausted{c.Range(), "too much to compute", "The file takes " + tooMuch() + "."}) // the library would go on with the rest of the loop, a diagnostic for each round
	}
	v, diags := c.Expression.Value(ctx)
	if tooLong(v) {
		rng := c.Range()
		diags = append(diags, &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "string too long",
			Detail: fmt.Sprintf("A string has more than %d bytes.", maxString), Subject: &rng})
	}
	return v, diags
}

func tooMuch() string {
	return fmt.Sprintf("more than %d steps: an evaluation of a for's body is one, of one that makes an object %d, and a function one for each %d elements that it is given (%d of lookup) or gives",
		maxSteps, objectSteps, elementsStep, lookupStep)
}

// tooLong reports whether a value is a string of more than maxString bytes.
func tooLong(v cty.Value) bool {
	return v != cty.NilVal && v.Type() == cty.String && v.IsKnown() && !v.IsNull() && len(v.AsString()) > maxString
}

// stepsOf is what a function costs that is given a value or gives it.
func stepsOf(v cty.Value) int {
	switch {
	case v == cty.NilVal || !v.IsKnown() || v.IsNull():
		return 0
	case v.Type() == cty.String:
		return len(v.AsString()) / bytesStep
	case v.CanIterateElements():
		return v.LengthInt() / elementsStep
	}
	return 0
}

// bounded is a function that counts its steps, refuses results of more than maxString bytes, and makes the lists that it wants
// of tuples itself.
func (p *parser) bounded(name string, f function.Function) function.Function {
	params, rest := f.Params(), f.VarParam()
	wanted := func(i int) *function.Parameter {
		if i < len(params) {
			return &params[i]
		}
		return rest
	}
	types := make([]cty.Type, len(params))
	var restType cty.Type
	for i := range params {
		types[i], params[i].Type = params[i].Type, loose(params[i].Type)
		params[i].AllowMarked = true // no value here is marked, and to find that out the library walks all of it
	}
	if rest != nil {
		copied := *rest
		rest, restType = &copied, copied.Type
		rest.Type = loose(rest.Type)
		rest.AllowMarked = true
	}
	return function.New(&function.Spec{
		Params: params, VarParam: rest,
		Type: function.StaticReturnType(cty.DynamicPseudoType), // told by the result
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for i, v := range args {
				t := restType
				if i < len(types) {
					t = types[i]
				}
				steps := stepsOf(v)
				if name == "lookup" {
					steps = steps * elementsStep / lookupStep
				}
				if p.steps -= steps; p.steps < 0 {
					return cty.DynamicVal, errors.New("with it the file takes " + tooMuch())
				}
				if wanted(i).Type == t {
					continue
				}
				list, err := listOf(v, t.ElementType())
				if err != nil {
					return cty.DynamicVal, function.NewArgError(i, err)
				}
				args[i] = list
			}
			call := f.Call
			if name == "lookup" {
				call = lookup // or the library looks again
			}
			v, err := call(args)
			if err != nil {
				return cty.DynamicVal, err
			}
			if tooLong(v) {
				return cty.DynamicVal, fmt.Errorf("the result is longer than %d bytes", maxString)
			}
			if p.steps -= stepsOf(v); p.steps < 0 {
				return cty.DynamicVal, errors.New("with it the file takes " + tooMuch())
			}
			return v, nil
		},
	})
}

// loose is the type of a parameter that takes what listOf makes a list of.
func loose(t cty.Type) cty.Type {
	if t.IsListType() {
		return cty.DynamicPseudoType
	}
	return t
}

// listOf makes a list of a tuple, a set or a list, as the library does, but not by comparing the type of each element with
// those of all others.
func listOf(v cty.Value, of cty.Type) (cty.Value, error) {
	t := cty.List(of)
	if !v.IsKnown() || v.IsNull() || !v.Type().IsTupleType() && !v.Type().IsSetType() || v.LengthInt() == 0 {
		return convert.Convert(v, t)
	}
	list := make([]cty.Value, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		e, err := convert.Convert(e, of)
		if err != nil {
			return convert.Convert(v, t) // which says what is wrong
		}
		list = append(list, e)
	}
	if cty.CanListVal(list) {
		return cty.ListVal(list), nil
	}
	if len(list) > maxMixed {
		return cty.DynamicVal, fmt.Errorf("more than %d elements, of different types; give all of them one type, with format", maxMixed)
	}
	return convert.Convert(v, t)
}
