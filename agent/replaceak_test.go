// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// TestKeepAK: every old key has a file of its own, and one whose replacement broke off
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
		{"first", "ak-replaced-1.json"}, // it broke off
		{"second", "ak-replaced-2.json"},
		{"", "ak-replaced-3.json"}, // an empty file is kept too
		{"first", "ak-replaced-1.json"},
	} {
		name, err := keepAK(dir, []byte(c.stored))
		if err != nil || name != c.name {
			t.Errorf("%q: %q, %v, want %q", c.stored, name, err, c.name)
		}
		if b, err := os.ReadFile(filepath.Join(path, name)); err != nil || string(b) != c.stored {
			t.Errorf("%s holds %q, %v, want %q", name, b, err, c.stored)
		}
	}
}

// TestAKStatus: a stored key that does not load has a code and a sentence of its own,
// for the TPM and for keys, and is not called a TPM that does not work.
func TestAKStatus(t *testing.T) {
	d, err := newDaemon(Options{})
	if err != nil {
		t.Fatal(err)
	}
	d.trial = errAK
	s := d.Status()
	if s.TPM.State != api.StateDegraded || s.TPM.Code != api.CodeAKUnusable || s.TPM.Reason != errAK.Error() || s.Keys.Code != api.CodeAKUnusable || s.Keys.Reason == "" {
		t.Errorf("%+v", s)
	}
	d.trial = errNoTPM
	if s := d.Status(); s.TPM.Code != "" || s.Keys.Code != "" {
		t.Errorf("%+v", s)
	}
	// Without state folder and TPM there is nothing to replace, and the reason is told.
	close(d.tried)
	if _, err := d.ReplaceAK(t.Context()); !errors.Is(err, errNotUp) || !errors.Is(err, errNoTPM) {
		t.Errorf("replaced: %v", err)
	}
}
