package console

import "strings"

// Section is a part of a page: from a heading to the next, whatever their ranks.
type Section struct {
	Title string // of the heading; "" before the first
	Line  int    // its first one's number
	Text  string
}

// Block is code that a page shows.
type Block struct {
	Kind string // what stands behind the opening fence: hcl, console, sh, …; "indented" where there is no fence
	Line int
}

// Sections takes a page apart. Their texts, one after the other, are the page.
func Sections(page string) []Section {
	all := []Section{{Line: 1}}
	number, fenced := 0, false
	for line := range strings.Lines(page) {
		number++
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		}
		if title := strings.TrimLeft(line, "#"); !fenced && title != line && strings.HasPrefix(title, " ") {
			all = append(all, Section{Title: strings.TrimSpace(title), Line: number})
		}
		all[len(all)-1].Text += line
	}
	return all
}

// Blocks are the blocks of code of a section.
func (x Section) Blocks() []Block {
	var all []Block
	fenced, before := false, "\n"
	number := x.Line
	for line := range strings.Lines(x.Text) {
		marker, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence:
			if fenced = !fenced; fenced {
				all = append(all, Block{strings.TrimSpace(marker), number})
			}
		case !fenced && before == "\n" && strings.HasPrefix(line, "    "):
			all = append(all, Block{"indented", number})
		}
		before = line
		number++
	}
	return all
}
