// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// constants are the codes that problem.go declares.
func constants(t *testing.T) (out []Code) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "problem.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Code" {
			for _, x := range v.Values {
				s, err := strconv.Unquote(x.(*ast.BasicLit).Value)
				if err != nil {
					t.Fatal(err)
				}
				out = append(out, Code(s))
			}
		}
		return true
	})
	slices.Sort(out)
	return out
}

// TestCodesAreComplete: no code can be given that is not in the table, in openapi.json and
// in docs/api.md, each with the status that goes with it; and nothing else stands there.
func TestCodesAreComplete(t *testing.T) {
	declared := constants(t)
	if len(declared) < 50 || !slices.Equal(declared, Codes()) {
		t.Errorf("constants %v\ntable %v", declared, Codes())
	}
	titles := map[string]Code{}
	for _, c := range Codes() {
		p := NewProblem(c, "d")
		if p.Status != c.Status() || p.Status < 400 || p.Status > 599 || p.Type != ProblemBase+string(c) || p.Title == "" || p.Code != c {
			t.Errorf("%s: %+v", c, p)
		}
		if other, ok := titles[p.Title]; ok {
			t.Errorf("%s and %s have one title", c, other)
		}
		titles[p.Title] = c
	}

	docs, err := os.ReadFile("../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []Code
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)\n\n(\d{3})\. \S`).FindAllStringSubmatch(string(docs), -1) {
		c := Code(m[1])
		documented = append(documented, c)
		if m[2] != fmt.Sprint(c.Status()) {
			t.Errorf("docs/api.md: %s has status %s, want %d", c, m[2], c.Status())
		}
	}
	if !slices.Equal(documented, Codes()) { // in alphabetical order
		t.Errorf("docs/api.md documents %v, want %v", documented, Codes())
	}
	if n := strings.Count(string(docs), "\n### "); n != len(documented) {
		t.Errorf("docs/api.md has %d headings below \"Problems\", %d of codes", n, len(documented))
	}
}

// TestProblemResponse: the one answer that every route has besides its own is a problem.
func TestProblemResponse(t *testing.T) {
	var d struct {
		Components struct {
			Responses map[string]struct {
				Headers map[string]json.RawMessage
				Content map[string]struct {
					Schema struct {
						Ref string `json:"$ref"`
					}
				}
			}
			Schemas map[string]json.RawMessage
		}
	}
	if err := json.Unmarshal(OpenAPI, &d); err != nil {
		t.Fatal(err)
	}
	r := d.Components.Responses["Problem"]
	if len(d.Components.Responses) != 1 || len(r.Content) != 1 || r.Content[ProblemType].Schema.Ref != "#/components/schemas/Problem" || r.Headers["Retry-After"] == nil {
		t.Errorf("got %+v", d.Components.Responses)
	}
}
