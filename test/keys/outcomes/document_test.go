// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/sealing.md anew")

// checkDoc holds a table of docs/sealing.md to what the agent does.
func checkDoc(t *testing.T, part, want string) {
	t.Helper()
	if t.Failed() {
		return
	}
	path := filepath.Join("..", "..", "..", "docs", "sealing.md")
	b, err := os.ReadFile(path)
	must(t, err)
	begin, end := "<!-- "+part+": begin -->\n", "<!-- "+part+": end -->"
	before, rest, ok := strings.Cut(string(b), begin)
	old, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s: the marks around %q are missing", path, part)
	}
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("%s: %q is not what the agent does; run go test ./test/keys/outcomes -update", path, part)
	}
	must(t, os.WriteFile(path, []byte(before+begin+want+end+after), 0o644))
}
