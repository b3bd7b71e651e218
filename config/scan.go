package config

import (
	"bytes"
	"fmt"

	"github.com/hashicorp/hcl/v2"
)

// Bounds on what is handed to the parser, which recurses for each level and each operator and would overflow the stack.
const (
	maxBytes     = 4 << 20
	maxDepth     = 200
	maxOperators = 1000
	maxDigits    = 1000
	maxLocals    = 10_000 // in a chain
)

// scanner walks the bytes of a file once, before the lexer, and knows just enough of the syntax to tell code from strings,
// heredocs and comments.
type scanner struct {
	src   []byte
	i     int
	line  int
	stack []frame
	fault func(line int, summary, detail string)
}

// frame is an open bracket, or the file itself.
type frame struct {
	kind byte // '{', '(', '[', '$' for a template's ${ or %{, '"' for a string, 0 for the file
	ops  int  // operators in the expression at hand
	asks int  // ternaries in it
}

// scanNative checks a file in native syntax.
func scanNative(src []byte, fault func(line int, summary, detail string)) {
	s := &scanner{src: src, line: 1, fault: fault, stack: []frame{{}}}
	s.code()
}

// scanTemplate checks the text of a string of the JSON syntax, which is a template.
func scanTemplate(src []byte, line int, fault func(line int, summary, detail string)) {
	s := &scanner{src: src, line: line, fault: fault, stack: []frame{{kind: '"'}}}
	s.code()
}

func (s *scanner) top() *frame { return &s.stack[len(s.stack)-1] }

func (s *scanner) push(kind byte) bool {
	s.stack = append(s.stack, frame{kind: kind})
	if len(s.stack) > maxDepth {
		s.fault(s.line, "nested too deeply", fmt.Sprintf("Brackets, templates and conditions nest deeper than %d levels here. Use locals for parts of it.", maxDepth))
		return false
	}
	return true
}

func (s *scanner) pop(kind byte) {
	if len(s.stack) > 1 && s.top().kind == kind {
		s.stack = s.stack[:len(s.stack)-1]
	}
}

func (s *scanner) operator() bool {
	f := s.top()
	if f.ops++; f.ops > maxOperators {
		s.fault(s.line, "expression too long", fmt.Sprintf("More than %d operators in one expression. Use locals for parts of it.", maxOperators))
		return false
	}
	return true
}

// number bounds the digits of a number, whose square is what the lexer's library takes to read it.
func (s *scanner) number() bool {
	start := s.i - 1
	for s.i < len(s.src) && '0' <= s.src[s.i] && s.src[s.i] <= '9' {
		s.i++
	}
	if s.i-start > maxDigits {
		s.fault(s.line, "number too long", fmt.Sprintf("A number has more than %d digits.", maxDigits))
		return false
	}
	return true
}

func (s *scanner) code() {
	for s.i < len(s.src) {
		if s.top().kind == '"' {
			if !s.text() {
				return
			}
			continue
		}
		c := s.src[s.i]
		s.i++
		ok := true
		switch c {
		case '\n':
			s.line++
			if k := s.top().kind; k == '{' || k == 0 {
				*s.top() = frame{kind: k}
			}
		case ',':
			*s.top() = frame{kind: s.top().kind}
		case '#':
			s.skipLine()
		case '/':
			switch {
			case s.peek('/'):
				s.skipLine()
			case s.peek('*'):
				s.skipComment()
			default:
				ok = s.operator()
			}
		case '"':
			ok = s.push('"')
		case '<':
			if s.peek('<') && s.heredoc() {
				continue
			}
			ok = s.operator()
		case '{', '(':
			ok = s.push(c)
		case '[':
			ok = s.operator() && s.push(c)
		case '}':
			if s.top().kind == '$' {
				s.pop('$')
			} else {
				s.pop('{')
			}
		case ')':
			s.pop('(')
		case ']':
			s.pop('[')
		case '?':
			f := s.top()
			if f.asks++; f.asks+len(s.stack) > maxDepth {
				s.fault(s.line, "nested too deeply", fmt.Sprintf("Brackets, templates and conditions nest deeper than %d levels here. Use locals for parts of it.", maxDepth))
				return
			}
		case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			ok = s.number()
		case '+', '-', '*', '%', '&', '|', '!', '>', '.':
			ok = s.operator()
		}
		if !ok {
			return
		}
	}
}

func (s *scanner) peek(c byte) bool { return s.i < len(s.src) && s.src[s.i] == c }

func (s *scanner) skipLine() {
	if n := bytes.IndexByte(s.src[s.i:], '\n'); n >= 0 {
		s.i += n
	} else {
		s.i = len(s.src)
	}
}

