package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	hcljson "github.com/hashicorp/hcl/v2/json"
)

// Format returns a file in its canonical layout: indentation, alignment, one blank line at most, one newline at the end;
// in JSON syntax indentation by two blanks. Comments and meaning stay. A file that does not parse is an error and comes
// back as it was.
func Format(name string, src []byte) ([]byte, Diagnostics) {
	p := &parser{}
	p.report.files, p.report.lines = map[string][]byte{name: src}, map[string][][]byte{}
	if i := firstInvalid(src); i >= 0 {
		p.report.add("error", "not a text file", "The file holds bytes that are no UTF-8 text. Is it the right file?", lineRange(name, 1+bytes.Count(src[:i], []byte{'\n'})))
		return src, p.report.result()
	}
	if strings.HasSuffix(name, ".json") {
		return p.formatJSON(name, src)
	}
	scanNative(src, func(line int, summary, detail string) { p.report.add("error", summary, detail, lineRange(name, line)) })
	if len(p.report.list) > 0 {
		return src, p.report.result()
	}
	before, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		p.report.hcl(diags)
		return src, p.report.result()
	}
	out := hclwrite.Format(squeeze(lineEnd.ReplaceAll(src, []byte("\n")), name))
	out = append(bytes.TrimRight(bytes.TrimLeft(out, "\n"), " \t\r\n"), '\n')
	if len(bytes.TrimSpace(src)) == 0 {
		out = nil
	}
	// The layout is a library's: that it kept the meaning is checked, not believed.
	after, diags := hclsyntax.ParseConfig(out, name, hcl.InitialPos)
	if diags.HasErrors() || shape(before) != shape(after) {
		p.report.add("error", "cannot be formatted", "The file would not mean the same afterwards; it is left as it is.", lineRange(name, 1))
		return src, p.report.result()
	}
	return out, nil
}

// lineEnd is a line's end as other systems write it, or as two of them have.
var lineEnd = regexp.MustCompile(`\r+\n`)

func (p *parser) formatJSON(name string, src []byte) ([]byte, Diagnostics) {
	scanJSON(src, func(line int, summary, detail string) { p.report.add("error", summary, detail, lineRange(name, line)) })
	if len(p.report.list) == 0 {
		p.report.checkJSON(name, src)
	}
	if len(p.report.list) == 0 {
		_, diags := hcljson.Parse(src, name)
		p.report.hcl(diags)
	}
	var out bytes.Buffer
	if len(p.report.list) == 0 {
		if err := json.Indent(&out, bytes.TrimSpace(src), "", "  "); err != nil {
			p.report.add("error", "no JSON", err.Error(), lineRange(name, 1))
		}
	}
	if len(p.report.list) > 0 {
		return src, p.report.result()
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}

// squeeze makes runs of blank lines one, outside of strings and heredocs.
func squeeze(src []byte, name string) []byte {
	tokens, _ := hclsyntax.LexConfig(src, name, hcl.InitialPos)
	var out bytes.Buffer
	last, newlines := 0, 0
	for _, t := range tokens {
		gap := src[last:t.Range.Start.Byte]
		text := src[t.Range.Start.Byte:t.Range.End.Byte]
		last = t.Range.End.Byte
		if t.Type == hclsyntax.TokenNewline {
			if newlines++; newlines > 2 {
				continue
			}
			out.Write(gap)
			out.Write(text)
			continue
		}
		out.Write(gap)
		out.Write(text)
		newlines = 0
		if t.Type == hclsyntax.TokenComment && bytes.HasSuffix(text, []byte("\n")) {
			newlines = 1
		}
	}
	out.Write(src[last:])
	return out.Bytes()
}

// shape is a file's tokens without layout.
func shape(f *hcl.File) string {
	tokens, _ := hclsyntax.LexConfig(f.Bytes, "", hcl.InitialPos)
	var b strings.Builder
	for _, t := range tokens {
		switch t.Type {
		case hclsyntax.TokenNewline, hclsyntax.TokenEOF:
			continue
		case hclsyntax.TokenComment:
			fmt.Fprintf(&b, "%s\n", bytes.TrimSpace(t.Bytes))
			continue
		}
		fmt.Fprintf(&b, "%s\n", bytes.TrimSuffix(t.Bytes, []byte("\r")))
	}
	return strings.ReplaceAll(b.String(), "\r", "")
}
