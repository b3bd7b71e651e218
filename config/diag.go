package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
)

// Diagnostic is one fault of a configuration, or one thing to know about it.
type Diagnostic struct {
	Severity string `json:"severity"` // "error", "warning"
	Summary  string `json:"summary"`
	Detail   string `json:"detail,omitempty"` // what to do
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`   // 1-based
	Column   int    `json:"column,omitempty"` // 1-based, in characters
	Source   string `json:"source,omitempty"` // the line itself
	width    int    // characters to underline
}

// Diagnostics are all the faults of a configuration, in the order of the files.
type Diagnostics []Diagnostic

// HasErrors reports whether the configuration is unusable.
func (ds Diagnostics) HasErrors() bool {
	return slices.ContainsFunc(ds, func(d Diagnostic) bool { return d.Severity == "error" })
}

func (ds Diagnostics) Error() string {
	n := 0
	first := ""
	for _, d := range ds {
		if d.Severity == "error" {
			if n++; n == 1 {
				first = d.String()
			}
		}
	}
	if n > 1 {
		return fmt.Sprintf("%s (and %d more)", first, n-1)
	}
	return first
}

func (d Diagnostic) String() string {
	text := d.Summary
	if d.Detail != "" {
		text += ": " + d.Detail
	}
	if d.File != "" {
		text = fmt.Sprintf("%s:%d:%d: %s", d.File, d.Line, d.Column, text)
	}
	return text
}

// most is how many faults are reported one by one.
const most = 100

// Write prints the diagnostics for people. mark wraps the word of a severity in colour, or returns it as it is.
func (ds Diagnostics) Write(w io.Writer, mark func(severity, text string) string) error {
	var b bytes.Buffer
	for _, d := range ds {
		title := strings.ToUpper(d.Severity[:1]) + d.Severity[1:] + ":"
		fmt.Fprintf(&b, "%s %s\n", mark(d.Severity, title), d.Summary)
		if d.File != "" {
			fmt.Fprintf(&b, "  %s:%d:%d\n", d.File, d.Line, d.Column)
		}
		if d.Source != "" {
			number := fmt.Sprintf("%5d | ", d.Line)
			fmt.Fprintf(&b, "%s%s\n", number, d.Source)
			lead := []rune(d.Source)
			lead = lead[:min(d.Column-1, len(lead))]
			for i, r := range lead {
				if r != '\t' {
					lead[i] = ' '
				}
			}
			fmt.Fprintf(&b, "%s%s%s\n", strings.Repeat(" ", len(number)-2)+"| ", string(lead), strings.Repeat("^", max(1, d.width)))
		}
		if d.Detail != "" {
			fmt.Fprintf(&b, "  %s\n", d.Detail)
		}
		b.WriteByte('\n')
	}
	_, err := w.Write(b.Bytes())
	return err
}

// MarshalJSON writes a list, empty rather than null.
func (ds Diagnostics) MarshalJSON() ([]byte, error) {
	if ds == nil {
		return []byte("[]"), nil
	}
	return json.Marshal([]Diagnostic(ds))
}

// reporter collects diagnostics while a source is parsed.
type reporter struct {
	files map[string][]byte
	lines map[string][][]byte
	last  map[string]int // the last line that is not blank, of the files in lines
	list  Diagnostics
}

func (r *reporter) add(severity, summary, detail string, rng hcl.Range) {
	d := Diagnostic{Severity: severity, Summary: cut(summary, longest/4), Detail: cut(detail, longest), File: rng.Filename, Line: rng.Start.Line, Column: rng.Start.Column}
	lines := r.split(rng.Filename)
	// What is missing at the end of a file is missing behind its last line that says something.
	if last := r.last[rng.Filename]; last > 0 && rng.Start.Line > last {
		d.Line, d.Column = last, 1+utf8.RuneCount(bytes.TrimRight(lines[last-1], " \t\r"))
		rng.Start.Line, rng.End = last, rng.Start
	}
	if rng.End.Line == rng.Start.Line {
		d.width = min(rng.End.Column-rng.Start.Column, widest)
	}
	r.list = append(r.list, d)
}

// widest is how much of a line is shown: a fault may be in a line of a megabyte.
const widest = 160

// quote puts its source line to a diagnostic.
func (r *reporter) quote(d *Diagnostic) {
	lines := r.split(d.File)
	if d.Line < 1 || d.Line > len(lines) || d.Column > widest {
		return
	}
	line := lines[d.Line-1]
	line = bytes.TrimRight(line[:min(len(line), utf8.UTFMax*widest)], "\r")
	runes := []rune(strings.Map(printable, strings.ToValidUTF8(string(line), "\uFFFD")))
	d.Source = string(runes[:min(len(runes), widest)])
}

// printable keeps a file's bytes from steering the terminal that shows them.
func printable(r rune) rune {
	if r != '\t' && unicode.IsControl(r) {
		return '\uFFFD'
	}
	return r
}

func (r *reporter) split(file string) [][]byte {
	if lines, ok := r.lines[file]; ok {
		return lines
	}
	src, ok := r.files[file]
	if !ok {
		return nil
	}
	lines := bytes.Split(src, []byte{'\n'})
	r.lines[file] = lines
	if r.last == nil {
		r.last = map[string]int{}
	}
	for i, line := range slices.Backward(lines) {
		if len(bytes.TrimSpace(line)) > 0 {
			r.last[file] = i + 1
			break
		}
	}
	return lines
}

func (r *reporter) errorf(rng hcl.Range, summary, detail string, args ...any) {
	r.add("error", summary, fmt.Sprintf(detail, legible(args)...), rng)
}

func (r *reporter) warnf(rng hcl.Range, summary, detail string, args ...any) {
	r.add("warning", summary, fmt.Sprintf(detail, legible(args)...), rng)
}

// legible cuts what a message quotes: a value may be a whole file.
func legible(args []any) []any {
	out := slices.Clone(args)
	for i, a := range out {
		if s, ok := a.(string); ok {
			out[i] = cut(s, longest/4)
		}
	}
	return out
}

// longest is how many bytes of a message are shown.
const longest = 2000

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

func (r *reporter) hcl(ds hcl.Diagnostics) {
	for _, d := range ds {
		severity := "error"
		if d.Severity == hcl.DiagWarning {
			severity = "warning"
		}
		var rng hcl.Range
		if d.Subject != nil {
			rng = *d.Subject
		}
		summary, detail := reword(d)
		r.add(severity, summary, strings.ReplaceAll(strings.TrimSpace(detail), "\n", " "), rng)
	}
}

// What is said of names that no block has; the block that they are in stands before.
const (
	unknownAttribute = "unknown attribute"
	unknownBlock     = "unknown block"
	redefined        = "Attribute redefined" // the library's word
)

// reword says in the words of the file what the library says in those of its makers.
func reword(d *hcl.Diagnostic) (summary, detail string) {
	if kind, ok := strings.CutPrefix(d.Summary, "Missing name for "); ok {
		return d.Summary, fmt.Sprintf("It is written %s \"NAME\" { … }.", kind)
	}
	if kind, ok := strings.CutPrefix(d.Summary, "Extraneous label for "); ok {
		if strings.HasPrefix(d.Detail, "No labels") {
			return d.Summary, fmt.Sprintf("It has no name: %s { … }.", kind)
		}
		return d.Summary, fmt.Sprintf("It has one name: %s \"NAME\" { … }.", kind)
	}
	switch d.Summary {
	case "Invalid single-argument block definition":
		return "several attributes on one line", "A block on one line has one attribute at most, vxlan { vni = 7 }; write each of several on a line of its own, without commas."
	case "Unsupported argument":
		return unknownAttribute, strings.Replace(d.Detail, "An argument", "An attribute", 1)
	case "Extraneous JSON object property":
		return unknownAttribute, strings.Replace(d.Detail, "No argument or block type is named", "No attribute or block is named", 1)
	case "Unsupported block type":
		return unknownBlock, d.Detail
	case redefined, "Duplicate argument": // in JSON syntax
		said := strings.TrimSuffix(strings.Replace(d.Detail, "The argument", "The attribute", 1), " Each argument may be set only once.")
		return "attribute set twice", said + " Take one of the two out."
	case "Call to unknown function":
		if all := functionsOf(d.EvalContext); len(all) > 0 && !strings.Contains(d.Detail, "Did you mean") {
			return d.Summary, d.Detail + " The functions are " + strings.Join(all, ", ") + "."
		}
	}
	if d.Summary == "Unknown variable" && d.Expression != nil && !strings.Contains(d.Detail, "Did you mean") {
		for _, t := range d.Expression.Variables() {
			if t.RootName() == "" || !strings.Contains(d.Detail, fmt.Sprintf("%q", t.RootName())) {
				continue
			}
			return d.Summary, fmt.Sprintf("%s Text stands in quotes: %q. Names of the file are written local.NAME and var.NAME.", d.Detail, t.RootName())
		}
	}
	if d.Summary == "Unsupported attribute" && d.Expression != nil {
		for _, t := range d.Expression.Variables() {
			root := t.RootName()
			step, ok := hcl.TraverseAttr{}, len(t) > 1
			if ok {
				step, ok = t[1].(hcl.TraverseAttr)
			}
			if !ok || step.SrcRange.Start.Line != d.Subject.Start.Line || root != "local" && root != "var" {
				continue
			}
			hint := didYouMean(step.Name, known(d.EvalContext, root))
			if root == "var" {
				return "Unknown variable", fmt.Sprintf("var.%s is not declared: variable %q { default = … } does it.%s", step.Name, step.Name, hint)
			}
			return "Unknown local", fmt.Sprintf("local.%s is not defined: locals { %s = … } does it.%s", step.Name, step.Name, hint)
		}
	}
	return d.Summary, d.Detail
}

// elsewhere says where an attribute belongs that a block does not have, or else what the block has.
func elsewhere(doc BlockDoc, detail string) string {
	m := notExpected.FindStringSubmatch(detail)
	if m == nil || didMean.MatchString(detail) {
		return ""
	}
	var names, others []string
	for _, a := range doc.Attributes {
		names = append(names, a.Name)
	}
	for _, other := range Schema {
		if slices.ContainsFunc(other.Attributes, func(a AttributeDoc) bool { return a.Name == m[1] }) {
			others = append(others, other.Type)
		}
	}
	if len(others) > 0 {
		return fmt.Sprintf(" It is an attribute of %s.", strings.Join(others, " and "))
	}
	return fmt.Sprintf(" The attributes of %s are %s.", doc.Type, strings.Join(names, ", "))
}

// notExpected is the name that HCL does not know.
var notExpected = regexp.MustCompile(`named "([^"]+)" is not expected`)

