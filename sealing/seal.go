// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// target is what new blobs are sealed to.
type target struct {
	tpmSecret  []byte   // name of the TPM's sealed object in use; nil where there is no TPM
	recipients []string // recovery
	loss       bool     // without recipients: acknowledged
}

// seal makes a blob with payload for h, whose id, machine and slots it fills in.
func (r *roots) seal(ctx context.Context, h Header, to target, payload *secret.Secret) (*Blob, error) {
	if payload.Len() > maxPayload {
		return nil, &Error{Code: InvalidRequest, Detail: fmt.Sprintf("payload of %d bytes, at most %d", payload.Len(), maxPayload)}
	}
	if len(to.recipients) == 0 && !to.loss {
		return nil, &Error{Code: NoRecovery, Detail: "no recovery recipient: whatever changes the hardware loses the data; name an age recipient, or acknowledge the loss"}
	}
	if _, err := rand.Read(h.ID[:]); err != nil {
		return nil, err
	}
	keys, err := r.fillSlots(ctx, &h, to)
	defer wipeAll(keys)
	if err != nil {
		return nil, err
	}
	if err := h.check(); err != nil {
		return nil, err
	}
	b := &Blob{Claimed: h, fields: h.encode()}
	dataKey, err := secret.Random(keySize)
	if err != nil {
		return nil, err
	}
	defer dataKey.Wipe()
	digest := b.headerDigest()
	for i, s := range h.Slots {
		var w []byte
		if s.Kind == SlotRecovery {
			w, err = wrapRecovery(s.Recipient, dataKey, digest)
		} else {
			w, err = encrypt(keys[i], dataKey, digest[:])
		}
		if err != nil {
			return nil, fmt.Errorf("wrap the data key for slot %s: %w", s.Kind, err)
		}
		b.wrapped = append(b.wrapped, w)
	}
	if b.payload, err = encrypt(dataKey, payload, b.payloadData()); err != nil {
		return nil, fmt.Errorf("encrypt the payload: %w", err)
	}
	return b, nil
}

// fillSlots gives h the slots of this machine and of the recipients; the keys stand
// in the same order, nil for recovery.
func (r *roots) fillSlots(ctx context.Context, h *Header, to target) (keys []*secret.Secret, err error) {
	h.Slots, h.Machine, h.TPMSecret = nil, nil, nil
	kind := r.kind()
	if kind.snp() {
		now := *r.reading
		h.Machine = &now
	}
	if kind.tpm() {
		h.TPMSecret = to.tpmSecret
	}
	if kind != 0 {
		root, err := r.get(ctx, kind, h.Machine, h.TPMSecret)
		if err != nil {
			return nil, err
		}
		s, key, err := newSlot(kind, root)
		if err != nil {
			return nil, err
		}
		h.Slots, keys = append(h.Slots, s), append(keys, key)
	}
	for _, text := range slices.Compact(slices.Sorted(slices.Values(to.recipients))) {
		h.Slots, keys = append(h.Slots, Slot{Kind: SlotRecovery, Recipient: text}), append(keys, nil)
	}
	h.LossAcknowledged = len(to.recipients) == 0
	return keys, nil
}

func wipeAll(keys []*secret.Secret) {
	for _, k := range keys {
		k.Wipe()
	}
}

// open opens b with what this machine has. What b says of itself is then proven to
// be what it said when it was sealed.
func (r *roots) open(ctx context.Context, b *Blob) (*secret.Secret, error) {
	var first error
	for i, s := range b.Claimed.Slots {
		if s.Kind == SlotRecovery {
			continue
		}
		payload, err := r.openSlot(ctx, b, i)
		if err == nil {
			return payload, nil
		}
		// A fault of the moment, or changed content, is the answer at once: another
		// slot says nothing new about it.
		if !locksOut(err) {
			return nil, err
		}
		if first == nil || CodeOf(first) == NoUsableSlot {
			first = err
		}
	}
	if first == nil {
		first = &Error{Code: NoUsableSlot, Detail: "the blob has only recovery slots; use the recovery identity"}
	}
	return nil, first
}

// openSlot opens b by its slot i, one of the machine.
func (r *roots) openSlot(ctx context.Context, b *Blob, i int) (*secret.Secret, error) {
	h, s := &b.Claimed, b.Claimed.Slots[i]
	root, err := r.get(ctx, s.Kind, h.Machine, h.TPMSecret)
	if err != nil {
		return nil, r.because(h, s, err)
	}
	key, err := unwrap(root, s, b.wrapped[i], b.headerDigest())
	if errors.Is(err, errOtherKey) {
		return nil, r.because(h, s, &Error{Code: WrongKey, Detail: fmt.Sprintf(
			"the key of this machine does not fit slot %s, although the report reads as it did at sealing: the blob was made elsewhere or its slot was changed", s.Kind)})
	}
	if err != nil {
		return nil, altered(err, "the key of slot "+s.Kind.String()+" is right, and the header was changed after sealing or the wrapped key belongs to another blob")
	}
	defer key.Wipe()
	return b.openPayload(key)
}

// because puts a change of the machine that explains err in front of it.
func (r *roots) because(h *Header, s Slot, err error) error {
	if !s.Kind.snp() || r.reading == nil || !locksOut(err) {
		return err
	}
	if e := explain(*h.Machine, *r.reading); e != nil && e.Code != CodeOf(err) {
		if CodeOf(err) != WrongKey {
			e.Err = err
		}
		return e
	}
	return err
}

// openRecovery opens b with an identity.
func (b *Blob) openRecovery(id *Identities) (*secret.Secret, error) {
	n := 0
	for i, s := range b.Claimed.Slots {
		if s.Kind != SlotRecovery {
			continue
		}
		n++
		key, err := unwrapRecovery(id, b.wrapped[i], b.headerDigest())
		if errors.Is(err, errOtherKey) {
			continue
		}
		if err != nil {
			return nil, altered(err, "the identity is right, and the header was changed after sealing or the wrapped key belongs to another blob")
		}
		defer key.Wipe()
		return b.openPayload(key)
	}
	if n == 0 {
		return nil, &Error{Code: NoUsableSlot, Detail: "the blob was sealed without a recovery recipient"}
	}
	return nil, &Error{Code: WrongIdentity, Detail: fmt.Sprintf("the identity belongs to none of the %d recovery recipients of the blob: %v", n, b.Claimed.recipients())}
}

func (b *Blob) openPayload(key *secret.Secret) (*secret.Secret, error) {
	payload, err := decrypt(key, b.payload, b.payloadData())
	if err != nil {
		return nil, altered(err, "the data key is right, and payload or a wrapped key was changed after sealing")
	}
	return payload, nil
}

func altered(err error, detail string) error {
	if errors.Is(err, errAuthentication) {
		return &Error{Code: Altered, Detail: detail}
	}
	return err
}

// recipients are the recovery recipients of the blob.
func (h *Header) recipients() []string {
	var out []string
	for _, s := range h.Slots {
		if s.Kind == SlotRecovery {
			out = append(out, s.Recipient)
		}
	}
	return out
}
