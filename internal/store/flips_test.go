// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// fieldNames are the fields of a blob in their order, as docs/sealing.md names them.
var fieldNames = []string{"id", "kind", "app", "unit", "user", "name", "generation", "associated-data", "digests", "chip-id",
	"measurement", "guest-policy", "tcb", "vmpl", "tpm-secret", "loss-acknowledged", "slots", "wrapped-key", "wrapped-key", "payload", "signature"}

// TestFlips: case 72. Every single bit of a blob is flipped: the damage is named.
// Then one bit of each field with every checksum made right again, as an attacker would
// do: nothing opens. The table is the one that the agent's test writes for a
// bit of each field.
func TestFlips(t *testing.T) {
	w := newWorld()
	recipient, _ := identity(t)
	w.config.Recipients = []string{recipient}
	s := w.ready(t)
	must(t, s.RequireDigest(t.Context(), billing.App, billing.Digest))
	sealText(t, s, billing, "token", "hunter2")
	file := func(name string) string {
		for f, content := range w.files.files {
			if b, err := sealing.ParseBlob(content); err == nil && strings.HasPrefix(f, "blob-") && b.Claimed.Name == name {
				return f
			}
		}
		t.Fatalf("no blob %q", name)
		return ""
	}
	token := w.files.files[file("token")]
	list := fields(t, token)
	if len(list) != len(fieldNames) {
		t.Fatalf("%d fields, want %d", len(list), len(fieldNames))
	}
	flipEvery := func(start, end int) (codes, named map[string]bool) {
		codes, named = map[string]bool{}, map[string]bool{}
		for bit := start * 8; bit < end*8; bit++ {
			b := bytes.Clone(token)
			b[bit/8] ^= 1 << (bit % 8)
			_, err := sealing.ParseBlob(b)
			var e *sealing.Error
			if !errors.As(err, &e) {
				t.Fatalf("bit %d of byte %d: %v", bit%8, bit/8, err)
			}
			codes[string(e.Code)], named[e.Field] = true, true
		}
		return codes, named
	}
	var table strings.Builder
	table.WriteString("| field | any one bit flipped | flipped, with the checksums made right |\n|---|---|---|\n")
	line := func(name string, start, end int, forged string) {
		codes, named := flipEvery(start, end)
		if len(codes) != 1 || !codes["damaged"] || len(named) != 1 || !named[strings.Fields(name)[0]] {
			t.Errorf("%s: codes %v naming %v", name, codes, named)
		}
		fmt.Fprintf(&table, "| %s | `damaged` (%s) | %s |\n", name, strings.Fields(name)[0], forged)
	}
	line("prelude", 0, 24, "`unknown-version` (prelude)") // see TestUnknownVersion
	for i, f := range list {
		name, blob := fieldNames[i], "token"
		if name == "digests" {
			blob = "" // only the root of an app lists digests
		}
		if name == "wrapped-key" {
			name += []string{" (snp+tpm)", " (recovery)"}[i-17]
		}
		line(name, f.start, f.end, forge(t, w, file(blob), i))
	}
	checkDoc(t, "flips", table.String())
}

// forge flips the last bit of the value of a field and makes the checksums right.
func forge(t *testing.T, w *world, file string, i int) string {
	t.Helper()
	w = w.clone()
	var tags []uint16
	var values [][]byte
	for _, f := range fields(t, w.files.files[file]) {
		tags, values = append(tags, f.tag), append(values, bytes.Clone(f.value(w.files.files[file])))
	}
	values[i][len(values[i])-1] ^= 1
	w.files.files[file] = rebuild(tags, values)
	_, err := unsealText(w.ready(t), billing, "token")
	var e *sealing.Error
	if !errors.As(err, &e) {
		t.Fatalf("field %d forged: %v", i, err)
	}
	out := "`" + string(e.Code) + "`"
	if e.Field != "" {
		out += " (" + e.Field + ")"
	}
	return out
}

// TestRecoverySlotOfAnotherBlob: a wrapped key for the right identity, moved to another
// blob, is noticed before its data key is used.
func TestRecoverySlotOfAnotherBlob(t *testing.T) {
	w := newWorld()
	recipient, ids := identity(t)
	w.config = store.Config{Recipients: []string{recipient}}
	s := w.ready(t)
	sealText(t, s, billing, "one", "1")
	sealText(t, s, billing, "two", "2")
	blobs := map[string][]byte{}
	files := map[string]string{}
	for f, content := range w.files.files {
		if b, err := sealing.ParseBlob(content); err == nil && b.Claimed.Name != "" {
			blobs[b.Claimed.Name], files[b.Claimed.Name] = content, f
		}
	}
	theirs := fields(t, blobs["two"])[18].value(blobs["two"])
	var tags []uint16
	var values [][]byte
	for i, f := range fields(t, blobs["one"]) {
		v := f.value(blobs["one"])
		if i == 18 {
			v = theirs
		}
		tags, values = append(tags, f.tag), append(values, v)
	}
	w.files.files[files["one"]] = rebuild(tags, values)
	w.machine.setChip("another")
	how := w.recovery(t, ids)
	for _, c := range []struct {
		trust bool
		code  api.Code
		says  string
	}{{false, api.CodeBadSignature, "is not signed by it"}, {true, api.CodeAltered, "the identity is right"}} {
		if how.TrustWriter = c.trust; c.trust {
			how.StoreKey = nil
		}
		r, err := w.clone().open(t).Recover(t.Context(), how)
		must(t, err)
		if len(r.Kept) != 1 || r.Kept[0].Name != "one" || !errors.Is(r.Kept[0].Err, c.code) || !strings.Contains(r.Kept[0].Err.Error(), c.says) {
			t.Errorf("report %v: %v", r, r.Kept)
		}
	}
}

