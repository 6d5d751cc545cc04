// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// forger is an attacker who writes the disk of a machine. It knows the files, and so the
// public recipients, and has no key of the machine, of the store or of a recovery.
type forger struct {
	t          *testing.T
	recipient  string // of the attacker; empty: it adds none
	ids        *store.Identities
	root       []byte             // that the attacker wants an app to derive from
	version    uint32             // of that root; 1 if zero
	format     int                // version of the blobs
	key        ed25519.PrivateKey // attacker's store key
	names      *sealing.StoreKey  // key that the blobs name; the attacker's own if nil
	slots      slotsOf            // of the machine
	otherChip  bool               // whether the header names another chip
	generation uint64             // of the manifest, if not that of before
	tpmSecret  []byte             // if set, the blobs open by slot tpm with this secret
	tpmName    []byte             // name of that secret
}

// slotsOf says which slots of the machine a forged blob has.
type slotsOf int

const (
	noise slotsOf = iota // those of before, with keys that no party has
	none                 // only recovery slots
	byTPM                // one that the TPM alone opens
	countSlots
)

func newForger(t *testing.T) *forger {
	recipient, ids := identity(t)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	return &forger{t: t, recipient: recipient, ids: ids, root: bytes.Repeat([]byte{0xee}, 32), format: sealing.Version, key: key}
}

// predicts returns what the app would derive from the attacker's root.
func (f *forger) predicts(c store.Caller, label string, version uint32) string {
	info := evidence.Preimage("agentd/seal/derive/1", binary.BigEndian.AppendUint32(nil, version),
		[]byte(c.App.Name), []byte(c.App.Unit), []byte(c.App.User), []byte(label), binary.BigEndian.AppendUint32(nil, 32))
	out, err := hkdf.Expand(sha256.New, f.root, string(info), 32)
	must(f.t, err)
	return string(out)
}

// whole replaces every root of an app, and the manifest, which lists only roots.
func (f *forger) whole(w *world) {
	f.t.Helper()
	m := &sealing.Manifest{}
	for name, content := range w.files.files {
		b, err := sealing.ParseBlob(content)
		if err != nil || b.Claimed.Kind != sealing.KindAppRoot {
			continue
		}
		w.files.files[name] = f.forge(b, f.payload())
		h := b.Claimed
		m.Entries = append(m.Entries, sealing.Entry{Key: h.Key(), ID: h.ID, Generation: h.Generation, Size: 38, Slot: sealing.SlotSNPTPM})
	}
	slices.SortFunc(m.Entries, func(a, b sealing.Entry) int { return a.Key.Compare(b.Key) })
	b, err := sealing.ParseBlob(w.files.files["manifest.sealed"])
	must(f.t, err)
	if f.generation > 0 {
		b.Claimed.Generation = f.generation
	}
	m.Number = b.Claimed.Generation
	w.files.files["manifest.sealed"] = f.forge(b, f.manifest(m))
}

// one replaces the root of one app and leaves the rest of the store.
func (f *forger) one(w *world, app string) {
	f.t.Helper()
	for name, content := range w.files.files {
		b, err := sealing.ParseBlob(content)
		if err == nil && b.Claimed.Kind == sealing.KindAppRoot && b.Claimed.App.Name == app {
			w.files.files[name] = f.forge(b, f.payload())
			return
		}
	}
	f.t.Fatalf("no root of app %s", app)
}

func (f *forger) payload() []byte {
	version := max(f.version, 1)
	return append(binary.BigEndian.AppendUint32([]byte{0, 1}, version), f.root...)
}

func (f *forger) manifest(m *sealing.Manifest) []byte {
	b := m.Encode([sealing.SeedSize]byte(f.key.Seed()))
	if f.format > 1 {
		return b
	}
	// Version 1 has neither seed nor marks; no entry is marked.
	out := b[sealing.SeedSize : sealing.SeedSize+28]
	rest := b[sealing.SeedSize+28:]
	for _, e := range m.Entries {
		n := 1 + 2 + len(e.App) + 2 + len(e.Name) + 16 + 8 + 4 + 1 + 8
		out = append(out, rest[:n]...)
		rest = rest[n+1:]
	}
	return append(out, rest...)
}

