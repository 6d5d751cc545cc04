// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/internal/swtpm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/sealing"
)

// Names of keys that are looked for.
const (
	derivedKey = "the key that the firmware derives"
	tpmSecret  = "the secret in the TPM"
	root       = "the root of slots"
	slotKey    = "the key of the slot of the application's root"
	dataKey    = "the data key of the application's root"
	appRoot    = "the application's root"
	storeKey   = "the private half of the store key"

	storedSecret  = "the secret that is stored"
	derivedSecret = "the secret that is derived"
)

// rootKeys computes, from copies of what the machine keeps on disk and with nothing but
// what docs/sealing.md says, the keys that its agent holds: the test knows them
// without being told.
func (a *agent) rootKeys(t *testing.T) map[string][]byte {
	t.Helper()
	dir := t.TempDir()
	for _, sub := range []string{"platform", "tpm"} {
		must(t, os.CopyFS(filepath.Join(dir, sub), os.DirFS(filepath.Join(a.Dir, sub))))
	}
	must(t, os.Chmod(filepath.Join(dir, "tpm"), 0o700))

	blob, raw := a.appRootBlob(t)
	slot := blob.Claimed.Slots[0]
	if slot.Kind != sealing.SlotSNPTPM {
		t.Fatalf("the application's root lies in slot %v", slot.Kind)
	}
	known := map[string][]byte{
		derivedKey: firmwareKey(t, filepath.Join(dir, "platform"), blob.Claimed.Machine.TCB),
		tpmSecret:  unsealed(t, filepath.Join(dir, "tpm"), a.tpmRecord(t)),
	}
	var err error
	known[root], err = hkdf.Extract(sha256.New, evidence.Preimage("agentd/seal/roots/1", []byte("snp+tpm"), known[derivedKey], known[tpmSecret]), nil)
	must(t, err)
	okm, err := hkdf.Expand(sha256.New, known[root], string(evidence.Preimage("agentd/seal/slot/1", []byte("snp+tpm"), slot.Salt[:])), 48)
	must(t, err)
	if !bytes.Equal(okm[32:], slot.Check[:]) {
		t.Fatal("the keys that were computed are not those of the machine")
	}
	known[slotKey] = okm[:32]
	f := fieldsOf(t, raw)
	header := evidence.Sum256("agentd/seal/header/2", raw[24:f.header])
	known[dataKey] = open(t, known[slotKey], f.wrapped[0], header[:])
	data := evidence.Sum256("agentd/seal/payload/1", append([][]byte{header[:]}, f.wrapped...)...)
	known[appRoot] = open(t, known[dataKey], f.payload, data[:])[6:]
	known[storeKey] = a.storeKey(t, known[root])
	for name, k := range known {
		if len(k) != 32 {
			t.Fatalf("%s has %d bytes", name, len(k))
		}
	}
	return known
}

// storeKey opens the manifest, which begins with the private half of the store key.
func (a *agent) storeKey(t *testing.T, root []byte) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(a.Dir, "state", "sealed", "manifest.sealed"))
	must(t, err)
	blob, err := sealing.ParseBlob(raw)
	must(t, err)
	salt := blob.Claimed.Slots[0].Salt
	okm, err := hkdf.Expand(sha256.New, root, string(evidence.Preimage("agentd/seal/slot/1", []byte("snp+tpm"), salt[:])), 48)
	must(t, err)
	f := fieldsOf(t, raw)
	header := evidence.Sum256("agentd/seal/header/2", raw[24:f.header])
	data := evidence.Sum256("agentd/seal/payload/1", append([][]byte{header[:]}, f.wrapped...)...)
	seed := open(t, open(t, okm[:32], f.wrapped[0], header[:]), f.payload, data[:])[:32]
	if !bytes.Equal(ed25519.NewKeyFromSeed(seed)[32:], blob.Sender.Key[:]) {
		t.Fatal("the manifest contains another store key than it names")
	}
	return seed
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// appRootBlob is the newest sealed root of the one application.
func (a *agent) appRootBlob(t *testing.T) (newest *sealing.Blob, raw []byte) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(a.Dir, "state", "sealed", "blob-*"))
	must(t, err)
	for _, name := range names {
		b, err := os.ReadFile(name)
		must(t, err)
		blob, err := sealing.ParseBlob(b)
		must(t, err)
		if blob.Claimed.Kind == sealing.KindAppRoot && (newest == nil || blob.Claimed.Generation > newest.Claimed.Generation) {
			newest, raw = blob, b
		}
	}
	if newest == nil {
		t.Fatalf("no application's root among %d blobs", len(names))
	}
	return newest, raw
}

func (a *agent) tpmRecord(t *testing.T) []byte {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(a.Dir, "state", "sealed", "tpmsecret-*"))
	must(t, err)
	if len(names) != 1 {
		t.Fatalf("%d records of secrets in the TPM", len(names))
	}
	b, err := os.ReadFile(names[0])
	must(t, err)
	return b
}

// firmwareKey asks a second firmware of the same chip.
func firmwareKey(t *testing.T, dir string, tcb sealing.TCB) []byte {
	t.Helper()
	p, err := soft.New(soft.Options{Directory: dir})
	must(t, err)
	defer p.Close()
	k, err := p.DeriveKey(t.Context(), tcb)
	must(t, err)
	var out []byte
	must(t, k.Use(func(b []byte) error { out = bytes.Clone(b); return nil }))
	return out
}

// unsealed asks a second TPM with the same state.
func unsealed(t *testing.T, dir string, record []byte) (out []byte) {
	t.Helper()
	child, err := swtpm.Start(swtpm.Options{Dir: dir})
	must(t, err)
	device := tpm.New(child, tpm.Options{})
	defer device.Close()
	s, err := (&tpmroot.TPM{Device: device}).Unseal(t.Context(), record)
	must(t, err)
	must(t, s.Use(func(b []byte) error { out = bytes.Clone(b); return nil }))
	return out
}

// blobFields is the places of the parts of a blob (docs/sealing.md, section 3).
type blobFields struct {
	header  int // end of field 17, the last of the header
	wrapped [][]byte
	payload []byte
}

func fieldsOf(t *testing.T, raw []byte) (f blobFields) {
	t.Helper()
	for at := 24; at < len(raw); {
		tag, size := binary.BigEndian.Uint16(raw[at:]), int(binary.BigEndian.Uint32(raw[at+2:]))
		value := raw[at+6 : at+6+size]
		at += 6 + size + 4
		switch tag {
		case 17:
			f.header = at
		case 18:
			f.wrapped = append(f.wrapped, value)
		case 19:
			f.payload = value
		}
	}
	return f
}

func open(t *testing.T, key, sealed, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	out, err := gcm.Open(nil, sealed[:12], sealed[12:], data)
	must(t, err)
	return out
}
