// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// target says what new blobs are sealed to.
type target struct {
	tpmSecret  []byte    // name of the TPM's sealed object in use; nil if there is no TPM
	recipients []string  // recovery recipients
	loss       bool      // whether the loss is accepted that comes without recipients
	key        *storeKey // that signs
}

// seal makes a blob with payload for h, whose id, machine and slots it fills in.
func (r *roots) seal(ctx context.Context, h sealing.Header, to target, payload *secret.Secret) (*sealing.Blob, error) {
	if payload.Len() > sealing.MaxPayload {
		return nil, &sealing.Error{Code: api.CodeInvalidValue, Detail: fmt.Sprintf("payload of %d bytes, at most %d", payload.Len(), sealing.MaxPayload)}
	}
	if len(to.recipients) == 0 && !to.loss {
		return nil, &sealing.Error{Code: api.CodeNoRecovery, Detail: "no recovery recipient: any change of the hardware would lose the data; name an age recipient, or acknowledge the loss"}
	}
	rand.Read(h.ID[:]) // never fails
	keys, err := r.fillSlots(ctx, &h, to)
	defer func() {
		for _, k := range keys {
			k.Wipe()
		}
	}()
	if err != nil {
		return nil, err
	}
	b, err := sealing.New(h)
	if err != nil {
		return nil, err
	}
	dataKey, err := secret.Random(sealing.KeySize)
	if err != nil {
		return nil, err
	}
	defer dataKey.Wipe()
	digest := b.HeaderDigest()
	for i, s := range h.Slots {
		var w []byte
		if s.Kind == sealing.SlotRecovery {
			w, err = wrapRecovery(s.Recipient, dataKey, digest)
		} else {
			w, err = encrypt(keys[i], dataKey, digest[:])
		}
		if err != nil {
			return nil, fmt.Errorf("wrap the data key for slot %s: %w", s.Kind, err)
		}
		b.Wrapped = append(b.Wrapped, w)
	}
	if b.Payload, err = encrypt(dataKey, payload, b.PayloadData()); err != nil {
		return nil, fmt.Errorf("encrypt the payload: %w", err)
	}
	if err := to.key.sign(b, dataKey); err != nil {
		return nil, fmt.Errorf("sign the blob: %w", err)
	}
	return b, nil
}

// fillSlots gives h the slots of this machine and of the recipients. It returns their keys
// in the same order, nil for recovery.
func (r *roots) fillSlots(ctx context.Context, h *sealing.Header, to target) (keys []*secret.Secret, err error) {
	h.Slots, h.Machine, h.TPMSecret = nil, nil, nil
	kind := r.kind()
	if kind.SNP() {
		now := *r.reading
		h.Machine = &now
	}
	if kind.TPM() {
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
		h.Slots, keys = append(h.Slots, sealing.Slot{Kind: sealing.SlotRecovery, Recipient: text}), append(keys, nil)
	}
	h.LossAcknowledged = len(to.recipients) == 0
	return keys, nil
}

// An opener opens a blob, which authenticates its header.
type opener func(*sealing.Blob) (*secret.Secret, error)

// opener returns open under ctx.
func (r *roots) opener(ctx context.Context) opener {
	return func(b *sealing.Blob) (*secret.Secret, error) { return r.open(ctx, b) }
}

// open opens b by the strongest slot that this machine can have. That authenticates
// b.Claimed: this machine sealed it. A weaker slot proves less. On many machines the host
// runs the TPM, so the host can make a blob that opens by the TPM alone.
func (r *roots) open(ctx context.Context, b *sealing.Blob) (*secret.Secret, error) {
	return r.openBy(ctx, b, func(k sealing.SlotKind) error {
		if r.kind() != sealing.SlotSNPTPM || k == sealing.SlotSNPTPM {
			return nil
		}
		return &sealing.Error{Code: api.CodeWeakerSlot, Detail: fmt.Sprintf("the blob opens by slot %s, this machine seals to %s: a party that has less than this machine may have made it", k, r.kind())}
	})
}

// openWeaker opens b by any slot of the machine, once its sender is known.
func (r *roots) openWeaker(ctx context.Context, b *sealing.Blob) (*secret.Secret, error) {
	return r.openBy(ctx, b, func(sealing.SlotKind) error { return nil })
}

