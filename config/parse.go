package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// parser holds what one run of Parse knows.
type parser struct {
	source *Source
	report reporter
	ctx    *hcl.EvalContext
	steps  int // of `for` expressions and functions, left
	blocks int // decoded, or to be
	config Config

	unsure      bool      // a value that the checks need follows from a fault elsewhere, which is reported
	meshRange   hcl.Range // bgp.mesh
	poolsUnsure bool      // a network's pools are not known whole: what lies in none may lie in one of these
}

// Parse evaluates and checks a source. The Config is whole and usable unless the diagnostics have errors.
func (s *Source) Parse() (*Config, Diagnostics) {
	p := &parser{source: s, steps: maxSteps}
	p.report.files, p.report.lines = map[string][]byte{}, map[string][][]byte{}
	body, whole := p.parseFiles()
	if !whole {
		return nil, p.report.result()
	}
	p.runBounded(body)
	if p.report.list.HasErrors() {
		return nil, p.report.result()
	}
	p.config.Digest = s.digest(p.config.Variables)
	return &p.config, p.report.result()
}

// parseFiles reads the files. whole is false where one of them is no text of the language.
func (p *parser) parseFiles() (body hcl.Body, whole bool) {
	parser := hclparse.NewParser()
	whole = true
	var files []*hcl.File
	for _, f := range p.source.Files {
		p.report.files[f.Name] = f.Bytes
		fault := func(line int, summary, detail string) {
			p.report.add("error", summary, detail, lineRange(f.Name, line))
		}
		isJSON := strings.HasSuffix(f.Name, ".json")
		if i := firstInvalid(f.Bytes); i >= 0 {
			line := 1 + strings.Count(string(f.Bytes[:i]), "\n")
			fault(line, "not a text file", "The file holds bytes that are no UTF-8 text. Is it the right file?")
			whole = false
			continue
		}
		before := len(p.report.list)
		if isJSON {
			scanJSON(f.Bytes, fault)
			if len(p.report.list) == before {
				p.report.checkJSON(f.Name, f.Bytes)
			}
		} else {
			scanNative(f.Bytes, fault)
		}
		if len(p.report.list) > before {
			whole = false
			continue
		}
		var file *hcl.File
		var diags hcl.Diagnostics
		if isJSON {
			file, diags = parser.ParseJSON(f.Bytes, f.Name)
		} else {
			file, diags = parser.ParseHCL(f.Bytes, f.Name)
		}
		p.report.hcl(withoutFollowers(diags))
		// One that is set twice counts as it was set first: what else is wrong is found too.
		if broken := slices.ContainsFunc(diags, func(d *hcl.Diagnostic) bool { return d.Severity == hcl.DiagError && d.Summary != redefined }); file == nil || broken {
			whole = false
		} else {
			if body, ok := file.Body.(*hclsyntax.Body); ok {
				_ = hclsyntax.Walk(body, counter{&p.steps})
			} else {
				file.Body = jsonBody{file.Body, &p.steps}
			}
			files = append(files, file)
		}
	}
	return hcl.MergeFiles(files), whole
}

// checkJSON finds where a file stops being JSON. The library's parser goes on from there and finds more that is none.
func (r *reporter) checkJSON(name string, b []byte) {
	var syntax *json.SyntaxError
	if err := json.Unmarshal(b, new(json.RawMessage)); errors.As(err, &syntax) {
		before := b[:min(max(0, int(syntax.Offset)-1), len(b))]
		if strings.HasPrefix(err.Error(), "unexpected end") {
			before = bytes.TrimRight(b, " \t\r\n")
		}
		start := 1 + bytes.LastIndexByte(before, '\n')
		at := hcl.Pos{Line: 1 + bytes.Count(before, []byte{'\n'}), Column: 1 + utf8.RuneCount(before[start:])}
		r.errorf(hcl.Range{Filename: name, Start: at, End: at}, "not JSON", "%s.", err)
	}
}

// withoutFollowers drops what only follows from a string that is not closed: the lexer takes all lines behind it for text.
func withoutFollowers(diags hcl.Diagnostics) hcl.Diagnostics {
	const open = "Invalid multi-line string"
	first := slices.IndexFunc(diags, func(d *hcl.Diagnostic) bool { return d.Summary == open })
	if first < 0 {
		return diags
	}
	out := slices.Clone(diags[:first+1])
	for _, d := range diags[first+1:] {
		if d.Summary != open && d.Summary != "Unterminated template string" {
			out = append(out, d)
		}
	}
	return out
}

