package speaker

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDoc: the map of the package has each of its files.
func TestDoc(t *testing.T) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(f, ".go")
		if name != "doc" && !strings.HasSuffix(name, "_test") && !regexp.MustCompile(`(?m)^//\t[a-z_ ]*\b`+name+`\b.*  `).Match(doc) {
			t.Errorf("%s is not in doc.go", f)
		}
	}
}