// forge makes a blob with another payload in the place of b.
func (f *forger) forge(b *sealing.Blob, payload []byte) []byte {
	f.t.Helper()
	h := b.Claimed
	recipients := h.Recipients()
	if f.recipient != "" {
		recipients = append(recipients, f.recipient)
	}
	slices.Sort(recipients)
	var wrapped [][]byte
	h.Slots = slices.DeleteFunc(slices.Clone(h.Slots), func(s sealing.Slot) bool { return s.Kind == sealing.SlotRecovery || f.slots != noise })
	for i := range h.Slots {
		rand.Read(h.Slots[i].Salt[:])
		rand.Read(h.Slots[i].Check[:])
		wrapped = append(wrapped, bytes.Repeat([]byte{7}, 60))
	}
	if f.slots != noise {
		h.Machine, h.TPMSecret = nil, nil
	} else if f.otherChip {
		m := *h.Machine
		m.ChipID[0] ^= 1
		h.Machine = &m
	}
	var slotKey []byte
	if f.slots == byTPM {
		h.TPMSecret = f.tpmName
		slot := sealing.Slot{Kind: sealing.SlotTPM}
		root, err := hkdf.Extract(sha256.New, evidence.Preimage("agentd/seal/roots/1", []byte("tpm"), nil, f.tpmSecret), nil)
		must(f.t, err)
		okm, err := hkdf.Expand(sha256.New, root, string(evidence.Preimage("agentd/seal/slot/1", []byte("tpm"), slot.Salt[:])), 48)
		must(f.t, err)
		slotKey = okm[:32]
		copy(slot.Check[:], okm[32:])
		h.Slots = append(h.Slots, slot)
	}
	for _, r := range recipients {
		h.Slots = append(h.Slots, sealing.Slot{Kind: sealing.SlotRecovery, Recipient: r})
	}
	h.LossAcknowledged = false
	out, err := sealing.New(h)
	must(f.t, err)
	out.Version = f.format
	digest := out.HeaderDigest()
	dataKey := bytes.Repeat([]byte{0xdd}, 32)
	if slotKey != nil {
		wrapped = append(wrapped, encryptGCM(f.t, slotKey, dataKey, digest[:]))
	}
	for _, text := range recipients {
		r, err := age.ParseX25519Recipient(text)
		must(f.t, err)
		var file bytes.Buffer
		a, err := age.Encrypt(&file, r)
		must(f.t, err)
		_, err = a.Write(append(digest[:], dataKey...))
		must(f.t, err)
		must(f.t, a.Close())
		wrapped = append(wrapped, file.Bytes())
	}
	out.Wrapped = wrapped
	out.Payload = encryptGCM(f.t, dataKey, payload, out.PayloadData())
	f.sign(out, dataKey)
	return out.Encode()
}

// sign signs with the attacker's key, whatever key the blob names.
func (f *forger) sign(b *sealing.Blob, dataKey []byte) {
	b.Sender.Key = sealing.StoreKey(f.key.Public().(ed25519.PublicKey))
	if f.names != nil {
		b.Sender.Key = *f.names
	}
	copy(b.Sender.Signature[:], ed25519.Sign(f.key, b.Message(b.Sender.Key)))
	check, err := hkdf.Expand(sha256.New, dataKey, string(b.SenderInfo()), 16)
	must(f.t, err)
	copy(b.Sender.Check[:], check)
}

func encryptGCM(t *testing.T, key, plain, data []byte) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	must(t, err)
	a, err := cipher.NewGCMWithRandomNonce(block)
	must(t, err)
	return a.Seal(nil, nil, plain, data)
}
