// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestKeepAK: every old key has a file of its own, and one whose replacement was interrupted
// after it was kept is not kept twice.
func TestKeepAK(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	dir, err := durable.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for _, c := range []struct{ stored, name string }{
		{"first", "ak-replaced-1.json"},
		{"first", "ak-replaced-1.json"}, // interrupted
		{"second", "ak-replaced-2.json"},
		{"", "ak-replaced-3.json"}, // an empty file is kept too
		{"first", "ak-replaced-1.json"},
	} {
		name, err := keep(dir, []byte(c.stored))
		if err != nil || name != c.name {
			t.Errorf("%q: %q, %v, want %q", c.stored, name, err, c.name)
		}
		if b, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(b) != c.stored {
			t.Errorf("%s holds %q, %v, want %q", name, b, err, c.stored)
		}
	}
}
