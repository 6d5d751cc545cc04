// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
)

func TestReadFirmwareLog(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, size int) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Repeat([]byte{1}, size), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, path string
		size       int
		fails      bool
	}{
		{"not configured", "", 0, false},
		{"not there", filepath.Join(dir, "none"), 0, false},
		{"a usual one", file("usual", 50_000), 50_000, false},
		{"as long as evidence takes", file("full", evidence.MaxFirmwareLog), evidence.MaxFirmwareLog, false},
		{"longer", file("long", evidence.MaxFirmwareLog+1), 0, true},
		{"a folder", dir, 0, true},
	} {
		b, err := ReadFirmwareLog(c.path)
		if len(b) != c.size || (err != nil) != c.fails {
			t.Errorf("%s: %d bytes, %v", c.name, len(b), err)
		}
	}
}
