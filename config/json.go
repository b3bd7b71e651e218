package config

import (
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// jsonBody is a body in JSON syntax whose `for` expressions are counted. The library parses the templates in JSON's strings
// anew at each evaluation, where no counter could stand; so those that hold a `for` are parsed here, once.
type jsonBody struct {
	hcl.Body
	left *int
}

func (b jsonBody) Content(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Diagnostics) {
	content, diags := b.Body.Content(schema)
	return b.counted(content), diags
}

func (b jsonBody) PartialContent(schema *hcl.BodySchema) (*hcl.BodyContent, hcl.Body, hcl.Diagnostics) {
	content, rest, diags := b.Body.PartialContent(schema)
	return b.counted(content), jsonBody{rest, b.left}, diags
}

func (b jsonBody) JustAttributes() (hcl.Attributes, hcl.Diagnostics) {
	attrs, diags := b.Body.JustAttributes()
	b.count(attrs)
	return attrs, diags
}

func (b jsonBody) counted(content *hcl.BodyContent) *hcl.BodyContent {
	b.count(content.Attributes)
	for _, block := range content.Blocks {
		block.Body = jsonBody{block.Body, b.left}
	}
	return content
}

func (b jsonBody) count(attrs hcl.Attributes) {
	for _, a := range attrs {
		if native, loops := nativeOf(a.Expr); loops {
			_ = hclsyntax.Walk(native, counter{b.left})
			a.Expr = translated{a.Expr, native}
		}
	}
}

// translated is an expression in JSON syntax that is evaluated as what it is in native syntax. What is read unevaluated, as
// the name of an iterator is, is read as it stands.
type translated struct {
	hcl.Expression
	native hclsyntax.Expression
}

func (t translated) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	return t.native.Value(ctx)
}

func (t translated) UnwrapExpression() hcl.Expression { return t.Expression }

// nativeOf is a JSON expression in native syntax, and whether a `for` may be in it. One that does not parse has none: the
// library says what is wrong with it.
func nativeOf(e hcl.Expression) (native hclsyntax.Expression, loops bool) {
	if pairs, diags := hcl.ExprMap(e); !diags.HasErrors() {
		object := &hclsyntax.ObjectConsExpr{SrcRange: e.Range(), OpenRange: e.StartRange()}
		for _, pair := range pairs {
			k, in := nativeOf(pair.Key)
			v, within := nativeOf(pair.Value)
			object.Items = append(object.Items, hclsyntax.ObjectConsItem{KeyExpr: k, ValueExpr: v})
			loops = loops || in || within
		}
		return object, loops
	}
	if list, diags := hcl.ExprList(e); !diags.HasErrors() {
		tuple := &hclsyntax.TupleConsExpr{SrcRange: e.Range(), OpenRange: e.StartRange()}
		for _, one := range list {
			v, in := nativeOf(one)
			tuple.Exprs = append(tuple.Exprs, v)
			loops = loops || in
		}
		return tuple, loops
	}
	rng := e.Range()
	v, _ := e.Value(nil) // a string as it is written
	literal := &hclsyntax.LiteralValueExpr{Val: v, SrcRange: rng}
	if v.Type() != cty.String || v.IsNull() || !strings.Contains(v.AsString(), "{") {
		return literal, false
	}
	start := hcl.Pos{Line: rng.Start.Line, Column: rng.Start.Column + 1, Byte: rng.Start.Byte + 1} // behind the quote
	template, diags := hclsyntax.ParseTemplate([]byte(v.AsString()), rng.Filename, start)
	if diags.HasErrors() {
		return literal, false
	}
	return template, strings.Contains(v.AsString(), "for")
}
