// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the last column of docs/cases.md")

// casesFile lists by number what is refused or survived, and the tests of each.
const casesFile = "docs/cases.md"

// TestCasesHaveTests checks that a test names each case, that the list contains each case
// that a test names, and that the list names the tests.
func TestCasesHaveTests(t *testing.T) {
	path := filepath.Join(root(t), filepath.FromSlash(casesFile))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	held := casesByTest(t)
	listed := map[int]bool{}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| (.*?) \|(?: (.*))? \|$`)
	want := row.ReplaceAllFunc(text, func(line []byte) []byte {
		m := row.FindSubmatch(line)
		n, _ := strconv.Atoi(string(m[1])) // digits
		if listed[n] {
			t.Errorf("%s lists case %d twice", casesFile, n)
		}
		listed[n] = true
		if bytes.HasPrefix(m[3], []byte("not built")) {
			if len(held[n]) > 0 {
				t.Errorf("%s says that case %d is not built, and %v name it", casesFile, n, slices.Sorted(maps.Keys(held[n])))
			}
			return line
		}
		if len(held[n]) == 0 {
			t.Errorf("no test names case %d", n)
		}
		return fmt.Appendf(nil, "| %d | %s | %s |", n, m[2], strings.Join(slices.Sorted(maps.Keys(held[n])), ", "))
	})
	if len(listed) < 50 {
		t.Fatalf("read only %d cases from %s: the pattern of a row is wrong", len(listed), casesFile)
	}
	for n, by := range held {
		if !listed[n] {
			t.Errorf("case %d is named by %v and not in %s", n, slices.Sorted(maps.Keys(by)), casesFile)
		}
	}
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(text, want) {
		t.Errorf("%s does not name the right tests: run go test ./internal/archtest -run %s -update", casesFile, t.Name())
	}
}

// cases is "case 24", or "cases 1, 5 to 7 and 9".
var cases = regexp.MustCompile(`(?i)\bcases? (\d+(?:(?:, and |, | and | to )\d+)*)\b`)

// casesIn returns the numbers of the cases that a text names.
func casesIn(text string) (numbers []int) {
	for _, m := range cases.FindAllStringSubmatch(text, -1) {
		words := strings.Fields(strings.ReplaceAll(strings.ReplaceAll(m[1], ",", " "), " and ", " "))
		for i, w := range words {
			n, err := strconv.Atoi(w)
			if err != nil {
				continue
			}
			first := n
			if i > 1 && words[i-1] == "to" {
				first, _ = strconv.Atoi(words[i-2]) // the word before "to"
			}
			for ; first <= n; first++ {
				numbers = append(numbers, first)
			}
		}
	}
	return numbers
}

// casesByTest returns the numbers that tests name, each with its places: a package and its
// test, or the file if the place is outside a test.
func casesByTest(t *testing.T) map[int]map[string]bool {
	held := map[int]map[string]bool{}
	note := func(where, text string) {
		for _, n := range casesIn(text) {
			if held[n] == nil {
				held[n] = map[string]bool{}
			}
			held[n]["`"+where+"`"] = true
		}
	}
	sources(t, func(path string, _ *token.FileSet, file *ast.File) {
		if !strings.HasSuffix(path, "_test.go") || strings.HasSuffix(path, "/cases_test.go") {
			return
		}
		for _, c := range file.Comments {
			note(where(path, file, c.Pos()), strings.Join(strings.Fields(c.Text()), " "))
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.BasicLit); ok && s.Kind == token.STRING {
				note(where(path, file, s.Pos()), s.Value)
			}
			return true
		})
	})
	// Scripts name cases in comments.
	files(t, func(path string, content []byte) {
		if top(path) != "test" && top(path) != "packaging" || !slices.Contains([]string{".sh", ".txtar"}, filepath.Ext(path)) {
			return
		}
		for line := range strings.Lines(string(content)) {
			if strings.HasPrefix(strings.TrimSpace(line), "#") {
				note(path, line)
			}
		}
	})
	return held
}

// where returns the test that contains a position, with its package, or the file.
func where(path string, file *ast.File, at token.Pos) string {
	for _, d := range file.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok || !strings.HasPrefix(fn.Name.Name, "Test") && !strings.HasPrefix(fn.Name.Name, "Fuzz") {
			continue
		}
		begin := fn.Pos()
		if fn.Doc != nil {
			begin = fn.Doc.Pos()
		}
		if begin <= at && at < fn.End() {
			return filepath.ToSlash(filepath.Dir(path)) + " " + fn.Name.Name
		}
	}
	return path
}
