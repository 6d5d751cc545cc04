// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/cvm-agentd/agentd"

// listed is a package as `go list -json` describes it: the members that are used here.
type listed struct {
	ImportPath   string
	Name         string
	Dir          string
	Doc          string
	Standard     bool
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	CgoFiles     []string
	Imports      []string
}

// folder returns the path inside the module, "" for the root and for packages of other modules.
func (p listed) folder() string { return folder(p.ImportPath) }

func folder(path string) string {
	f, ok := strings.CutPrefix(path, module+"/")
	if !ok {
		return ""
	}
	return f
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatalf("root of the module: %v", err)
	}
	return dir
}

// lists has what each run of list returned.
var lists = map[string][]listed{}

// list runs `go list -json` with CGO_ENABLED set to cgo, once for the same arguments.
func list(t *testing.T, cgo string, args ...string) []listed {
	t.Helper()
	key := cgo + " " + strings.Join(args, " ")
	if lists[key] == nil {
		lists[key] = runList(t, cgo, args...)
	}
	return lists[key]
}

func runList(t *testing.T, cgo string, args ...string) []listed {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json"}, args...)...)
	cmd.Dir = root(t)
	cmd.Env = append(os.Environ(), "CGO_ENABLED="+cgo)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	var all []listed
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// packages returns all packages of this module.
func packages(t *testing.T) []listed {
	t.Helper()
	all := list(t, "0", "./...")
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages of this module", len(all))
	}
	return all
}
