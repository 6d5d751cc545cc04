// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// maxLines is the longest that a source file may be.
const maxLines = 700

// files calls f with every file of the tree and its slash-separated path. It leaves out
// what git and the Makefile make.
func files(t *testing.T, f func(path string, content []byte)) {
	t.Helper()
	top := root(t)
	n := 0
	err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(top, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist"}, name) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n++
		f(filepath.ToSlash(name), b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 50 {
		t.Fatalf("found only %d files: the walk is wrong", n)
	}
}

// parse returns a Go file of this text.
func parse(t *testing.T, source string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// sources calls f with every Go file, parsed.
func sources(t *testing.T, f func(path string, set *token.FileSet, file *ast.File)) {
	t.Helper()
	files(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, content, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			return
		}
		f(path, set, file)
	})
}

// TestLicenceIsNamed checks that every Go file and every shell script names the licence in
// its first line, or in the line after #!.
func TestLicenceIsNamed(t *testing.T) {
	const tag = " SPDX-License-Identifier: Apache-2.0"
	files(t, func(path string, content []byte) {
		first, rest, _ := bytes.Cut(content, []byte("\n"))
		script := bytes.HasPrefix(first, []byte("#!"))
		if script {
			first, _, _ = bytes.Cut(rest, []byte("\n"))
		}
		switch {
		case strings.HasSuffix(path, ".go"):
			if string(first) != "//"+tag {
				t.Errorf("%s: begins with %q, want //%s", path, first, tag)
			}
		case strings.HasSuffix(path, ".sh"), script:
			if string(first) != "#"+tag {
				t.Errorf("%s: has %q after the line of the interpreter, want #%s", path, first, tag)
			}
		}
	})
}

func TestPackagesAreDocumented(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.folder())
		}
	}
}

func TestGoFilesAreFormatted(t *testing.T) {
	files(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, ".go") {
			return
		}
		if out, err := format.Source(content); err != nil {
			t.Errorf("%s: %v", path, err)
		} else if !bytes.Equal(out, content) {
			t.Errorf("%s: gofmt would change it", path)
		}
		if n := bytes.Count(content, []byte("\n")); n > maxLines {
			t.Errorf("%s: %d lines, at most %d", path, n, maxLines)
		}
	})
}

// TestFunctionsAreShort checks that functions outside tests have at most 60 lines, or 80 in
// the one that checks every key of the configuration.
func TestFunctionsAreShort(t *testing.T) {
	const list = "check in internal/config/config.go"
	sources(t, func(path string, set *token.FileSet, file *ast.File) {
		for _, d := range file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || strings.HasSuffix(path, "_test.go") {
				continue
			}
			most := 60
			if fn.Name.Name+" in "+path == list {
				most = 80
			}
			if n := set.Position(fn.End()).Line - set.Position(fn.Pos()).Line + 1; n > most {
				t.Errorf("%s: %s has %d lines, at most %d", set.Position(fn.Pos()), fn.Name.Name, n, most)
			}
		}
	})
}

// TestNames checks that the name of a package says what the package is for.
func TestNames(t *testing.T) {
	empty := regexp.MustCompile(`(?i)^(utils?|common|helpers?|misc|manager|shared|base|lib)$`)
	for _, p := range packages(t) {
		for part := range strings.SplitSeq(p.folder(), "/") {
			if empty.MatchString(part) {
				t.Errorf("%s: the name %q says nothing", p.folder(), part)
			}
		}
	}
}

// TestNothingHappensAtImport checks that importing a package runs no function of ours.
func TestNothingHappensAtImport(t *testing.T) {
	sources(t, func(path string, set *token.FileSet, file *ast.File) {
		for _, d := range file.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init", set.Position(fn.Pos()))
			}
		}
	})
}

// TestOnlyCommandsExit checks that no library ends the process: that is the choice of its
// caller.
func TestOnlyCommandsExit(t *testing.T) {
	sources(t, func(path string, set *token.FileSet, file *ast.File) {
		if isCommand(path) || slices.Contains(free, top(path)) || strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			x, ok := call.X.(*ast.Ident)
			if !ok {
				return true
			}
			if x.Name == "os" && call.Sel.Name == "Exit" || x.Name == "log" && strings.HasPrefix(call.Sel.Name, "Fatal") {
				t.Errorf("%s: %s.%s in a library", set.Position(call.Pos()), x.Name, call.Sel.Name)
			}
			return true
		})
	})
}

