// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// onlyOurs are exported names that only internal packages use, and that stay: each with
// the reason. The list may only become shorter.
var onlyOurs = map[string]string{
	"evidence.AnchorDigest":       "a commitment of the format, for other verifiers",
	"evidence.BatchMessage":       "a commitment of the format, for other verifiers",
	"evidence.ErrInclusion":       "an error of CheckInclusion",
	"evidence.NewTree":            "a commitment of the format, for other verifiers",
	"evidence.ReportData":         "a commitment of the format, for other verifiers",
	"sealing.NewAssociatedDigest": "writes the format that ParseBlob reads",
	"sealing.Overhead":            "a size of the format",
	"sealing.ParseRecipient":      "reads a member of the header",
	"verify.Definitions":          "the list of all checks, for programs that show an appraisal",
	"verify/snp.Error":            "what every function of the package returns for a refusal",
	"verify/snp.ParseProduct":     "reads what Product.String writes",
}

// face is what a public package exports.
type face struct {
	names  map[string]bool            // exported at package level
	leads  map[string]map[string]bool // name to the exported names of its signature, fields and methods
	values map[string]string          // constant or variable to its type
	used   map[string]bool
	inside map[string]bool // name of an internal type or constant, under which others reach it
}

// specified are the names of limits, labels and sizes of a format, which documents state:
// other implementations need their values.
var specified = regexp.MustCompile(`^(Max|Min|Label)[A-Z]|(Type|Size)$`)

// TestExportedNamesAreForOthers checks that each exported name of a public package is used
// by others than the insides of this module: by another public package, a command, a test
// or Example of an external test package, or in the signature, fields or methods of such a
// name. A constant counts as used if its type is, and a name for an internal one if the
// package shows that internal package anyway.
func TestExportedNamesAreForOthers(t *testing.T) {
	faces := map[string]*face{}
	for _, p := range public {
		if p != "" {
			faces[p] = &face{map[string]bool{}, map[string]map[string]bool{}, map[string]string{}, map[string]bool{}, map[string]bool{}}
		}
	}
	sources(t, func(file string, _ *token.FileSet, f *ast.File) {
		folder := path.Dir(file)
		if x := faces[folder]; x != nil && !strings.HasSuffix(file, "_test.go") {
			x.read(f, folder)
		}
		if strings.HasSuffix(f.Name.Name, "_test") || top(file) == "cmd" || faces[folder] != nil && !strings.HasSuffix(file, "_test.go") {
			use(faces, f)
		}
	})
	for _, s := range strangers {
		use(faces, parse(t, s.source))
	}
	for changed := true; changed; {
		changed = false
		for p, x := range faces {
			for name := range x.used {
				for other := range x.leads[name] {
					to, n := p, other
					if i := strings.LastIndex(other, "."); i >= 0 {
						to, n = other[:i], other[i+1:]
					}
					if y := faces[to]; y != nil && !y.used[n] {
						y.used[n], changed = true, true
					}
				}
			}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(faces)) {
		x := faces[p]
		for _, name := range slices.Sorted(maps.Keys(x.names)) {
			full := p + "." + name
			used := x.used[name] || x.used[x.values[name]] || x.inside[name] || specified.MatchString(name)
			switch _, excused := onlyOurs[full]; {
			case !used && !excused:
				t.Errorf("%s is exported, and only internal packages use it: move it below an internal folder", full)
			case used && excused:
				t.Errorf("%s is used from outside: remove it from the list of exceptions", full)
			}
		}
	}
}

// read adds the exported declarations of a file.
func (x *face) read(f *ast.File, folder string) {
	imports := publicImports(f)
	lead := func(name string, in ast.Node) {
		if x.leads[name] == nil {
			x.leads[name] = map[string]bool{}
		}
		ast.Inspect(in, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if id, ok := n.X.(*ast.Ident); ok && imports[id.Name] != "" {
					x.leads[name][imports[id.Name]+"."+n.Sel.Name] = true
				}
				return false
			case *ast.Ident:
				x.leads[name][n.Name] = true
			}
			return true
		})
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if !d.Name.IsExported() || !exportedReceiver(d) {
				continue
			}
			name := d.Name.Name
			if d.Recv != nil {
				name = receiver(d)
			} else {
				x.names[name] = true
			}
			lead(name, d.Type)
		case *ast.GenDecl:
			x.declare(d, lead)
		}
	}
}

func (x *face) declare(d *ast.GenDecl, lead func(string, ast.Node)) {
	typ := ""
	for _, s := range d.Specs {
		switch s := s.(type) {
		case *ast.TypeSpec:
			x.names[s.Name.Name] = s.Name.IsExported()
			if !s.Name.IsExported() {
				delete(x.names, s.Name.Name)
			}
			lead(s.Name.Name, s.Type)
			_, other := s.Type.(*ast.SelectorExpr)
			x.inside[s.Name.Name] = s.Assign.IsValid() && other
		case *ast.ValueSpec:
			if id, ok := s.Type.(*ast.Ident); ok {
				typ = id.Name
			} else if len(s.Values) > 0 {
				typ = ""
			}
			for i, n := range s.Names {
				if !n.IsExported() {
					continue
				}
				x.names[n.Name], x.values[n.Name] = true, typ
				if i < len(s.Values) {
					lead(n.Name, s.Values[i])
					_, x.inside[n.Name] = s.Values[i].(*ast.SelectorExpr)
				}
			}
		}
	}
}

// receiver returns the name of a method's type.
func receiver(d *ast.FuncDecl) string {
	e := d.Recv.List[0].Type
	if star, ok := e.(*ast.StarExpr); ok {
		e = star.X
	}
	return e.(*ast.Ident).Name
}

// publicImports returns the public packages that a file imports, by the name in the file.
func publicImports(f *ast.File) map[string]string {
	all := map[string]string{}
	for _, i := range f.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		to := folder(p)
		if to == "" || !slices.Contains(public, to) {
			continue
		}
		name := path.Base(to)
		if i.Name != nil {
			name = i.Name.Name
		}
		all[name] = to
	}
	return all
}

// use notes the names of public packages that a file uses.
func use(faces map[string]*face, f *ast.File) {
	imports := publicImports(f)
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := s.X.(*ast.Ident); ok && imports[id.Name] != "" {
				faces[imports[id.Name]].used[s.Sel.Name] = true
			}
		}
		return true
	})
}
