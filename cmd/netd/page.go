package main

import (
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode"
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
	text := legible(string(b))
	if p.width > 0 {
		var out strings.Builder
		for line := range strings.Lines(text) {
			out.WriteString(folded(line, p.width))
		}
		text = out.String()
	}
	_, err := io.WriteString(p.Writer, text)
	return len(b), err
}

// legible spells control characters out, and those that turn a line around: a link's name may hold any, and a terminal would obey
// them. netd's own colours stay, and a cleared screen in front.
func legible(s string) string {
	start, rest := "", s
	if after, ok := strings.CutPrefix(s, clearScreen); ok {
		start, rest = clearScreen, after
	}
	if strings.IndexFunc(rest, isControl) < 0 {
		return s
	}
	var out strings.Builder
	out.WriteString(start)
	for rest != "" {
		i := strings.IndexFunc(rest, isControl)
		if i < 0 {
			break
		}
		out.WriteString(rest[:i])
		rest = rest[i:]
		c := ownColor.FindString(rest)
		if c != "" {
			out.WriteString(c)
		} else {
			r, n := utf8.DecodeRuneInString(rest)
			c = rest[:n]
			out.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
		rest = rest[len(c):]
	}
	return out.String() + rest
}

func isControl(r rune) bool {
	return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r)
}

var ownColor = regexp.MustCompile("^(" + strings.ReplaceAll(strings.Join([]string{red, green, yellow, dim, plain}, "|"), "[", `\[`) + ")")

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