// TestNothingIsLeftForLater checks that the source contains no marks for later work.
func TestNothingIsLeftForLater(t *testing.T) {
	marks := regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"}, "|") + `)\b`)
	files(t, func(path string, content []byte) {
		for i, line := range bytes.Split(content, []byte("\n")) {
			if len(line) < 4096 && marks.Match(line) {
				t.Errorf("%s:%d: %s", path, i+1, bytes.TrimSpace(line))
			}
		}
	})
}

// TestExportedThingsAreDocumented checks that exported declarations have comments.
func TestExportedThingsAreDocumented(t *testing.T) {
	sources(t, func(path string, set *token.FileSet, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") || slices.Contains(free, top(path)) || file.Name.Name == "main" {
			return
		}
		for _, d := range file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) && !selfEvident[d.Name.Name] {
					t.Errorf("%s: %s has no comment", set.Position(d.Pos()), d.Name.Name)
				}
			case *ast.GenDecl:
				if d.Tok != token.TYPE || d.Doc != nil {
					continue
				}
				for _, s := range d.Specs {
					if s := s.(*ast.TypeSpec); s.Name.IsExported() && s.Doc == nil {
						t.Errorf("%s: %s has no comment", set.Position(s.Pos()), s.Name.Name)
					}
				}
			}
		}
	})
}

// selfEvident lists methods of the standard interfaces.
var selfEvident = map[string]bool{"Error": true, "Unwrap": true, "Is": true, "String": true, "Len": true, "Less": true, "Swap": true,
	"Read": true, "Write": true, "Close": true, "MarshalText": true, "UnmarshalText": true, "MarshalJSON": true, "UnmarshalJSON": true, "ServeHTTP": true, "ReadHashes": true}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	x := d.Recv.List[0].Type
	if star, ok := x.(*ast.StarExpr); ok {
		x = star.X
	}
	id, ok := x.(*ast.Ident)
	return ok && id.IsExported()
}

// TestLinksLead checks that links inside the tree lead to a file, and to a heading of it.
func TestLinksLead(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]*)?\)`)
	files(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		for _, m := range link.FindAllSubmatch(content, -1) {
			to, place := string(m[1]), string(m[2])
			if strings.Contains(to, "://") {
				continue
			}
			target := filepath.Join(root(t), filepath.FromSlash(path))
			if to != "" {
				target = filepath.Join(filepath.Dir(target), filepath.FromSlash(to))
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: link to %s: %v", path, to, err)
			} else if place != "" && strings.HasSuffix(target, ".md") && !slices.Contains(places(t, target), place) {
				t.Errorf("%s: link to %s%s: there is no such heading", path, to, place)
			}
		}
	})
}

// places returns the headings of a document as links name them: in lower case, without punctuation,
// with hyphens for spaces, and numbered if they are there several times. Marks of HTML count too.
func places(t *testing.T, document string) (out []string) {
	t.Helper()
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`<a id="([^"]+)"`).FindAllSubmatch(b, -1) {
		out = append(out, "#"+string(m[1]))
	}
	heading, link, drop := regexp.MustCompile(`^#+ +(.*)$`), regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`), regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
	seen := make(map[string]int)
	code := false
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		m := heading.FindStringSubmatch(strings.TrimRight(line, " \n"))
		if code || m == nil {
			continue
		}
		place := strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(link.ReplaceAllString(m[1], "$1")), ""), " ", "-")
		if n := seen[place]; n > 0 {
			out = append(out, fmt.Sprintf("#%s-%d", place, n))
		} else {
			out = append(out, "#"+place)
		}
		seen[place]++
	}
	return out
}

// TestNoBinaries checks that the tree contains no built program.
func TestNoBinaries(t *testing.T) {
	files(t, func(path string, content []byte) {
		if bytes.HasPrefix(content, []byte("\x7fELF")) {
			t.Errorf("%s is a built program: remove it", path)
		}
	})
}

// TestDocumentsAreWrapped checks that lines of documents end before column 100, apart from
// tables, code and single links.
func TestDocumentsAreWrapped(t *testing.T) {
	files(t, func(path string, content []byte) {
		if !strings.HasSuffix(path, ".md") {
			return
		}
		code := false
		for i, line := range strings.Split(string(content), "\n") {
			if strings.HasPrefix(line, "```") {
				code = !code
			}
			if code || strings.HasPrefix(strings.TrimSpace(line), "|") || strings.HasPrefix(line, "    ") || len(strings.Fields(line)) < 4 {
				continue
			}
			if n := utf8.RuneCountInString(line); n > 100 {
				t.Errorf("%s:%d: %d columns, at most 100", path, i+1, n)
			}
		}
	})
}
