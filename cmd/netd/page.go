package main

import (
	"bytes"
	"io"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// page is what text for people is written to: a terminal of some columns, where lines are broken between words instead of
// within them, or a file or pipe, where they stay as they are.
type page struct {
	io.Writer
	color bool
	width int // 0 where it is no terminal
}

func (a *app) page(f descriptor) page {
	p := page{Writer: f, color: a.colored(f)}
	if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil && size.Col >= 40 {
		p.width = int(size.Col)
	}
	return p
}

// Write implements io.Writer. What is written are whole lines, or a question.
func (p page) Write(b []byte) (int, error) {
	if p.width == 0 {
		return p.Writer.Write(b)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(b) {
		out.WriteString(folded(string(line), p.width))
	}
	_, err := p.Writer.Write(out.Bytes())
	return len(b), err
}

var (
	escapes    = regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	sourceLine = regexp.MustCompile(`^ *[0-9]* \| `) // of a fault: what is underlined stands above its mark
)

// columns is how wide a text is shown.
func columns(s string) int { return utf8.RuneCountInString(escapes.ReplaceAllString(s, "")) }

// folded breaks a line that is wider than a terminal between words; what follows is indented by two more.
func folded(line string, width int) string {
	text, end := strings.TrimSuffix(line, "\n"), ""
	if text != line {
		end = "\n"
	}
	if columns(text) <= width || sourceLine.MatchString(text) {
		return line
	}
	shown := escapes.ReplaceAllString(text, "")
	indent := strings.Repeat(" ", len(shown)-len(strings.TrimLeft(shown, " "))+2)
	first := strings.TrimLeft(text, " ")
	out := strings.Repeat(" ", len(text)-len(first))
	at, bare := len(out), true
	for first != "" {
		word, rest, _ := strings.Cut(first, " ")
		gap := 0
		for strings.HasPrefix(rest, " ") {
			gap, rest = gap+1, rest[1:]
		}
		if !bare && at+columns(word) > width {
			out, at = strings.TrimRight(out, " ")+"\n"+indent, len(indent)
		}
		out += word
		at, bare = at+columns(word), false
		if rest != "" {
			out += strings.Repeat(" ", gap+1)
			at += gap + 1
		}
		first = rest
	}
	return out + end
}
