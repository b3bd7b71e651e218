package main

import (
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// screen is how wide help is: what every terminal has.
const screen = 80

// setHelp has help fit on a screen.
func setHelp(root *cobra.Command) {
	cobra.AddTemplateFunc("wrapped", wrapped)
	root.SetHelpTemplate(strings.Replace(root.HelpTemplate(), "trimTrailingWhitespaces", "trimTrailingWhitespaces | wrapped", 1))
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages ", ".FlagUsagesWrapped 80 "))
}

// wrapped breaks paragraphs anew at the width of a screen. Lines that begin with a blank stay as they are.
func wrapped(text string) string {
	var out strings.Builder
	column := 0
	end := func() {
		if column > 0 {
			out.WriteByte('\n')
			column = 0
		}
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if line == "" || line[0] == ' ' {
			end()
			out.WriteString(line + "\n")
			continue
		}
		for _, word := range strings.Fields(line) {
			n := utf8.RuneCountInString(word)
			switch {
			case column > 0 && column+1+n > screen:
				end()
			case column > 0:
				out.WriteByte(' ')
				column++
			}
			out.WriteString(word)
			column += n
		}
	}
	return out.String()
}
