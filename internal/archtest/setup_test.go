// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// everywhere are programs that each Debian has, or that building this module needs anyway.
var everywhere = map[string]bool{"make": true, "go": true, "sh": true, "bash": true, "git": true, "ldd": true}

// TestSetUpInstallsWhatTestsNeed: scripts/setup.sh installs each program without which a
// test skips. Otherwise a fresh machine passes all tests that it does not run.
func TestSetUpInstallsWhatTestsNeed(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "scripts/setup.sh"))
	if err != nil {
		t.Fatal(err)
	}
	list := regexp.MustCompile(`(?m)^test\) wanted="(.*)" ;;$`).FindSubmatch(b)
	unpacked := regexp.MustCompile(`(?m)^case \$1 in test\) unpacked="(.*)" ;; esac$`).FindSubmatch(b)
	if list == nil || unpacked == nil {
		t.Fatal("scripts/setup.sh has no lists for test")
	}
	installed := map[string]bool{}
	for _, w := range strings.Fields(string(list[1]) + " " + string(unpacked[1])) {
		program, packageName, _ := strings.Cut(w, ":")
		installed[program] = true
		installed[packageName] = true // the package of other programs, too
	}
	wanted := map[string][]string{}
	sources(t, func(file string, _ *token.FileSet, f *ast.File) {
		if !strings.HasSuffix(file, "_test.go") || top(file) == "bench" {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			if s, ok := call.Fun.(*ast.SelectorExpr); ok && s.Sel.Name == "LookPath" {
				if x, ok := call.Args[0].(*ast.BasicLit); ok {
					if name, err := strconv.Unquote(x.Value); err == nil {
						wanted[name] = append(wanted[name], file)
					}
				}
			}
			return true
		})
	})
	condition := regexp.MustCompile(`\[!?exec:([^\]]+)\]`)
	err = filepath.WalkDir(filepath.Join(root(t), "test"), func(file string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(file, ".txtar") {
			return err
		}
		b, err := os.ReadFile(file)
		for _, m := range condition.FindAllSubmatch(b, -1) {
			wanted[string(m[1])] = append(wanted[string(m[1])], file)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(wanted) < 6 {
		t.Errorf("tests look for %d programs: the search is wrong", len(wanted))
	}
	for name, files := range wanted {
		if !everywhere[name] && !installed[name] && !(strings.HasPrefix(name, "tpm2_") && installed["tpm2-tools"]) {
			t.Errorf("%v look for %s, which scripts/setup.sh does not install", files, name)
		}
	}
}
