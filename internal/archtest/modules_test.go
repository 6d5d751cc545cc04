// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// modules are the modules beside the main one that are shipped.
var modules = []string{"service", "spire"}

// heavy are the libraries that are too heavy for the main module, with the folders that may import them.
var heavy = map[string][]string{
	"github.com/jackc/pgx":     {"service/internal/store/", "spire/internal/nodeserver/"},
	"modernc.org/sqlite":       {"service/internal/store/"},
	"github.com/pressly/goose": {"service/internal/store/"},
	"github.com/spiffe/":       {"spire/"},
	"github.com/hashicorp/":    {"spire/"},
	"google.golang.org/grpc":   {"spire/"},
}

// isCommand reports whether a file is part of a command, in whichever module.
func isCommand(file string) bool {
	first, rest, _ := strings.Cut(file, "/")
	return first == "cmd" || slices.Contains(modules, first) && strings.HasPrefix(rest, "cmd/")
}

// TestModulesAreApart checks that heavy libraries stay in the folders that need them; that nothing else
// imports these modules; and that they write JSON as the rest of the tree does.
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
	for library, folders := range heavy {
		if strings.Contains(string(b), library) {
			t.Errorf("go.mod requires %s", library)
		}
		for file, all := range imports {
			for _, p := range all {
				if !strings.HasPrefix(p, library) {
					continue
				}
				found[library] = true
				if top(file) != "test" && !slices.ContainsFunc(folders, func(at string) bool { return strings.HasPrefix(file, at) }) {
					t.Errorf("%s imports %s, which only %s may", file, p, folders)
				}
			}
		}
		if !found[library] {
			t.Errorf("nothing imports %s: the search is wrong", library)
		}
	}
	for _, name := range modules {
		for file, all := range imports {
			for _, p := range all {
				if strings.HasPrefix(p, module+"/"+name+"/") && top(file) != name {
					t.Errorf("%s imports %s: that module is apart", file, p)
				}
				if top(file) == name && !strings.HasSuffix(file, "_test.go") && strings.HasPrefix(p, "encoding/json") {
					t.Errorf("%s imports %s: use internal/strictjson", file, p)
				}
			}
		}
	}
}
