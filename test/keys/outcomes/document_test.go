// SPDX-License-Identifier: Apache-2.0

package outcomes

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/sealing.md anew")

// A table is one of docs/sealing.md. Its rows are made side by side.
type table struct {
	part string
	head []string

	mu   sync.Mutex
	rows []string // in the order of the document; empty if a row was not made
}

// newTable returns a table of a number of rows, which the end of the test compares as a whole, unless
// only some rows were asked for, or could be made.
func newTable(t *testing.T, part string, rows int, head ...string) *table {
	x := &table{part: part, head: head, rows: make([]string, rows)}
	t.Cleanup(func() { // after the rows, which are parallel
		x.mu.Lock()
		defer x.mu.Unlock()
		if !slices.Contains(x.rows, "") {
			checkDoc(t, part, strings.Join(slices.Concat(x.head, x.rows), "\n")+"\n")
		}
	})
	return x
}

// put compares one row with the document, so that it is compared too if other rows are not made.
func (x *table) put(t *testing.T, i int, row string) {
	t.Helper()
	x.mu.Lock()
	x.rows[i] = row
	x.mu.Unlock()
	if _, old, _, err := document(x.part); err != nil {
		t.Error(err)
	} else if !*update && !strings.Contains("\n"+old, "\n"+row+"\n") {
		t.Errorf("docs/sealing.md does not have this row; run go test ./test/keys/outcomes -update:\n%s", row)
	}
}

// sealingPage is the document.
var sealingPage = filepath.Join("..", "..", "..", "docs", "sealing.md")

// document returns a table of the document, and what is before and after it.
func document(part string) (before, table, after string, err error) {
	b, err := os.ReadFile(sealingPage)
	if err != nil {
		return "", "", "", err
	}
	begin, end := "<!-- "+part+": begin -->\n", "<!-- "+part+": end -->"
	i := strings.Index(string(b), begin) + len(begin)
	n := strings.Index(string(b[max(i, 0):]), end)
	if i < len(begin) || n < 0 {
		return "", "", "", fmt.Errorf("%s: the marks around %q are missing", sealingPage, part)
	}
	return string(b[:i]), string(b[i : i+n]), string(b[i+n:]), nil
}

// writing guards the document while one of its tables is written.
var writing sync.Mutex

// checkDoc holds a table of docs/sealing.md to what the agent does.
func checkDoc(t *testing.T, part, want string) {
	t.Helper()
	if t.Failed() {
		return
	}
	writing.Lock()
	defer writing.Unlock()
	before, old, after, err := document(part)
	switch {
	case err != nil:
		t.Error(err)
	case old == want:
	case !*update:
		t.Errorf("%s: %q is not what the agent does; run go test ./test/keys/outcomes -update", sealingPage, part)
	default:
		if err := os.WriteFile(sealingPage, []byte(before+want+after), 0o644); err != nil {
			t.Error(err)
		}
	}
}
