package doctor

import (
	"fmt"
	"path"
	"strings"
)

// word is a text as one word of sh(1). Names of links, files and chains may have any byte in them, and what doctor prints is
// typed by root, or run by --fix.
func word(text string) string {
	plain := func(r rune) bool {
		return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("@%+=:,./_-", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// put is a command that writes a file.
func put(name, text string) string {
	format := strings.NewReplacer(`\`, `\\`, "%", "%%", "\n", `\n`).Replace(text) // printf(1)
	return fmt.Sprintf("mkdir -p %s && printf %s > %s", word(path.Dir(name)), word(format), word(name))
}
