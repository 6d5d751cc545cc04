// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/message"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/sealing"
)

// Head is what an answer says of the store as a whole.
type Head struct {
	Generation uint64         // number of the manifest
	Seed       *secret.Secret // private half of the store key
	Recipients []string       // recovery recipients; none: root accepted the loss
	ReleaseKey string         // [ReleaseKey.String]
	Number     uint64         // of the release that the store goes over to
	Past       Past           // what the successor removes once root is sure of it
}

// Past is what the old agent left in the folder and in the TPM, for a successor that has the
// same.
type Past struct {
	Counter   []byte       // record of its counter, empty if it had none; it contains an authorization value
	TPMSecret []byte       // name of its sealed object, empty if it had none
	Blobs     []sealing.ID // its blobs
}

// Wipe overwrites the private half of the store key and the record of the counter.
func (h *Head) Wipe() {
	if h.Seed != nil {
		h.Seed.Wipe()
	}
	clear(h.Past.Counter)
}

// encode returns the head: generation (8), seed, number of recipients (1) and each, release
// key, number of the release (8), then [Past]. The caller clears it.
func (h *Head) encode() []byte {
	b := make([]byte, 0, 4096+len(h.Past.Counter)+16*len(h.Past.Blobs)) // enough: no copy stays behind as it grows
	b = message.Append(b, binary.BigEndian.AppendUint64(nil, h.Generation))
	_ = h.Seed.Use(func(seed []byte) error { b = message.Append(b, seed); return nil })
	b = message.Append(b, []byte{byte(len(h.Recipients))})
	for _, x := range h.Recipients {
		b = message.Append(b, []byte(x))
	}
	b = message.Append(b, []byte(h.ReleaseKey))
	b = message.Append(b, binary.BigEndian.AppendUint64(nil, h.Number))
	past := h.Past.Encode()
	defer clear(past)
	return append(b, past...)
}

// Size returns how many bytes of [MaxContent] the head takes, whose store key may be absent yet.
func (h *Head) Size() int {
	n := 4 + 8 + 4 + ed25519.SeedSize + 4 + 1 + 4 + len(h.ReleaseKey) + 4 + 8
	for _, x := range h.Recipients {
		n += 4 + len(x)
	}
	return n + 12 + len(h.Past.Counter) + len(h.Past.TPMSecret) + 16*len(h.Past.Blobs)
}

func (h *Head) parse(b []byte) (err error) {
	r := message.Read("the head of the answer", b)
	h.Generation = binary.BigEndian.Uint64(r.Exactly("generation", 8))
	seed := bytes.Clone(r.Exactly("store key", ed25519.SeedSize))
	if h.Seed, err = secret.Take(seed); err != nil {
		return err
	}
	n := r.Exactly("number of recipients", 1)[0]
	if n > sealing.MaxRecipients {
		r.Err = message.Refuse(r.What, fmt.Sprintf("%d recipients", n))
	}
	for i := byte(0); i < n && r.Err == nil; i++ {
		x := string(r.Next("recipient", 1, sealing.MaxRecipient))
		if _, err := sealing.ParseRecipient(x); err != nil && r.Err == nil {
			r.Err = message.Refuse(r.What, err.Error())
		}
		h.Recipients = append(h.Recipients, x)
	}
	h.ReleaseKey = string(r.Next("release key", 0, maxKeyText))
	if _, err := ParseKeyText(h.ReleaseKey); err != nil && r.Err == nil {
		r.Err = err
	}
	h.Number = binary.BigEndian.Uint64(r.Exactly("number of the release", 8))
	if h.Generation > sealing.MaxGeneration || h.Number > MaxNumber {
		r.Err = message.Refuse(r.What, "a number above 2^53 - 1")
	}
	h.Past.read(r)
	if err := r.End(); err != nil {
		h.Wipe()
		return err
	}
	return nil
}

// Encode returns counter, TPM secret and ids, one after the other in one field. The caller
// clears it.
func (p *Past) Encode() []byte {
	b := make([]byte, 0, 12+len(p.Counter)+len(p.TPMSecret)+16*len(p.Blobs))
	b = message.Append(b, p.Counter)
	b = message.Append(b, p.TPMSecret)
	b = binary.BigEndian.AppendUint32(b, uint32(16*len(p.Blobs)))
	for _, id := range p.Blobs {
		b = append(b, id[:]...)
	}
	return b
}

