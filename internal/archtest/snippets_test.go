// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"regexp"
	"strings"
	"testing"
)

// TestSnippetsAreExamples checks that the Go code in documents is part of an Example
// that runs: its lines are found one after the other in a file example_test.go or
// example_*_test.go, apart from indentation and comments.
func TestSnippetsAreExamples(t *testing.T) {
	var examples []string
	documents := map[string]string{}
	files(t, func(path string, content []byte) {
		switch {
		case strings.HasSuffix(path, ".md"):
			documents[path] = string(content)
		case strings.HasSuffix(path, "_test.go") && strings.Contains(path, "example"):
			examples = append(examples, "\n"+bare(string(content)))
		}
	})
	block := regexp.MustCompile("(?s)```go\n(.*?)```")
	n := 0
	for path, text := range documents {
	blocks:
		for _, m := range block.FindAllStringSubmatch(text, -1) {
			n++
			for _, e := range examples {
				if strings.Contains(e, "\n"+bare(m[1])) {
					continue blocks
				}
			}
			t.Errorf("%s: this code is not in an Example:\n%s", path, m[1])
		}
	}
	if n < 2 {
		t.Errorf("found %d snippets of Go: the pattern is wrong", n)
	}
}

// comment is a comment at the end of a line.
var comment = regexp.MustCompile(`\s+// .*$`)

// bare returns code without indentation, comments and empty lines.
func bare(code string) string {
	var b strings.Builder
	for line := range strings.Lines(code) {
		line = strings.Join(strings.Fields(comment.ReplaceAllString("\t"+strings.TrimSuffix(line, "\n"), "")), " ")
		if line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
