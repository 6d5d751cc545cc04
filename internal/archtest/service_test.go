// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestServiceIsApart checks that databases stay in the module of the service, and in one package of it;
// that nothing else imports that module; and that it writes JSON as the rest of the tree does.
func TestServiceIsApart(t *testing.T) {
	const service, storeFolder = module + "/service", "service/internal/store"
	drivers := []string{"github.com/jackc/pgx", "modernc.org/sqlite", "github.com/pressly/goose"}
	b, err := os.ReadFile(filepath.Join(root(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range drivers {
		if strings.Contains(string(b), d) {
			t.Errorf("go.mod requires %s", d)
		}
	}
	var found []string
	sources(t, func(file string, _ *token.FileSet, f *ast.File) {
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range drivers {
				if strings.HasPrefix(p, d) {
					found = append(found, d)
					if path.Dir(file) != storeFolder {
						t.Errorf("%s imports %s, which only %s may", file, p, storeFolder)
					}
				}
			}
			if strings.HasPrefix(p, service+"/") && top(file) != "service" {
				t.Errorf("%s imports %s: the module of the service is apart", file, p)
			}
			if top(file) == "service" && !strings.HasSuffix(file, "_test.go") && strings.HasPrefix(p, "encoding/json") {
				t.Errorf("%s imports %s: use internal/strictjson", file, p)
			}
		}
	})
	for _, d := range drivers {
		if !slices.Contains(found, d) {
			t.Errorf("nothing imports %s: the search is wrong", d)
		}
	}
}