// firstInvalid is where text stops being UTF-8 text, -1 where it does not.
func firstInvalid(b []byte) int {
	if i := strings.IndexByte(string(b), 0); i >= 0 {
		return i
	}
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

var rootSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "variable", LabelNames: []string{"name"}},
	{Type: "locals"},
	{Type: "network", LabelNames: []string{"name"}},
	{Type: "node", LabelNames: []string{"name"}},
	{Type: "bgp"},
	{Type: "peer", LabelNames: []string{"name"}},
	{Type: "workload", LabelNames: []string{"name"}},
	{Type: "daemon"},
}}

var variableSchema = &hcl.BodySchema{Blocks: rootSchema.Blocks[:2]}

func (p *parser) runBounded(body hcl.Body) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(exhausted)
			if !ok {
				panic(r)
			}
			p.report.add("error", e.summary, e.detail, e.at)
		}
	}()
	p.run(body)
}

// run evaluates variables and locals, expands dynamic blocks, and decodes the rest.
func (p *parser) run(body hcl.Body) {
	p.ctx = &hcl.EvalContext{Functions: p.functions(), Variables: map[string]cty.Value{}}
	content, rest, diags := body.PartialContent(variableSchema)
	p.report.hcl(diags)
	p.variables(content.Blocks)
	p.locals(content.Blocks)
	expanded, diags := dynblock.Expand(rest, p.ctx).Content(&hcl.BodySchema{Blocks: rootSchema.Blocks[2:]})
	p.report.hcl(p.withoutUnknownLabels(diags))
	if n := len(expanded.Blocks); n > 0 {
		p.expanded(n, expanded.Blocks[0].DefRange)
	}
	p.decode(expanded.Blocks)
	if p.report.list.HasErrors() && len(p.config.Networks)+len(p.config.Nodes) == 0 {
		return
	}
	p.check()
}

// withoutUnknownLabels drops the library's word that a label of a dynamic block is not known: it follows from a fault of a
// variable or a local, which is reported.
func (p *parser) withoutUnknownLabels(diags hcl.Diagnostics) hcl.Diagnostics {
	return slices.DeleteFunc(diags, func(d *hcl.Diagnostic) bool {
		unknown := d.Summary == "Invalid dynamic block label" && strings.HasPrefix(d.Detail, "This value is not yet known.")
		p.unsure = p.unsure || unknown
		return unknown
	})
}

// expanded counts blocks, those within others too: a dynamic block within one multiplies.
func (p *parser) expanded(n int, rng hcl.Range) {
	if p.blocks += n; p.blocks > maxBlocks {
		panic(exhausted{rng, "too many blocks", fmt.Sprintf("The file expands to more than %d blocks.", maxBlocks)})
	}
}

func (p *parser) variables(blocks hcl.Blocks) {
	vars := map[string]cty.Value{}
	declared := map[string]hcl.Range{}
	for _, b := range blocks.OfType("variable") {
		name := b.Labels[0]
		if first, twice := declared[name]; twice {
			p.report.errorf(b.DefRange, "variable declared twice", "Variable %q is declared at %s:%d already.", name, first.Filename, first.Start.Line)
			continue
		}
		declared[name] = b.DefRange
		if !hclsyntax.ValidIdentifier(name) {
			p.report.errorf(b.DefRange, "wrong name of a variable", "%q cannot be written as var.NAME; letters, digits, dashes and underscores can.", name)
			continue
		}
		content, diags := b.Body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "default"}, {Name: "description"}}})
		p.report.hcl(diags)
		v := cty.NilVal
		if a, ok := content.Attributes["default"]; ok {
			var diags hcl.Diagnostics
			if v, diags = a.Expr.Value(&hcl.EvalContext{Functions: p.ctx.Functions}); diags.HasErrors() {
				v = cty.DynamicVal
			}
			p.report.hcl(diags)
		}
		if set, ok := p.source.Vars[name]; ok {
			v = p.setVariable(name, set, v, b.DefRange)
		}
		if v == cty.NilVal {
			p.report.errorf(b.DefRange, "variable without a value", "Variable %q has no default: set NETD_VAR_%s or give --var %s=…", name, name, name)
			v = cty.DynamicVal
		}
		vars[name] = v
	}
	for _, name := range slices.Sorted(maps.Keys(p.source.Vars)) {
		if _, ok := declared[name]; !ok {
			p.report.warnf(p.start(), "variable not declared", "Variable %q is set from outside, and the file has no variable %q { }.", name, name)
		}
	}
	p.config.Variables = slices.Sorted(maps.Keys(declared))
	p.ctx.Variables["var"] = cty.ObjectVal(vars)
}