// didMean is what HCL takes a name for that is not known.
var didMean = regexp.MustCompile(`Did you mean "([^"]+)"`)

// functionsOf are the names of the functions.
func functionsOf(ctx *hcl.EvalContext) []string {
	for ; ctx != nil; ctx = ctx.Parent() {
		if ctx.Functions != nil {
			return slices.Sorted(maps.Keys(ctx.Functions))
		}
	}
	return nil
}

// known is the names of the variables or of the locals.
func known(ctx *hcl.EvalContext, root string) []string {
	for ; ctx != nil; ctx = ctx.Parent() {
		if v, ok := ctx.Variables[root]; ok && v.Type().IsObjectType() {
			return slices.Sorted(maps.Keys(v.Type().AttributeTypes()))
		}
	}
	return nil
}

// result sorts, drops repetitions and cuts what nobody would read.
func (r *reporter) result() Diagnostics {
	slices.SortStableFunc(r.list, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	list := slices.CompactFunc(r.list, func(a, b Diagnostic) bool { return a == b })
	if len(list) > most {
		more := len(list) - most
		list = append(list[:most:most], Diagnostic{Severity: "error", Summary: fmt.Sprintf("%d more faults", more), Detail: "Correct these first."})
	}
	for i := range list {
		r.quote(&list[i])
	}
	return list
}
