// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// agentctlOnly are rooms of the map in docs/architecture.md that say so.
var agentctlOnly = regexp.MustCompile("(?m)^\\| `([a-z/]+)` \\|.*for `agentctl` only")

// TestAgentctlOnly checks that neither the agent, nor a verifier or a client, links what the map says
// is for agentctl alone: it reads files that attackers write, or asks the network.
func TestAgentctlOnly(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root(t), "docs/architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := agentctlOnly.FindAllStringSubmatch(string(b), -1)
	if len(found) < 5 {
		t.Fatalf("found only %d rooms", len(found))
	}
	for _, of := range []string{"./cmd/agentd", "./verify", "./client"} {
		for _, p := range list(t, "0", "-deps", of) {
			for _, m := range found {
				if p.ImportPath == module+"/"+m[1] {
					t.Errorf("%s links %s", of, m[1])
				}
			}
		}
	}
}

// TestProductionLinksNoSimulator checks that the commands of a package link no simulator
// (case 82): what is not linked cannot be switched on.
func TestProductionLinksNoSimulator(t *testing.T) {
	for _, command := range []string{"./cmd/agentd", "./cmd/agentctl"} {
		deps := list(t, "0", "-deps", command)
		if len(deps) < 50 {
			t.Fatalf("%s has only %d dependencies: go list is used wrongly", command, len(deps))
		}
		for _, p := range deps {
			path := strings.TrimPrefix(p.ImportPath, module+"/")
			for _, word := range []string{"testing", "simulator", "swtpm", "faketsm", "runtime/cgo", "internal/platform/soft", "internal/declared", "agentd-sim", "test/", "internal/vectors"} {
				if path == word || strings.Contains(path, word) {
					t.Errorf("%s links %s", command, p.ImportPath)
				}
			}
		}
	}
}

// TestNothingNeedsCgo checks that no package uses cgo when it is switched on, apart from
// the standard library.
func TestNothingNeedsCgo(t *testing.T) {
	for _, p := range list(t, "1", "-deps", "./cmd/...") {
		if !p.Standard && len(p.CgoFiles) > 0 {
			t.Errorf("%s uses cgo in %v", p.ImportPath, p.CgoFiles)
		}
	}
}

// TestTestingStaysInTests checks that package testing, with its flags, is only in tests.
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