// TestUnknownVersion checks that a later format is not called damage.
func TestUnknownVersion(t *testing.T) {
	b := rebuild([]uint16{1}, [][]byte{{1}})
	later := change(t, b, func(func(uint16) *[]byte) {})
	later = bytes.Replace(later, []byte("sealed/2"), []byte("sealed/3"), 1)
	if _, err := sealing.ParseBlob(later); !errors.Is(err, api.CodeDamaged) {
		t.Errorf("checksum of the old version: %v", err)
	}
	later = withPrelude("agentd/sealed/3\n", later[24:])
	var e *sealing.Error
	if _, err := sealing.ParseBlob(later); !errors.As(err, &e) || e.Code != api.CodeUnknownVersion || e.Field != "prelude" {
		t.Errorf("got %v, want %s of the prelude", err, api.CodeUnknownVersion)
	}
}

// TestMalformed: checksums are right and the content is not what this program writes.
func TestMalformed(t *testing.T) {
	w := newWorld()
	recipient, _ := identity(t)
	w.config.Recipients = []string{recipient}
	s := w.ready(t)
	sealText(t, s, billing, "token", "hunter2")
	var token []byte
	for f, content := range w.files.files {
		if b, err := sealing.ParseBlob(content); err == nil && strings.HasPrefix(f, "blob-") && b.Claimed.Name == "token" {
			token = content
		}
	}
	one, two := evidence.Digest{1}, evidence.Digest{2}
	tests := []struct {
		name  string
		tag   uint16
		value func(old []byte) []byte
		field string
	}{
		{"id too short", 1, func(b []byte) []byte { return b[1:] }, "id"},
		{"unknown kind", 2, func([]byte) []byte { return []byte{9} }, "kind"},
		{"manifest with an app", 2, func([]byte) []byte { return []byte{3} }, "app"},
		{"app root with a name", 2, func([]byte) []byte { return []byte{1} }, "name"},
		{"no app", 3, func([]byte) []byte { return nil }, "app"},
		{"unit that does not print", 4, func([]byte) []byte { return []byte("a\nb") }, "unit"},
		{"user that is not UTF-8", 5, func([]byte) []byte { return []byte{0xff} }, "user"},
		{"name too long", 6, func([]byte) []byte { return make([]byte, 257) }, "name"},
		{"secret with digests", 9, func([]byte) []byte { return one[:] }, "digests"},
		{"digests not ascending", 9, func([]byte) []byte { return append(two[:], one[:]...) }, "digests"},
		{"half a digest", 9, func([]byte) []byte { return one[:16] }, "digests"},
		{"no chip, but a measurement", 10, func([]byte) []byte { return nil }, "chip-id"},
		{"no measurement", 11, func([]byte) []byte { return nil }, "measurement"},
		{"half a TCB", 13, func(b []byte) []byte { return b[:4] }, "tcb"},
		{"no TPM secret", 15, func([]byte) []byte { return nil }, "tpm-secret"},
		{"loss and recovery", 16, func([]byte) []byte { return []byte{1} }, "loss-acknowledged"},
		{"neither 0 nor 1", 16, func([]byte) []byte { return []byte{2} }, "loss-acknowledged"},
		{"no slots", 17, func([]byte) []byte { return []byte{0} }, "slots"},
		{"too many slots", 17, func(b []byte) []byte { b[0] = 200; return b }, "slots"},
		{"more slots than there are", 17, func(b []byte) []byte { b[0]++; return b }, "slots"},
		{"slot twice", 17, func(b []byte) []byte { return append([]byte{3}, append(b[1:50:50], b[1:]...)...) }, "slots"},
		{"unknown slot", 17, func(b []byte) []byte { b[1] = 77; return b }, "slots"},
		{"not a recipient", 17, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }, "slots"},
		{"bytes after the slots", 17, func(b []byte) []byte { return append(b, 0) }, "slots"},
		{"wrapped key too short", 18, func(b []byte) []byte { return b[1:] }, "wrapped-key"},
		{"generation that no store reaches", 7, func(b []byte) []byte { b[0] = 0x80; return b }, "generation"},
		{"signature too short", 20, func(b []byte) []byte { return b[1:] }, "signature"},
		{"payload shorter than its tag", 19, func(b []byte) []byte { return b[:27] }, "payload"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := change(t, token, func(value func(uint16) *[]byte) { *value(tt.tag) = tt.value(bytes.Clone(*value(tt.tag))) })
			_, err := sealing.ParseBlob(b)
			var e *sealing.Error
			if !errors.As(err, &e) || e.Code != api.CodeMalformedBlob || e.Field != tt.field {
				t.Errorf("got %v, want %s (%s)", err, api.CodeMalformedBlob, tt.field)
			}
		})
	}
	t.Run("fields in another order", func(t *testing.T) {
		b := rebuild([]uint16{2, 1}, [][]byte{{1}, make([]byte, 16)})
		if _, err := sealing.ParseBlob(b); !errors.Is(err, api.CodeMalformedBlob) {
			t.Errorf("got %v", err)
		}
	})
}
