// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
)

var update = flag.Bool("update", false, "write the tables of docs/checks.md and docs/policy.md anew")

const (
	checksFile = "../docs/checks.md"
	policyFile = "../docs/policy.md"
)

// between compares a part of a file, between two marks, with what was generated. With
// -update it writes the part.
func between(t *testing.T, file, begin, end, want string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s does not contain %q and %q", file, begin, end)
	}
	if *update {
		if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if got != want {
		t.Errorf("%s does not contain what this package has: run go test ./verify -run %s -update", file, t.Name())
	}
}

// checkTables is the tables of docs/checks.md, one for each word in front of the dot.
func checkTables() string {
	var b strings.Builder
	last := ""
	for _, d := range definitions {
		group, _, _ := strings.Cut(string(d.ID), ".")
		if group != last {
			fmt.Fprintf(&b, "\n### %s\n\n| id | exit code | about | what must be true | what it stops |\n|---|---|---|---|---|\n", group)
			last = group
		}
		fmt.Fprintf(&b, "| `%s` | %d | %s | %s | %s |\n", d.ID, d.Class, d.Ground, d.Checks, d.Stops)
	}
	return b.String()
}

// TestChecksAreDocumented compares docs/checks.md with the list of checks.
func TestChecksAreDocumented(t *testing.T) {
	between(t, checksFile, "<!-- checks: begin -->\n", "<!-- checks: end -->", checkTables()+"\n")
}

// TestPolicyTables compares the tables of docs/policy.md with the keys of a policy: one
// for the root keys, and one for each table of a policy.
func TestPolicyTables(t *testing.T) {
	const begin, end = "<!-- keys of %s: begin, written by go test ./verify -run TestPolicyTables -update -->\n", "<!-- keys of %s: end -->"
	tables := make(map[string]string)
	for _, k := range keysOf() {
		table, _, ok := strings.Cut(k.Name, ".")
		if !ok {
			table = "root"
		}
		if tables[table] == "" {
			tables[table] = "| key | type | default | what it does |\n|---|---|---|---|\n"
		}
		value := k.Default
		if strings.Trim(value, "abcdefghijklmnopqrstuvwxyz") != "" || value == "true" || value == "false" {
			value = "`" + value + "`"
		}
		if k.Type == "" || k.Doc == "" || k.Default == "" || strings.ContainsAny(k.Doc, "|\n") {
			t.Errorf("%s: type, default and what it does must be said, in a form that fits a table", k.Name)
		}
		tables[table] += fmt.Sprintf("| `%s` | %s | %s | %s |\n", k.Name, k.Type, value, k.Doc)
	}
	for table, text := range tables {
		between(t, policyFile, fmt.Sprintf(begin, table), fmt.Sprintf(end, table), text)
	}
}

// TestChecksSayWhoSpeaks: a check about the word of another party says what that party
// says, and not what is so.
func TestChecksSayWhoSpeaks(t *testing.T) {
	speakers := map[check.Ground][]string{
		check.OnBinding: {"the binding"}, check.OnQuote: {"quote", "anchor", "the attestation key says of itself"},
		check.OnHistory: {"the log", "this log"}, check.OnAgent: {"the statement", "the agent key"},
	}
	for _, d := range definitions {
		words, ok := speakers[d.Ground]
		if ok && !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(d.Checks, w) }) {
			t.Errorf("%s passes by the word of others, and %q does not say whose: want one of %q in it", d.ID, d.Checks, words)
		}
		if named := strings.Contains(string(d.Ground), "verifier") || d.Ground == check.OnProcessor; named == ok {
			t.Errorf("%s is about %q: say in this test who speaks of that", d.ID, d.Ground)
		}
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
		if !slices.Contains(check.Grounds(), d.Ground) {
			t.Errorf("%s has the ground %q: on whose word it can pass must be said", d.ID, d.Ground)
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

// TestLogStateIsDocumented: the row of docs/evidence.md about what a verifier keeps names each member,
// so that a reader of the corpus meets none that is unknown to it.
func TestLogStateIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/evidence.md")
	if err != nil {
		t.Fatal(err)
	}
	_, row, ok := strings.Cut(string(text), "\n| `log-state` |")
	row, _, ok2 := strings.Cut(row, "\n")
	if !ok || !ok2 {
		t.Fatal("there is no row of log-state")
	}
	for _, of := range []reflect.Type{reflect.TypeFor[replay.State](), reflect.TypeFor[replay.IMAState]()} {
		for f := range of.Fields() {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			if name == "" || !strings.Contains(row, "`"+name+"`") {
				t.Errorf("%s: the row does not name the member %q", of, name)
			}
		}
	}
}
