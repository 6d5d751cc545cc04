// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestCodesAreDocumented: every code stands in the table of docs/sealing.md with the
// words of its declaration.
func TestCodesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join("..", "docs", "sealing.md"))
	must(t, err)
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, parser.ParseComments)
	must(t, err)
	n := 0
	for _, d := range file.Decls {
		decl, ok := d.(*ast.GenDecl)
		if !ok || decl.Tok != token.CONST {
			continue
		}
		for _, s := range decl.Specs {
			v := s.(*ast.ValueSpec)
			code, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			must(t, err)
			n++
			if line := "| `" + code + "` | " + strings.TrimSpace(v.Comment.Text()) + " |\n"; !strings.Contains(string(doc), line) {
				t.Errorf("docs/sealing.md lacks the line %q", line)
			}
		}
	}
	if n < 30 {
		t.Errorf("only %d codes found", n)
	}
}