func (p *Past) read(r *message.Reader) {
	p.Counter = bytes.Clone(r.Next("record of the counter", 0, sealing.MaxRecord))
	p.TPMSecret = bytes.Clone(r.Next("name of the TPM's secret", 0, sealing.TPMNameSize))
	ids := r.Next("ids of blobs", 0, 16*maxPastIDs)
	if len(ids)%16 != 0 || len(p.TPMSecret)%sealing.TPMNameSize != 0 {
		r.Err = message.Refuse(r.What, "ids or names of a wrong size")
		return
	}
	for id := range slices.Chunk(ids, 16) {
		p.Blobs = append(p.Blobs, sealing.ID(id))
	}
}

// ParsePast reads what [Past.Encode] returns.
func ParsePast(b []byte) (p Past, err error) {
	r := message.Read("what the predecessor left", b)
	p.read(r)
	return p, r.End()
}

// Entry is one blob that goes over.
type Entry struct {
	Kind           sealing.Kind
	App            sealing.App
	Name           string // of a secret
	AssociatedData sealing.AssociatedDigest
	Digests        []evidence.Digest // that the app must have; app roots only
	Unproven       bool              // see [sealing.Entry]
	Payload        *secret.Secret    // the caller of [Sealer.Entry] wipes it, and so does the function given to [Answer.Open]
}

// encode returns the entry without its payload: kind and unproven (1 each), app, unit, user,
// name, associated data (48), digests (32 each).
func (e *Entry) encode() []byte {
	unproven := byte(0)
	if e.Unproven {
		unproven = 1
	}
	b := message.Append(nil, []byte{byte(e.Kind), unproven})
	for _, x := range []string{e.App.Name, e.App.Unit, e.App.User, e.Name} {
		b = message.Append(b, []byte(x))
	}
	b = message.Append(b, append(e.AssociatedData.Salt[:], e.AssociatedData.Digest[:]...))
	var digests []byte
	for _, d := range e.Digests {
		digests = append(digests, d[:]...)
	}
	return message.Append(b, digests)
}

// Size returns how many bytes of [MaxContent] the entry takes with a payload of so many bytes.
func (e *Entry) Size(payload int) int { return len(e.encode()) + 4 + payload }

func parseEntry(b []byte) (*Entry, error) {
	r := message.Read("an entry of the answer", b)
	e := &Entry{}
	kind := r.Exactly("kind", 2)
	e.Kind, e.Unproven = sealing.Kind(kind[0]), kind[1] == 1
	if r.Err == nil && (e.Kind != sealing.KindAppRoot && e.Kind != sealing.KindSecret || kind[1] > 1) {
		r.Err = message.Refuse(r.What, fmt.Sprintf("kind %d and mark %d", kind[0], kind[1]))
	}
	for _, f := range []struct {
		name  string
		least int
		to    *string
	}{{"app", 1, &e.App.Name}, {"unit", 1, &e.App.Unit}, {"user", 1, &e.App.User}, {"name", 0, &e.Name}} {
		*f.to = string(r.Next(f.name, f.least, sealing.MaxName))
		if err := text.Check(f.name, *f.to, 0, sealing.MaxName); err != nil && r.Err == nil {
			r.Err = message.Refuse(r.What, err.Error())
		}
	}
	if r.Err == nil && (e.Kind == sealing.KindSecret) != (e.Name != "") {
		r.Err = message.Refuse(r.What, "a name that does not fit its kind")
	}
	data := r.Exactly("associated data", 48)
	copy(e.AssociatedData.Salt[:], data)
	copy(e.AssociatedData.Digest[:], data[16:])
	digests := r.Next("digests", 0, 32*sealing.MaxDigests)
	if len(digests)%32 != 0 && r.Err == nil {
		r.Err = message.Refuse(r.What, "digests of a wrong size")
	}
	for len(digests) >= 32 {
		e.Digests, digests = append(e.Digests, evidence.Digest(digests[:32])), digests[32:]
	}
	payload := r.Next("payload", 0, maxEntry)
	if err := r.End(); err != nil {
		return nil, err
	}
	var err error
	e.Payload, err = secret.Take(bytes.Clone(payload))
	return e, err
}
