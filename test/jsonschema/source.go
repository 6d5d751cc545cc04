// SPDX-License-Identifier: Apache-2.0

package jsonschema

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

const module = "github.com/cvm-agentd/agentd/"

// key returns under which name comments and constants of a type, or of one of its fields, are
// kept.
func key(typ reflect.Type, field string) string {
	return typ.PkgPath() + " " + typ.Name() + "." + field
}

// source reads the comments and constants of a package of this module.
func (d *Describer) source(path string) {
	if d.read[path] {
		return
	}
	d.read[path] = true
	dir := filepath.Join(d.root, strings.TrimPrefix(path, module))
	files, err := filepath.Glob(dir + "/*.go")
	if err != nil || len(files) == 0 {
		d.t.Fatalf("files of %s: %v, %v", dir, files, err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			d.t.Fatal(err)
		}
		for _, x := range f.Decls {
			if g, ok := x.(*ast.GenDecl); ok {
				d.declarations(path, g)
			}
		}
	}
}

func (d *Describer) declarations(path string, g *ast.GenDecl) {
	for _, s := range g.Specs {
		switch s := s.(type) {
		case *ast.ValueSpec:
			typ, typed := s.Type.(*ast.Ident)
			if !typed || g.Tok != token.CONST {
				continue
			}
			if x, ok := s.Values[0].(*ast.BasicLit); ok && x.Kind == token.STRING {
				at := path + " " + typ.Name + "."
				if v, err := strconv.Unquote(x.Value); err == nil {
					d.words[at] = append(d.words[at], v)
				}
			}
		case *ast.TypeSpec:
			at := path + " " + s.Name.Name + "."
			d.comments[at] = oneLine(s.Doc.Text() + g.Doc.Text())
			if typ, ok := s.Type.(*ast.StructType); ok {
				for _, f := range typ.Fields.List {
					for _, name := range f.Names {
						d.comments[at+name.Name] = oneLine(f.Doc.Text() + f.Comment.Text())
					}
				}
			}
		}
	}
}

func oneLine(comment string) string {
	return strings.NewReplacer("[*", "", "[", "", "]", "").Replace(strings.Join(strings.Fields(comment), " "))
}

// sentence returns a comment as OpenAPI documents write a description.
func sentence(comment string) string {
	if comment == "" {
		return ""
	}
	return strings.ToUpper(comment[:1]) + strings.TrimSuffix(comment[1:], ".") + "."
}
