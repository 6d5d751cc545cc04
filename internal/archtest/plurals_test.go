// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

var (
	// verb is a verb of a format.
	verb = regexp.MustCompile(`%[-+# 0]*[0-9]*(\.[0-9]+)?[a-zA-Z%]`)
	// plural is what follows a number of things: one thing would be in the plural.
	plural = regexp.MustCompile(`^ (more |other |measured |declared |ended )?(answers|applications|apps|blobs|changes|checks|connections|containers|copies|digests|directories|events|files|folders|keys|others|programs|questions|records|rules|secrets|units|values)\b`)
	// bound is before a number that is not one of things that are there: "at most %d records".
	bound = regexp.MustCompile(`(at most|at least|more than|up to|of|to|want|the first|or) $`)
	// limit is a number that the code chooses.
	limit = regexp.MustCompile(`(?i)max|most|limit|capacity|cap\(|patience`)
)

// TestOneThing checks that messages of the programs do not say "1 applications": a number with what
// it counts is written by text.Count.
func TestOneThing(t *testing.T) {
	for _, p := range packages(t) {
		if top := top(p.folder()); top != "cmd" && top != "agent" {
			continue
		}
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					for _, words := range miscounts(call) {
						t.Errorf("%s: %q may be of one: use text.Count", set.Position(call.Pos()), words)
					}
				}
				return true
			})
		}
	}
}

// miscounts returns the numbers of things that a call formats, with the format up to them.
func miscounts(call *ast.CallExpr) (all []string) {
	for i, arg := range call.Args {
		lit, ok := arg.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		format, err := strconv.Unquote(lit.Value)
		if err != nil {
			continue
		}
		next := i + 1
		for _, at := range verb.FindAllStringIndex(format, -1) {
			v := format[at[0]:at[1]]
			if v == "%%" {
				continue
			}
			if strings.HasSuffix(v, "d") && plural.MatchString(format[at[1]:]) && !bound.MatchString(format[:at[0]]) && (next >= len(call.Args) || !limit.MatchString(source(call.Args[next]))) {
				all = append(all, format)
			}
			next++
		}
	}
	return all
}

func source(e ast.Expr) string {
	var b strings.Builder
	_ = printer.Fprint(&b, token.NewFileSet(), e)
	return b.String()
}

// TestMiscounts checks which formats are found.
func TestMiscounts(t *testing.T) {
	for code, want := range map[string]int{
		`f("the gate guards %d applications", n)`:        1,
		`f(name, "%s of %q has %d measured apps", a, n)`: 1,
		`f("%s, %d files and %d records", s, n, m)`:      2,
		`f("want at most %d records", n)`:                0,
		`f("%d records at once", maxRecords)`:            0,
		`f("100%% of %d files: %d files", n, maxFiles)`:  0,
		`f("uid %d is not root", n)`:                     0,
	} {
		e, err := parser.ParseExpr(code)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(miscounts(e.(*ast.CallExpr))); got != want {
			t.Errorf("%s: %d found, want %d", code, got, want)
		}
	}
}
