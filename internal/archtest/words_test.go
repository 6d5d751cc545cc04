// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// words are expressions that CONTRIBUTING.md does not want in documents, comments and
// strings. Each has the number that may be left. A number only ever goes down.
var words = []struct {
	instead string
	pattern *regexp.Regexp
	but     *regexp.Regexp // matches that are good English; may be nil
	most    int
}{
	{"name the actor", regexp.MustCompile(`(?i)\bwhoever\b`), nil, 0},
	{"name the actor", regexp.MustCompile(`(?i)\b(nobody|somebody|anybody)\b`), nil, 4},
	{"write: is not a", regexp.MustCompile(`(?i)\bis no [a-z]`), regexp.MustCompile(`(?i)\bthere is no [a-z]|\bis no longer`), 0},
	{"write: if, or when", regexp.MustCompile(`(?i)\bwhere (there (is|are|was|were)|it|they|none|nothing|no|not|nil|empty|needed|given|possible|set|absent)\b`), nil, 14},
}

// texts calls f with every text that a person reads: the lines of documents, and the
// comments and strings of Go files.
func texts(t *testing.T, f func(path, text string)) {
	t.Helper()
	files(t, func(path string, content []byte) {
		if strings.HasSuffix(path, ".md") && path != "CONTRIBUTING.md" { // which names the words
			f(path, strings.Join(strings.Fields(string(content)), " "))
		}
	})
	sources(t, func(path string, _ *token.FileSet, file *ast.File) {
		if strings.HasSuffix(path, "/words_test.go") {
			return
		}
		for _, c := range file.Comments {
			f(path, strings.Join(strings.Fields(c.Text()), " "))
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
				f(path, s.Value)
			}
			return true
		})
	})
}

// TestWords checks that no change adds one of the words.
func TestWords(t *testing.T) {
	found := make([]map[string]int, len(words)) // by file
	for i := range found {
		found[i] = map[string]int{}
	}
	texts(t, func(path, text string) {
		for i, w := range words {
			n := len(w.pattern.FindAllString(text, -1))
			if w.but != nil {
				n -= len(w.but.FindAllString(text, -1))
			}
			if n > 0 {
				found[i][path] += n
			}
		}
	})
	for i, w := range words {
		n := 0
		for _, k := range found[i] {
			n += k
		}
		t.Logf("%v: %d", w.pattern, n)
		if n > w.most {
			t.Errorf("%v: found %d times, at most %d: %s. Files:", w.pattern, n, w.most, w.instead)
			for _, path := range slices.Sorted(maps.Keys(found[i])) {
				t.Logf("%4d %s", found[i][path], path)
			}
		}
	}
}
