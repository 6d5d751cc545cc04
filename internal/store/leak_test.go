// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/sealing"
)

// planted are key bytes that the test knows, in the forms in which they could show.
type planted map[string]string

func (p planted) add(what string, b []byte) {
	decimal := strings.Trim(fmt.Sprint(b[:8]), "[]")
	for i, form := range []string{string(b), fmt.Sprintf("%x", b[:12]), fmt.Sprintf("%X", b[:12]), base64.StdEncoding.EncodeToString(b[:12]),
		decimal, strings.ReplaceAll(decimal, " ", ", "), strings.ReplaceAll(decimal, " ", ","), fmt.Sprintf("%q", b)[1 : len(fmt.Sprintf("%q", b))-1]} {
		p[form] = fmt.Sprintf("%s (form %d)", what, i)
	}
}

func (p planted) look(t *testing.T, where, text string) {
	t.Helper()
	for form, what := range p {
		if strings.Contains(text, form) {
			t.Errorf("%s holds %s: %.300q", where, what, text)
		}
	}
}

// everything prints v in every way that a program prints things.
func everything(v any) string {
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb, v)
	}
	if out, err := json.Marshal(v); err == nil {
		b.Write(out)
	}
	if out, err := strictjson.Encode(v); err == nil {
		b.Write(out)
	}
	slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
	return b.String()
}

// TestPlantedKeysStayInside: case 75. Derived key, stored secret, derived secret and
// recovery identity are looked for in every error, every printed type, every file
// and the files' modes.
func TestPlantedKeysStayInside(t *testing.T) {
	p := planted{}
	snpKey := []byte("SNP-KEY-planted-0123456789abcdef")
	stored := "STORED-SECRET-planted-0123456789"
	p.add("the derived key", snpKey)
	p.add("the stored secret", []byte(stored))
	id, err := age.GenerateX25519Identity()
	must(t, err)
	p.add("the recovery identity", []byte(id.String()))
	ids, err := store.ParseIdentities([]byte(id.String()))
	must(t, err)

	w := newWorld()
	w.config.Recipients = []string{id.Recipient().String()}
	w.machine.fail = func(uint64) ([]byte, error) { return bytes.Clone(snpKey), nil }
	s := w.ready(t)
	sealText(t, s, billing, "token", stored)
	derived, err := deriveText(s, billing, "disk", 0)
	must(t, err)
	p.add("a derived secret", []byte(derived))
	for record := range w.tpm.counters {
		p.add("the record of the counter", []byte(record+record))
	}

	data, err := s.Unseal(t.Context(), billing, "token", []byte("ad"))
	must(t, err)
	contract, err := s.Contract(t.Context(), "billing", "token")
	must(t, err)
	items, err := s.List(t.Context())
	must(t, err)
	report, err := s.Rewrap(t.Context())
	must(t, err)
	var blob *sealing.Blob
	for name, content := range w.files.files {
		if strings.HasSuffix(name, ".sealed") {
			blob, err = sealing.ParseBlob(content)
			must(t, err)
			p.look(t, name, string(content))
			p.look(t, name, everything(blob)+everything(*blob)+everything(blob.Claimed)+blob.Claimed.Contract().Text())
		}
	}
	for _, v := range []any{s, struct{ S *store.Store }{s}, data, contract, items, report, state(t, s), ids, *ids, w.config} {
		p.look(t, fmt.Sprintf("%T", v), everything(v))
	}
	p.look(t, "the text of the contract", contract.Text())

	// Errors of all kinds.
	wrong := ledger
	wrong.App.Name = "billing"
	big, err := secret.Take([]byte(strings.Repeat(stored, 3000)))
	must(t, err)
	_, badIdentity := store.ParseIdentities([]byte(id.String() + "x"))
	_, otherIDs := identity(t)
	errs := []error{
		badIdentity,
		s.Seal(t.Context(), billing, "token", big, nil),
		s.Seal(t.Context(), wrong, "token", data, nil),
		func() error { _, err := unsealText(s, wrong, "token"); return err }(),
		func() error { _, err := s.Unseal(t.Context(), billing, "token", []byte("other")); return err }(),
	}
	for _, harm := range []func(*world){
		func(w *world) { w.machine.setChip("two"); w.machine.fail = nil },
		func(w *world) { w.machine.fail = nil },
		func(w *world) { w.tpm.clear() },
		func(w *world) {
			w.machine.fail = func(uint64) ([]byte, error) { return snpKey[:31:31], errors.New("status") }
		},
		func(w *world) { w.machine.fail = func(uint64) ([]byte, error) { return bytes.Clone(snpKey[:31]), nil } },
		func(w *world) { w.setFault(&fault{at: 0}) },
	} {
		c := w.clone()
		harm(c)
		s := c.open(t)
		errs = append(errs, state(t, s).Err, trySeal(s, billing, "token", stored))
		_, err := s.Recover(t.Context(), c.recovery(t, otherIDs))
		errs = append(errs, err)
	}
	n := 0
	for _, err := range errs {
		if err != nil {
			n++
			p.look(t, "an error", everything(err)+err.Error())
		}
	}
	if n < 15 {
		t.Errorf("only %d errors: the test sees too little", n)
	}
	p.look(t, "the environment", strings.Join(append(os.Environ(), os.Args...), "\n"))
	hit := false
	for form := range p {
		hit = hit || strings.Contains(everything(struct{ B []byte }{[]byte(stored)}), form)
	}
	if !hit {
		t.Error("the test sees nothing")
	}
}

// TestFilesAreClosedToOthers: case 75, files.
func TestFilesAreClosedToOthers(t *testing.T) {
	b := newBed(t)
	sealText(t, b.open(), billing, "token", "hunter2")
	n := 0
	must(t, filepath.WalkDir(b.path, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		i, err := d.Info()
		if err == nil && i.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", d.Name(), i.Mode())
		}
		n++
		return err
	}))
	if n < 5 {
		t.Errorf("only %d files", n)
	}
}
