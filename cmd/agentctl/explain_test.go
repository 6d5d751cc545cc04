// SPDX-License-Identifier: Apache-2.0

package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the words of the policies in verify/testdata/explain anew")

// TestExplainInWords compares what the command says of ten policies, from strict to loose,
// with files that people read when they change a sentence.
func TestExplainInWords(t *testing.T) {
	policies, err := filepath.Glob("../../verify/testdata/explain/*.toml")
	if err != nil || len(policies) != 10 {
		t.Fatalf("%d policies, %v; want 10", len(policies), err)
	}
	for _, name := range policies {
		code, got, stderr := agentctl(t, "policy", "explain", name)
		if code != exitOK {
			t.Fatalf("%s: exit code %d\n%s", name, code, stderr)
		}
		golden := strings.TrimSuffix(name, ".toml") + ".txt"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil || string(want) != got {
			t.Errorf("%s is explained otherwise than in %s: read the difference, then run go test ./cmd/agentctl -run %s -update\n%s", name, golden, t.Name(), got)
		}
	}
}
