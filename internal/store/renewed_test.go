// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// What a recovery leaves of the TPM's part.

// tpmSecrets is what every blob rests on, by the names of the TPM's sealed objects,
// and the files of such objects.
func tpmSecrets(t *testing.T, w *world) (named, files map[string]bool) {
	t.Helper()
	named, files = map[string]bool{}, map[string]bool{}
	for file, content := range w.files.files {
		if strings.HasPrefix(file, "tpmsecret-") {
			files[file] = true
		}
		if !strings.HasSuffix(file, ".sealed") {
			continue
		}
		b, err := sealing.ParseBlob(content)
		must(t, err)
		named[store.SecretFile(b.Claimed.TPMSecret)] = true
	}
	return named, files
}

// TestRecoverRenewsTPMSecret: after a recovery without a manifest, and after one in a
// TPM that was cleared, no blob rests on the TPM secret of before. Its file stays.
func TestRecoverRenewsTPMSecret(t *testing.T) {
	recipient, ids := identity(t)
	for name, happens := range map[string]func(*world) *store.Identities{
		"manifest lost": func(w *world) *store.Identities { delete(w.files.files, "manifest.sealed"); return nil },
		"TPM cleared":   func(w *world) *store.Identities { w.tpm.clear(); return ids },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld()
			w.config = store.Config{Recipients: []string{recipient}}
			sealText(t, w.ready(t), billing, "token", "hunter2")
			before, _ := tpmSecrets(t, w)
			how := w.recovery(t, nil)
			if how.Identities = happens(w); how.Identities == nil {
				how.StoreKey = nil
			}
			_, err := w.open(t).Recover(t.Context(), how)
			must(t, err)
			after, files := tpmSecrets(t, w)
			if len(before) != 1 || len(after) != 1 {
				t.Fatalf("blobs rest on %d TPM secrets before and %d after, want 1", len(before), len(after))
			}
			for old := range before {
				if after[old] {
					t.Error("blobs rest on the TPM secret of before")
				}
				if !files[old] {
					t.Error("the file of the old TPM secret is gone")
				}
			}
			if got, err := unsealText(w.ready(t), billing, "token"); err != nil || got != "hunter2" {
				t.Errorf("afterwards: %q, %v", got, err)
			}
		})
	}
}

// TestRecoverRetiresCounter: case 71. The machine comes to another chip with its TPM and
// is recovered there. Then an attacker puts the old chip and the old files back: the
// counter that would have vouched for them is gone.
func TestRecoverRetiresCounter(t *testing.T) {
	recipient, ids := identity(t)
	w := newWorld()
	w.config = store.Config{Recipients: []string{recipient}}
	sealText(t, w.ready(t), billing, "token", "hunter2")
	old := w.files.clone()
	secretsBefore, _ := tpmSecrets(t, w)
	w.machine.setChip("chip two")
	s := w.open(t)
	_, err := s.Recover(t.Context(), w.recovery(t, ids))
	must(t, err)
	sealText(t, s, billing, "token", "newer")
	if len(w.tpm.counters) != 1 {
		t.Errorf("%d counters are left in the TPM, want 1", len(w.tpm.counters))
	}
	if after, _ := tpmSecrets(t, w); !maps.Equal(after, secretsBefore) {
		t.Error("the TPM's secret opens and was replaced all the same")
	}
	w.machine.setChip("chip one")
	w.files = old
	if err := state(t, w.open(t)).Err; !errors.Is(err, api.CodeCounterLost) {
		t.Errorf("old chip and old files: %v, want %s", err, api.CodeCounterLost)
	}
}
