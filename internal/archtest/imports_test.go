// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"slices"
	"strings"
	"testing"
)

// order is the direction of imports: a package imports only from folders that stand
// before its own, or from its own.
var order = []string{"evidence", "pcr", "keys", "verify", "api", "client", "sealing", "internal", "agent", "cmd"}

// ground are rooms that import nothing of ours, or only each other: every package may import them.
var ground = []string{"internal/text", "internal/strictjson", "internal/stricttoml", "internal/unitname", "internal/tpmwire"}

// free are folders of tests, measurements and tools: they import what they like, and only
// tests import them.
var free = []string{"test", "bench", "tools"}

func top(folder string) string {
	t, _, _ := strings.Cut(folder, "/")
	return t
}

// testOnly reports whether folder is a package for tests alone, which may import "testing".
func testOnly(folder string) bool {
	return slices.Contains(free, top(folder)) ||
		top(folder) == "internal" && (strings.HasSuffix(folder, "test") || folder == "internal/vectors")
}

func TestImportDirection(t *testing.T) {
	for _, p := range packages(t) {
		from := p.folder()
		if from == "" || slices.Contains(free, top(from)) {
			continue
		}
		rank := slices.Index(order, top(from))
		if rank < 0 {
			t.Errorf("%s: folder %q has no place in the order of imports", from, top(from))
			continue
		}
		for _, imported := range p.Imports {
			to := folder(imported)
			switch {
			case to == "", slices.Contains(ground, to):
			case testOnly(to) && !testOnly(from):
				t.Errorf("%s imports %s, which is for tests", from, to)
			case top(to) == top(from):
			case slices.Index(order, top(to)) > rank || slices.Index(order, top(to)) < 0:
				t.Errorf("%s imports %s: only %s may be imported from there", from, to, strings.Join(order[:rank], ", "))
			}
		}
	}
}

// TestEvidenceIsPure holds the format to no input or output of its own.
func TestEvidenceIsPure(t *testing.T) {
	for _, p := range list(t, "0", "./evidence") {
		for _, imported := range p.Imports {
			if imported == "os" || imported == "io" || imported == "syscall" || top(imported) == "net" ||
				strings.HasPrefix(imported, "golang.org/x/sys") || imported == "log" || imported == "log/slog" {
				t.Errorf("evidence imports %s: the format does no input or output", imported)
			}
		}
	}
}

// TestClientImportsNoServer lets programs use the client without the agent behind it.
func TestClientImportsNoServer(t *testing.T) {
	for _, p := range list(t, "0", "-deps", "./client", "./api") {
		if f := p.folder(); top(f) == "agent" || top(f) == "internal" || top(f) == "verify" || p.ImportPath == "net/http/httptest" {
			t.Errorf("client reaches %s", p.ImportPath)
		}
	}
}

// TestProductionHoldsNoSimulator: case 82. What is not linked in cannot be switched on.
func TestProductionHoldsNoSimulator(t *testing.T) {
	for _, command := range []string{"./cmd/agentd", "./cmd/agentctl"} {
		deps := list(t, "0", "-deps", command)
		if len(deps) < 50 {
			t.Fatalf("%s has only %d dependencies: the list is broken", command, len(deps))
		}
		for _, p := range deps {
			path := strings.TrimPrefix(p.ImportPath, module+"/")
			for _, word := range []string{"testing", "simulator", "swtpm", "faketsm", "runtime/cgo", "internal/platform/soft", "internal/declared", "agentd-sim", "test/", "internal/vectors"} {
				if path == word || strings.Contains(path, word) {
					t.Errorf("%s holds %s", command, p.ImportPath)
				}
			}
		}
	}
}

// TestNobodyNeedsCgo: with cgo switched on, the standard library uses it where it can,
// but nothing that we chose may.
func TestNobodyNeedsCgo(t *testing.T) {
	for _, p := range list(t, "1", "-deps", "./cmd/...") {
		if !p.Standard && len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo in %v", p.ImportPath, p.CgoFiles)
		}
	}
}

// TestTestingStaysInTests keeps package testing, with its flags, out of code that ships.
func TestTestingStaysInTests(t *testing.T) {
	for _, p := range packages(t) {
		if testOnly(p.folder()) {
			continue
		}
		for _, imported := range p.Imports {
			if imported == "testing" || strings.HasPrefix(imported, "testing/") {
				t.Errorf("%s imports %s outside its tests", p.folder(), imported)
			}
		}
	}
}