// setVariable is a value from outside: of the default's type where there is one, else a string. One that is wrong
// is not known.
func (p *parser) setVariable(name, text string, def cty.Value, rng hcl.Range) cty.Value {
	v := cty.StringVal(text)
	if def == cty.NilVal || def.Type() == cty.String || def.Type() == cty.DynamicPseudoType {
		return v
	}
	if def.Type().IsPrimitiveType() {
		c, err := convert.Convert(v, def.Type())
		if err != nil {
			p.report.errorf(rng, "wrong value of a variable", "Variable %q is set to %q from outside, which is no %s.", name, text, def.Type().FriendlyName())
			return cty.DynamicVal
		}
		return c
	}
	fault := false
	scanNative([]byte(text), func(int, string, string) { fault = true })
	if fault {
		p.report.errorf(rng, "wrong value of a variable", "The value set from outside for variable %q nests too deeply.", name)
		return cty.DynamicVal
	}
	expr, diags := hclsyntax.ParseExpression([]byte(text), "NETD_VAR_"+name, hcl.InitialPos)
	if !diags.HasErrors() {
		if v, diags = expr.Value(nil); !diags.HasErrors() {
			if isMap := def.Type().IsObjectType(); v.IsNull() || v.Type().IsPrimitiveType() || v.Type().IsObjectType() != isMap {
				p.report.errorf(rng, "wrong value of a variable", "Variable %q is set to %q from outside, which is no %s.", name, text, map[bool]string{false: "list", true: "map"}[isMap])
				return cty.DynamicVal
			}
			return v
		}
	}
	p.report.errorf(rng, "wrong value of a variable", "Variable %q is set from outside to what is no expression: %s", name, diags.Error())
	return cty.DynamicVal
}

// used is those of the locals that an expression names. All of them would be an object of all for each: thousands of locals
// would take seconds.
func used(e hcl.Expression, all map[string]cty.Value) map[string]cty.Value {
	out := map[string]cty.Value{}
	for _, t := range e.Variables() {
		if t.RootName() != "local" {
			continue
		}
		step, ok := hcl.TraverseAttr{}, len(t) > 1
		if ok {
			step, ok = t[1].(hcl.TraverseAttr)
		}
		if !ok { // local as a whole, or local["x"]
			return all
		}
		if v, ok := all[step.Name]; ok {
			out[step.Name] = v
		}
	}
	return out
}

// locals evaluates the locals in the order in which they use each other.
func (p *parser) locals(blocks hcl.Blocks) {
	attrs := map[string]*hcl.Attribute{}
	var order []string
	for _, b := range blocks.OfType("locals") {
		as, diags := b.Body.JustAttributes()
		p.report.hcl(diags)
		for name, a := range as {
			if first, twice := attrs[name]; twice {
				p.report.errorf(a.NameRange, "local defined twice", "local.%s is defined at %s:%d already.", name, first.Range.Filename, first.Range.Start.Line)
				continue
			}
			attrs[name] = a
			order = append(order, name)
		}
	}
	slices.Sort(order)
	values := map[string]cty.Value{}
	const visiting, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(name string)
	visit = func(name string) {
		if state[name] == done {
			return
		}
		if len(path) > maxLocals {
			p.report.errorf(attrs[name].NameRange, "locals nested too deeply", "A chain of more than %d locals, each using the next, ends here.", maxLocals)
			state[name], values[name] = done, cty.DynamicVal
			return
		}
		if state[name] == visiting {
			cycle := append(slices.Clone(path[max(0, slices.Index(path, name)):]), name)
			if len(cycle) > 8 {
				cycle = append(cycle[:7:7], "…", name)
			}
			p.report.errorf(attrs[name].NameRange, "locals refer to themselves", "local.%s.", strings.Join(cycle, " uses local."))
			state[name], values[name] = done, cty.DynamicVal // what uses it is no fault of its own
			return
		}
		state[name] = visiting
		path = append(path, name)
		a := attrs[name]
		for _, use := range a.Expr.Variables() {
			if use.RootName() == "local" && len(use) > 1 {
				if step, ok := use[1].(hcl.TraverseAttr); ok && attrs[step.Name] != nil {
					visit(step.Name)
				}
			}
		}
		path = path[:len(path)-1]
		if state[name] == done { // a cycle went through here
			values[name] = cty.DynamicVal
			return
		}
		state[name] = done
		p.ctx.Variables["local"] = cty.ObjectVal(used(a.Expr, values))
		v, diags := a.Expr.Value(p.ctx)
		p.report.hcl(diags)
		if tooLong(v) {
			p.report.errorf(a.Expr.Range(), "string too long", "A string has more than %d bytes.", maxString)
		}
		if diags.HasErrors() || tooLong(v) {
			v = cty.DynamicVal // what uses it is no fault of its own
		}
		values[name] = v
	}
	for _, name := range order {
		visit(name)
	}
	p.ctx.Variables["local"] = cty.ObjectVal(values)
}
