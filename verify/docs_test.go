// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/checks.md anew")

const checksFile = "../docs/checks.md"

// checkTables is the tables of docs/checks.md, one for each word in front of the dot.
func checkTables() string {
	var b strings.Builder
	last := ""
	for _, d := range definitions {
		group, _, _ := strings.Cut(string(d.ID), ".")
		if group != last {
			fmt.Fprintf(&b, "\n### %s\n\n| id | exit code | what must hold | what it stops |\n|---|---|---|---|\n", group)
			last = group
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s |\n", d.ID, d.Class, d.Checks, d.Stops)
	}
	return b.String()
}

// TestChecksAreDocumented holds docs/checks.md to the list of checks, both ways.
func TestChecksAreDocumented(t *testing.T) {
	text, err := os.ReadFile(checksFile)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- checks: begin -->\n", "<!-- checks: end -->"
	head, rest, ok := strings.Cut(string(text), begin)
	tables, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q and %q", checksFile, begin, end)
	}
	if *update {
		if err := os.WriteFile(checksFile, []byte(head+begin+checkTables()+"\n"+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if tables != checkTables()+"\n" {
		t.Errorf("%s does not hold the checks of this package: run go test ./verify -run %s -update", checksFile, t.Name())
	}
}

func TestDefinitions(t *testing.T) {
	seen := make(map[CheckID]bool)
	for _, d := range Definitions() {
		if seen[d.ID] {
			t.Errorf("%s is defined twice", d.ID)
		}
		seen[d.ID] = true
		if d.Checks == "" || d.Stops == "" || strings.ContainsAny(d.Checks+d.Stops, "|\n") || strings.HasSuffix(d.Checks, ".") {
			t.Errorf("%s: what it checks and stops must be said, in a form that fits a table", d.ID)
		}
		if group, name, ok := strings.Cut(string(d.ID), "."); !ok || strings.ToLower(group+name) != group+name || strings.ContainsAny(name, "._ ") {
			t.Errorf("%q is not of the form part.what-it-checks", d.ID)
		}
		switch d.Class {
		case ClassBinding, ClassCollateral, ClassRevoked, ClassPolicy:
		default:
			t.Errorf("%s has class %d", d.ID, d.Class)
		}
		if isPolicy := strings.HasPrefix(string(d.ID), "policy."); isPolicy != (d.Class == ClassPolicy) {
			t.Errorf("%s has class %v", d.ID, d.Class)
		}
	}
}
