package main

import (
	"io"
	"strings"
	"unicode/utf8"
)

// table prints rows in columns, the first row's names above them. On a terminal that is too narrow for all of them the columns
// go on in further lines of each row, and what is still too wide is broken between words, below its own beginning.
func table(w io.Writer, rows [][]string) {
	if len(rows) == 0 {
		return
	}
	screen := 0
	if p, ok := w.(page); ok {
		screen = p.width
	}
	var b strings.Builder
	for at := columnsOf(rows, screen); len(rows) > 0; rows = rows[1:] {
		tableRow(&b, at, rows[0], screen)
	}
	_, _ = io.WriteString(w, b.String())
}

// column is where a column stands: in which line of its row, how far to the right, and how wide it is.
type column struct{ line, left, width int }

const (
	gap  = 2 // between columns
	hang = 4 // of the further lines of a row
)

// columnsOf lays columns out on a screen, 0 for one without end. A cell that is very long makes its column no wider.
func columnsOf(rows [][]string, screen int) []column {
	at := make([]column, len(rows[0]))
	for i := range at {
		whole, word := 0, 0
		for _, r := range rows {
			n := utf8.RuneCountInString(r[i])
			whole = max(whole, n)
			for w := range strings.FieldsSeq(r[i]) {
				word = max(word, utf8.RuneCountInString(w))
			}
			if n <= widest {
				at[i].width = max(at[i].width, n)
			}
		}
		if i == 0 {
			continue
		}
		at[i].line, at[i].left = at[i-1].line, at[i-1].left+at[i-1].width+gap
		room := screen - at[i].left
		breaks := i == len(at)-1 && word <= room && whole <= 2*room // the last one may, if not into many lines
		if screen > 0 && room < max(at[i].width, word) && !breaks {
			at[i].line, at[i].left = at[i].line+1, hang
		}
	}
	return at
}

// tableRow prints a row. A cell that is wider than its column pushes the others on, or into the next line.
func tableRow(b *strings.Builder, at []column, row []string, screen int) {
	line, of := "", 0
	end := func() {
		if line = strings.TrimRight(line, " "); line != "" {
			b.WriteString(line + "\n")
		}
		line = ""
	}
	for i, cell := range row {
		if cell == "" {
			continue
		}
		n := utf8.RuneCountInString(line)
		left := max(at[i].left, n)
		if n > 0 && n > at[i].left-gap {
			left = n + gap
		}
		if at[i].line != of || screen > 0 && n > 0 && left > at[i].left && left+utf8.RuneCountInString(cell) > screen {
			end()
			n, left, of = 0, at[i].left, at[i].line
		}
		line += strings.Repeat(" ", left-n)
		parts := broken(cell, screen-left)
		for k, part := range parts {
			if k > 0 {
				end()
				line = strings.Repeat(" ", left)
			}
			line += part
		}
		if len(parts) > 1 { // what stood beside its last words would seem to be theirs
			end()
		}
	}
	end()
}

// broken breaks a text between words where it is wider than the room, 0 or less for one without end.
func broken(text string, room int) []string {
	if room <= 0 || utf8.RuneCountInString(text) <= room {
		return []string{text}
	}
	var out []string
	for _, word := range strings.Fields(text) {
		if n := len(out); n > 0 && utf8.RuneCountInString(out[n-1])+1+utf8.RuneCountInString(word) <= room {
			out[n-1] += " " + word
		} else {
			out = append(out, word)
		}
	}
	return out
}