// openBy opens b by the slots of the machine that may gives no error for.
func (r *roots) openBy(ctx context.Context, b *sealing.Blob, may func(sealing.SlotKind) error) (*secret.Secret, error) {
	var first error
	for i, s := range b.Claimed.Slots {
		if s.Kind == sealing.SlotRecovery {
			continue
		}
		err := may(s.Kind)
		if err == nil {
			var payload *secret.Secret
			if payload, err = r.openSlot(ctx, b, i); err == nil {
				return payload, nil
			}
		}
		// After a temporary error, or if content was changed, another slot would say
		// nothing new.
		if !locksOut(err) {
			return nil, err
		}
		if first == nil || sealing.CodeOf(first) == api.CodeNoUsableSlot {
			first = err
		}
	}
	if first == nil {
		first = &sealing.Error{Code: api.CodeNoUsableSlot, Detail: "the blob has only recovery slots"}
	}
	return nil, first
}

// openSlot opens b by its slot i, one of the machine.
func (r *roots) openSlot(ctx context.Context, b *sealing.Blob, i int) (*secret.Secret, error) {
	h, s := &b.Claimed, b.Claimed.Slots[i]
	root, err := r.get(ctx, s.Kind, h.Machine, h.TPMSecret)
	if err != nil {
		return nil, r.because(h, s, err)
	}
	key, err := unwrap(root, s, b.Wrapped[i], b.HeaderDigest())
	if errors.Is(err, errOtherKey) {
		return nil, r.because(h, s, &sealing.Error{Code: api.CodeWrongKey, Detail: fmt.Sprintf(
			"the key of this machine does not match slot %s, although the file names this machine's report: another party made the blob or changed its slot, or chip ids are masked and this is another chip", s.Kind)})
	}
	if err != nil {
		return nil, altered(err, "the key of slot "+s.Kind.String()+" is right, and the header was changed after sealing or the wrapped key belongs to another blob")
	}
	defer key.Wipe()
	return openPayload(b, key)
}

// because returns the change of the machine that explains err, if there is one.
func (r *roots) because(h *sealing.Header, s sealing.Slot, err error) error {
	if !s.Kind.SNP() || r.reading == nil || !locksOut(err) {
		return err
	}
	if e := h.Machine.Explain(*r.reading); e != nil && e.Code != sealing.CodeOf(err) {
		if sealing.CodeOf(err) != api.CodeWrongKey {
			e.Err = err
		}
		return e
	}
	return err
}

// openRecovery opens b with an identity.
func openRecovery(b *sealing.Blob, id *Identities) (*secret.Secret, error) {
	n := 0
	for i, s := range b.Claimed.Slots {
		if s.Kind != sealing.SlotRecovery {
			continue
		}
		n++
		key, err := unwrapRecovery(id, b.Wrapped[i], b.HeaderDigest())
		if errors.Is(err, errOtherKey) {
			continue
		}
		if err != nil {
			return nil, altered(err, "the identity is right, and the header was changed after sealing or the wrapped key belongs to another blob")
		}
		defer key.Wipe()
		return openPayload(b, key)
	}
	if n == 0 {
		return nil, &sealing.Error{Code: api.CodeNoUsableSlot, Detail: "the blob was sealed without a recovery recipient"}
	}
	return nil, &sealing.Error{Code: api.CodeWrongIdentity, Detail: fmt.Sprintf("the identity matches none of the %d recovery recipients of the blob: %v", n, b.Claimed.Recipients())}
}

func openPayload(b *sealing.Blob, key *secret.Secret) (*secret.Secret, error) {
	err := checkBound(b, key)
	var payload *secret.Secret
	if err == nil {
		payload, err = decrypt(key, b.Payload, b.PayloadData())
	}
	if err != nil {
		return nil, altered(err, "the data key is right, and payload, a wrapped key or the signature was changed after sealing")
	}
	return payload, nil
}

func altered(err error, detail string) error {
	if errors.Is(err, errAuthentication) || errors.Is(err, errSender) {
		return &sealing.Error{Code: api.CodeAltered, Detail: detail}
	}
	return err
}
