// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// modules are the modules beside the main one that are shipped, the libraries that are too heavy for
// the main module, and the folder of theirs that may import them.
var modules = map[string]struct {
	libraries []string
	at        string
}{
	"service": {[]string{"github.com/jackc/pgx", "modernc.org/sqlite", "github.com/pressly/goose"}, "service/internal/store"},
	"spire":   {[]string{"github.com/spiffe/", "github.com/hashicorp/", "google.golang.org/grpc"}, "spire"},
}

// isCommand reports whether a file is part of a command, in whichever module.
func isCommand(file string) bool {
	first, rest, _ := strings.Cut(file, "/")
	_, apart := modules[first]
	return first == "cmd" || apart && strings.HasPrefix(rest, "cmd/")
}

// TestModulesAreApart checks that heavy libraries stay in the modules that need them, and in one folder
// there; that nothing else imports these modules; and that they write JSON as the rest of the tree does.
func TestModulesAreApart(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	imports := make(map[string][]string)
	sources(t, func(file string, _ *token.FileSet, f *ast.File) {
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			imports[file] = append(imports[file], p)
		}
	})
	for name, m := range modules {
		for _, library := range m.libraries {
			if strings.Contains(string(b), library) {
				t.Errorf("go.mod requires %s", library)
			}
		}
		for file, all := range imports {
			for _, p := range all {
				for _, library := range m.libraries {
					if !strings.HasPrefix(p, library) {
						continue
					}
					found[library] = true
					if !strings.HasPrefix(file, m.at+"/") && top(file) != "test" {
						t.Errorf("%s imports %s, which only %s may", file, p, m.at)
					}
				}
				if strings.HasPrefix(p, module+"/"+name+"/") && top(file) != name {
					t.Errorf("%s imports %s: that module is apart", file, p)
				}
				if top(file) == name && !strings.HasSuffix(file, "_test.go") && strings.HasPrefix(p, "encoding/json") {
					t.Errorf("%s imports %s: use internal/strictjson", file, p)
				}
			}
		}
		for _, library := range m.libraries {
			if !found[library] {
				t.Errorf("nothing imports %s: the search is wrong", library)
			}
		}
	}
}