func (s *scanner) skipComment() {
	end := bytes.Index(s.src[s.i:], []byte("*/"))
	if end < 0 {
		end = len(s.src) - s.i
	}
	s.line += bytes.Count(s.src[s.i:s.i+end], []byte{'\n'})
	s.i = min(s.i+end+2, len(s.src))
}

// text walks a string until its end or the next template in it.
func (s *scanner) text() bool {
	for start := s.i; s.i < len(s.src); {
		c := s.src[s.i]
		s.i++
		if s.i-start > maxString {
			s.fault(s.line, "string too long", fmt.Sprintf("A string has more than %d bytes.", maxString))
			s.i = len(s.src)
			return false
		}
		switch c {
		case '\\':
			s.i++
		case '"':
			if len(s.stack) > 1 {
				s.pop('"')
				return true
			}
		case '\n': // a string ends with its line; the lexer says so
			s.line++
			if len(s.stack) > 1 {
				s.pop('"')
				return true
			}
		case '$', '%':
			if s.peek(c) { // $${ is an escape
				s.i++
			} else if s.peek('{') {
				s.i++
				return s.operator() && s.push('$')
			}
		}
	}
	return true
}

// heredoc walks <<WORD … WORD: its text is a template like a string's, over many lines.
func (s *scanner) heredoc() bool {
	rest := s.src[s.i+1:]
	rest = bytes.TrimPrefix(rest, []byte{'-'})
	end := bytes.IndexByte(rest, '\n')
	if end <= 0 {
		return false
	}
	word := bytes.TrimRight(rest[:end], "\r")
	for _, c := range word {
		if c != '_' && c != '-' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	body := rest[end+1:]
	length := 0
	closed := false
	for line := range bytes.SplitAfterSeq(body, []byte{'\n'}) {
		if bytes.Equal(bytes.TrimSpace(line), word) {
			closed = true
			break
		}
		length += len(line)
	}
	inner := &scanner{src: body[:length], line: s.line + 1, stack: []frame{{kind: '"'}}}
	bad := false
	inner.fault = func(line int, summary, detail string) { bad = true; s.fault(line, summary, detail) }
	inner.stack[0].kind = '"'
	inner.code()
	s.i = len(s.src) - len(body) + length
	s.line += 1 + bytes.Count(body[:length], []byte{'\n'})
	if bad || !closed {
		s.i = len(s.src)
	}
	return true
}

// scanJSON checks a file in JSON syntax: its nesting, and each string as a template.
func scanJSON(src []byte, fault func(line int, summary, detail string)) {
	depth, line := 0, 1
	faulty := false
	report := func(l int, summary, detail string) { faulty = true; fault(l, summary, detail) }
	for i := 0; i < len(src) && !faulty; i++ {
		switch src[i] {
		case '\n':
			line++
		case '{', '[':
			if depth++; depth > maxDepth {
				report(line, "nested too deeply", fmt.Sprintf("Brackets nest deeper than %d levels here.", maxDepth))
			}
		case '}', ']':
			depth--
		case '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
			n := 1
			for i+1 < len(src) && '0' <= src[i+1] && src[i+1] <= '9' {
				i, n = i+1, n+1
			}
			if n > maxDigits {
				report(line, "number too long", fmt.Sprintf("A number has more than %d digits.", maxDigits))
			}
		case '"':
			var text []byte
			i, text = jsonString(src, i+1)
			scanTemplate(text, line, report)
		}
	}
}

// jsonString returns the unescaped text of a string that begins at i, and the position of its end. What is no ASCII cannot
// be a bracket or an operator, so it does not matter here.
func jsonString(src []byte, i int) (end int, text []byte) {
	for ; i < len(src); i++ {
		switch c := src[i]; c {
		case '"':
			return i, text
		case '\\':
			i++
			if i >= len(src) {
				return i, text
			}
			switch src[i] {
			case 'n':
				text = append(text, '\n')
			case 'u':
				var r rune
				for k := 1; k <= 4 && i+k < len(src); k++ {
					r = r<<4 | rune(hexDigit(src[i+k]))
				}
				i += 4
				if r < 128 {
					text = append(text, byte(r))
				}
			default:
				text = append(text, src[i])
			}
		default:
			text = append(text, c)
		}
	}
	return i, text
}

func hexDigit(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c|0x20 >= 'a' && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10
	}
	return 0
}

// lineRange is the range of a whole line.
func lineRange(file string, line int) hcl.Range {
	p := hcl.Pos{Line: line, Column: 1}
	return hcl.Range{Filename: file, Start: p, End: p}
}
