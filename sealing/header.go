// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// ID names one sealed blob: 16 random bytes, new for each blob that is written.
type ID [idSize]byte

// String returns the id in hexadecimal.
func (i ID) String() string { return hex.EncodeToString(i[:]) }

// Kind says what a blob contains.
type Kind uint8

// Kinds of blobs.
const (
	KindAppRoot  Kind = 1 // the versions of one app's root secret
	KindSecret   Kind = 2 // secret that an app stored
	KindManifest Kind = 3 // the list of all blobs and their generations
)

var kindNames = map[Kind]string{KindAppRoot: "app root", KindSecret: "secret", KindManifest: "manifest"}

func (k Kind) String() string {
	if s, ok := kindNames[k]; ok {
		return s
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// App is a systemd system unit and its user under the name of its declaration.
type App struct {
	Name string // of the declaration, without ".toml"
	Unit string // systemd system unit
	User string // as the declaration writes it
}

// Header is what a blob says about itself. In a [Blob] that was only parsed it is a claim.
// Opening the blob authenticates it.
type Header struct {
	ID               ID
	Kind             Kind
	App              App               // empty for the manifest
	Name             string            // of the secret; empty for other kinds
	Generation       uint64            // number of the manifest that first listed this blob
	AssociatedData   AssociatedDigest  // secrets only, zero for other kinds
	Digests          []evidence.Digest // authorised digests of the app, ascending; empty: none required; app roots only
	Machine          *Reading          // machine at sealing; nil if no slot rests on SNP
	TPMSecret        []byte            // name of the TPM's sealed object, 34 bytes; nil if no slot rests on a TPM
	LossAcknowledged bool              // whether root accepted that there is no recovery
	Slots            []Slot            // ascending by kind, then recipient
}

// Recipients returns the recovery recipients of the blob.
func (h *Header) Recipients() []string {
	var out []string
	for _, s := range h.Slots {
		if s.Kind == SlotRecovery {
			out = append(out, s.Recipient)
		}
	}
	return out
}

// Weakest returns the weakest slot of the machine. An attacker who has what that slot needs
// opens the blob, however strong the others are. A recovery slot counts only if it is the
// only one: it rests on no machine, and a [Contract] names it separately.
func (h *Header) Weakest() (w SlotKind) {
	for _, s := range h.Slots {
		if s.Kind != SlotRecovery {
			w = max(w, s.Kind)
		}
	}
	if w == 0 && len(h.Slots) > 0 {
		return SlotRecovery
	}
	return w
}

// encode returns the fields of the header as they are in a blob.
func (h *Header) encode() []byte {
	var chip, measurement, policy, tcb, vmpl []byte
	if m := h.Machine; m != nil {
		chip, measurement, tcb = m.ChipID[:], m.Measurement[:], m.TCB[:]
		policy = binary.BigEndian.AppendUint64(nil, m.GuestPolicy)
		vmpl = binary.BigEndian.AppendUint32(nil, m.VMPL)
	}
	var digests []byte
	for _, d := range h.Digests {
		digests = append(digests, d[:]...)
	}
	acknowledged := []byte{0}
	if h.LossAcknowledged {
		acknowledged[0] = 1
	}
	b := appendField(nil, tagID, h.ID[:])
	b = appendField(b, tagKind, []byte{byte(h.Kind)})
	b = appendField(b, tagApp, []byte(h.App.Name))
	b = appendField(b, tagUnit, []byte(h.App.Unit))
	b = appendField(b, tagUser, []byte(h.App.User))
	b = appendField(b, tagName, []byte(h.Name))
	b = appendField(b, tagGeneration, binary.BigEndian.AppendUint64(nil, h.Generation))
	b = appendField(b, tagAssociatedData, h.AssociatedData.bytes())
	b = appendField(b, tagDigests, digests)
	b = appendField(b, tagChipID, chip)
	b = appendField(b, tagMeasurement, measurement)
	b = appendField(b, tagGuestPolicy, policy)
	b = appendField(b, tagTCB, tcb)
	b = appendField(b, tagVMPL, vmpl)
	b = appendField(b, tagTPMSecret, h.TPMSecret)
	b = appendField(b, tagLossAcknowledged, acknowledged)
	return appendField(b, tagSlots, encodeSlots(h.Slots))
}

// readHeader reads what encode returns, and refuses everything else.
func readHeader(r *fieldReader) Header {
	var h Header
	copy(h.ID[:], r.next(tagID, idSize, idSize))
	h.Kind = Kind(number(r.next(tagKind, 1, 1)))
	h.App.Name = string(r.next(tagApp, 0, MaxName))
	h.App.Unit = string(r.next(tagUnit, 0, MaxName))
	h.App.User = string(r.next(tagUser, 0, MaxName))
	h.Name = string(r.next(tagName, 0, MaxName))
	h.Generation = number(r.next(tagGeneration, 8, 8))
	if v := r.next(tagAssociatedData, associatedSize, associatedSize); v != nil {
		copy(h.AssociatedData.Salt[:], v)
		copy(h.AssociatedData.Digest[:], v[len(h.AssociatedData.Salt):])
	}
	h.Digests = readDigests(r)
	h.Machine = readMachine(r)
	h.TPMSecret = bytes.Clone(r.optional(tagTPMSecret, TPMNameSize))
	acknowledged := number(r.next(tagLossAcknowledged, 1, 1))
	if acknowledged > 1 {
		r.fail(api.CodeMalformedBlob, tagLossAcknowledged, "want 0 or 1")
	}
	h.LossAcknowledged = acknowledged == 1
	h.Slots = readSlots(r)
	if r.err == nil {
		r.err = h.check()
	}
	return h
}

// number returns a big-endian integer of up to eight bytes.
func number(b []byte) (n uint64) {
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n
}

func readDigests(r *fieldReader) []evidence.Digest {
	const size = len(evidence.Digest{})
	b := r.next(tagDigests, 0, MaxDigests*size)
	if len(b)%size != 0 {
		r.fail(api.CodeMalformedBlob, tagDigests, fmt.Sprintf("%d bytes, want a multiple of 32", len(b)))
		return nil
	}
	var out []evidence.Digest
	for chunk := range slices.Chunk(b, size) {
		d := evidence.Digest(chunk)
		if len(out) > 0 && bytes.Compare(out[len(out)-1][:], d[:]) >= 0 {
			r.fail(api.CodeMalformedBlob, tagDigests, "digests are not in ascending order")
			return nil
		}
		out = append(out, d)
	}
	return out
}

// readMachine reads the five fields of a report, from tagChipID on. They are all present or
// all empty.
func readMachine(r *fieldReader) *Reading {
	var m Reading
	var values [5][]byte
	given := 0
	for i, size := range []int{len(m.ChipID), len(m.Measurement), 8, len(m.TCB), 4} {
		values[i] = r.optional(tagChipID+tag(i), size)
		given += len(values[i])
	}
	if r.err != nil || given == 0 {
		return nil
	}
	for i, v := range values {
		if len(v) == 0 {
			r.fail(api.CodeMalformedBlob, tagChipID+tag(i), "empty, although other fields of the report are not")
			return nil
		}
	}
	m.ChipID, m.Measurement, m.TCB = [64]byte(values[0]), [48]byte(values[1]), TCB(values[3])
	m.GuestPolicy, m.VMPL = number(values[2]), uint32(number(values[4]))
	return &m
}

// check refuses headers whose fields contradict each other.
func (h *Header) check() error {
	bad := func(t tag, detail string) error {
		return &Error{Code: api.CodeMalformedBlob, Field: t.String(), Detail: detail}
	}
	if _, ok := kindNames[h.Kind]; !ok {
		return bad(tagKind, fmt.Sprintf("unknown kind %d", h.Kind))
	}
	for _, f := range []struct {
		tag    tag
		text   string
		wanted bool
	}{
		{tagApp, h.App.Name, h.Kind != KindManifest},
		{tagUnit, h.App.Unit, h.Kind != KindManifest},
		{tagUser, h.App.User, h.Kind != KindManifest},
		{tagName, h.Name, h.Kind == KindSecret},
	} {
		if f.wanted != (f.text != "") {
			return bad(f.tag, fmt.Sprintf("%q in a blob of kind %s", f.text, h.Kind))
		}
		if err := text.Check("name", f.text, 0, MaxName); err != nil {
			return bad(f.tag, err.Error())
		}
	}
	if h.Generation > MaxGeneration {
		return bad(tagGeneration, fmt.Sprintf("%d, at most %d", h.Generation, uint64(MaxGeneration)))
	}
	if h.Kind != KindAppRoot && len(h.Digests) > 0 {
		return bad(tagDigests, "only app roots list digests")
	}
	if h.Kind != KindSecret && h.AssociatedData != (AssociatedDigest{}) {
		return bad(tagAssociatedData, "only secrets have associated data")
	}
	if len(h.Slots) == 0 {
		return bad(tagSlots, "no slot: nothing could open it")
	}
	var snp, tpm, recovery bool
	for _, s := range h.Slots {
		snp, tpm, recovery = snp || s.Kind.SNP(), tpm || s.Kind.TPM(), recovery || s.Kind == SlotRecovery
	}
	switch {
	case snp != (h.Machine != nil):
		return bad(tagChipID, "report fields and slots do not agree")
	case tpm != (len(h.TPMSecret) > 0):
		return bad(tagTPMSecret, "TPM secret and slots do not agree")
	case recovery == h.LossAcknowledged:
		return bad(tagLossAcknowledged, "want 1 if there is no recovery slot, otherwise 0")
	}
	return nil
}

// AssociatedDigest commits to the associated data of a secret, 48 bytes in a blob. It
// stays the same when the blob is written again. Because of the salt, equal data of two
// secrets does not look equal.
type AssociatedDigest struct {
	Salt   [16]byte        // random
	Digest evidence.Digest // SHA-256 over label, salt and data
}

// NewAssociatedDigest commits to data under a new random salt.
func NewAssociatedDigest(data []byte) (AssociatedDigest, error) {
	var d AssociatedDigest
	if _, err := rand.Read(d.Salt[:]); err != nil {
		return d, err
	}
	d.Digest = evidence.Sum256(LabelAssociatedData, d.Salt[:], data)
	return d, nil
}

// Matches reports in constant time whether d commits to data.
func (d AssociatedDigest) Matches(data []byte) bool {
	want := evidence.Sum256(LabelAssociatedData, d.Salt[:], data)
	return subtle.ConstantTimeCompare(want[:], d.Digest[:]) == 1
}

func (d AssociatedDigest) bytes() []byte { return append(d.Salt[:], d.Digest[:]...) }
