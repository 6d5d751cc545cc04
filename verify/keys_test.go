// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/verify/internal/rule"
)

// key is a key of a policy, as docs/policy.md describes it.
type key struct {
	Name    string // dotted; without the index of a list of tables
	Type    string // type of its value, in words
	Default string // in the spelling of TOML, or a word such as "any"
	Doc     string // what the key does, and what it protects against
}

// keysOf returns all keys, from the tags of the fields. In a tag, |x| is code.
func keysOf() (all []key) {
	var walk func(prefix string, t reflect.Type)
	walk = func(prefix string, t reflect.Type) {
		for f := range t.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			inner := f.Type
			for inner.Kind() == reflect.Slice || inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			switch {
			case f.Anonymous:
				walk(prefix, f.Type)
			case name == "":
			case inner.Kind() == reflect.Struct:
				walk(prefix+name+".", inner)
			case inner.Kind() == reflect.Map && inner.Elem().Kind() == reflect.Struct:
				walk(prefix+name+".PRODUCT.", inner.Elem())
			default:
				doc := strings.ReplaceAll(f.Tag.Get("doc"), "|", "`")
				all = append(all, key{Name: prefix + name, Type: typeName(f.Type), Default: f.Tag.Get("default"), Doc: doc})
			}
		}
	}
	walk("", reflect.TypeFor[Policy]())
	return all
}

func typeName(t reflect.Type) string {
	switch {
	case t.Kind() == reflect.Pointer:
		return typeName(t.Elem())
	case t.Kind() == reflect.Slice:
		return "list of " + typeName(t.Elem()) + "s"
	case t.Kind() == reflect.Map:
		return "table of " + typeName(t.Elem()) + "s"
	case t.Kind() == reflect.Bool:
		return "boolean"
	case t.Kind() == reflect.String, t == reflect.TypeFor[Duration]():
		return "string"
	}
	return "integer"
}

// policyKeys returns every key of a policy, dotted, lists of tables without their index.
func policyKeys() []string {
	var names []string
	for _, k := range keysOf() {
		names = append(names, k.Name)
	}
	return names
}

// literals calls f with each string literal and struct tag of the production code of the verifier. Package
// ear is not part of it: it reads appraisals, as commands do.
func literals(t *testing.T, f func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && path == "ear" {
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				text, err := strconv.Unquote(l.Value)
				if err != nil {
					t.Fatal(err)
				}
				f(path, text)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestKeyIsInOneFile: a key of a policy is named in one Go file, that of its subject. A
// message may mention a key of another subject.
func TestKeyIsInOneFile(t *testing.T) {
	const here = "internal/rule/"
	tag := regexp.MustCompile(`^toml:"([a-z0-9_]+)[,"]`)
	index := regexp.MustCompile(`\[%?[a-z0-9]\]`)
	named := make(map[string]map[string]bool) // files, by key
	fields := make(map[string]map[string]bool)
	note := func(in map[string]map[string]bool, key, path string) {
		if in[key] == nil {
			in[key] = make(map[string]bool)
		}
		in[key][path] = true
	}
	literals(t, func(path, text string) {
		if m := tag.FindStringSubmatch(text); m != nil && filepath.Dir(path)+"/" == here {
			note(fields, m[1], path)
		}
		key := index.ReplaceAllString(text, "")
		// A word such as "log" means other things elsewhere.
		if strings.ContainsAny(key, "._") || filepath.Dir(path)+"/" == here {
			note(named, key, path)
		}
	})
	for _, k := range keysOf() {
		declared := fields[k.Name[strings.LastIndex(k.Name, ".")+1:]]
		if len(declared) == 0 {
			t.Errorf("%s is in no file", k.Name)
		}
		for file := range named[k.Name] {
			if !declared[file] {
				t.Errorf("%s is named in %s, its field is in %v", k.Name, file, slices.Sorted(maps.Keys(declared)))
			}
		}
	}
}

// TestChecksAreHere: the id of a rule's check is a literal of its file, and of no other.
func TestChecksAreHere(t *testing.T) {
	files := make(map[string]map[string]bool)
	for _, d := range rule.Definitions() {
		files[string(d.ID)] = make(map[string]bool)
	}
	literals(t, func(path, text string) {
		if in, ok := files[text]; ok {
			in[path] = true
		}
	})
	for id, in := range files {
		if len(in) != 1 {
			t.Errorf("%s is named in %v", id, slices.Sorted(maps.Keys(in)))
		}
	}
}

// TestKeysAreDescribed: each field has its words.
func TestKeysAreDescribed(t *testing.T) {
	for _, k := range keysOf() {
		if k.Type == "" || k.Default == "" || k.Doc == "" {
			t.Errorf("%s: the tags of its field must give its default, and its words for docs/policy.md", k.Name)
		}
	}
}
