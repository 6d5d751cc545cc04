// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// otherWords are the codes that are also another word in a file: a flag, a member, a fault
// of the simulator, a change that the store foresees.
var otherWords = map[string][]string{
	"cmd/agentctl/collateral.go":     {"timeout"},
	"cmd/agentctl/root.go":           {"interrupted"},
	"cmd/agentd-conformance/main.go": {"timeout"},
	"cmd/agentd-sim/simulation.go":   {"busy"},
	"attestedtls/codes.go":           {"busy", "timeout", "truncated"}, // of another protocol
	"cmd/agentctl/tunnelsettings.go": {"timeout"},
	"internal/tunnel/settings.go":    {"timeout"},
	"sealing/contract.go":            {"other-chip", "other-measurement", "other-vmpl", "tpm-cleared", "other-tpm"},
}

// TestCodeIsWrittenOnce: outside tests, the text of a code of the API is in api/codes.go
// alone. Every other file uses the constant, so that a code has one place.
func TestCodeIsWrittenOnce(t *testing.T) {
	var codes []string
	used := map[string][]string{}
	declaration := regexp.MustCompile(`(?m)^\tCode\w+ +Code = "([a-z-]+)"$`)
	files(t, func(path string, content []byte) {
		if path == "api/codes.go" {
			for _, m := range declaration.FindAllSubmatch(content, -1) {
				codes = append(codes, string(m[1]))
			}
		}
	})
	if len(codes) < 70 {
		t.Fatalf("only %d codes found in api/codes.go: the reading is broken", len(codes))
	}
	sources(t, func(path string, set *token.FileSet, file *ast.File) {
		if strings.HasSuffix(path, "_test.go") || path == "api/codes.go" {
			return
		}
		ast.Inspect(file, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			word, err := strconv.Unquote(lit.Value)
			if err != nil || !slices.Contains(codes, word) {
				return true
			}
			if used[path] = append(used[path], word); !slices.Contains(otherWords[path], word) {
				t.Errorf("%s: write the constant of package api for %q", set.Position(lit.Pos()), word)
			}
			return true
		})
	})
	for path, words := range otherWords {
		for _, word := range words {
			if !slices.Contains(used[path], word) {
				t.Errorf("%s does not have the word %q: take it off the list of other words", path, word)
			}
		}
	}
}
