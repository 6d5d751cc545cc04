// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// roots makes the keys that slots rest on, and keeps them: hosts allow a request to
// the SNP firmware only every few seconds. It keeps the combined root, not the derived key
// or the TPM's secret. It is for one goroutine at a time.
type roots struct {
	platform Platform // nil if the machine derives no keys
	tpm      TPM      // nil if absent
	files    Files

	reading *sealing.Reading // present reading; nil if there is no platform
	warm    map[rootID]*secret.Secret
}

// rootID names a root on this machine: reading and device are the same for all.
type rootID struct {
	kind      sealing.SlotKind
	tcb       sealing.TCB
	tpmSecret string
}

// read asks the platform for the reading of now, and drops roots that may be stale.
func (r *roots) read(ctx context.Context) error {
	if r.platform == nil {
		return nil
	}
	now, err := r.platform.Reading(ctx)
	if err != nil {
		return &sealing.Error{Code: api.CodeRootUnavailable, Detail: "learn the TCB of the firmware", Err: err}
	}
	if r.reading == nil || now != *r.reading {
		r.wipe()
	}
	r.reading = &now
	return nil
}

// wipe forgets every root.
func (r *roots) wipe() {
	for _, s := range r.warm {
		s.Wipe()
	}
	r.warm = nil
}

// kind returns the strongest slot that this machine can have, 0 if it has no root.
func (r *roots) kind() sealing.SlotKind {
	switch {
	case r.platform != nil && r.tpm != nil:
		return sealing.SlotSNPTPM
	case r.platform != nil:
		return sealing.SlotSNP
	case r.tpm != nil:
		return sealing.SlotTPM
	}
	return 0
}

// get returns the root of a slot of that kind in a blob that was sealed on machine was
// with that TPM secret. The result belongs to r: the caller does not wipe it.
func (r *roots) get(ctx context.Context, kind sealing.SlotKind, was *sealing.Reading, tpmSecret []byte) (*secret.Secret, error) {
	id := rootID{kind: kind}
	if kind.SNP() {
		if r.platform == nil || r.reading == nil {
			return nil, &sealing.Error{Code: api.CodeNoUsableSlot, Detail: fmt.Sprintf("slot %s needs a key that SNP firmware derives, and this machine has none", kind)}
		}
		// Some firmware answers with zeros if it is asked for a TCB above its own.
		if !was.TCB.AtMost(r.reading.TCB) {
			return nil, was.Explain(*r.reading)
		}
		id.tcb = was.TCB
	}
	if kind.TPM() {
		if r.tpm == nil {
			return nil, &sealing.Error{Code: api.CodeNoUsableSlot, Detail: fmt.Sprintf("slot %s needs a TPM, and this machine has none, or one that is made anew at each boot (tpm.ephemeral)", kind)}
		}
		id.tpmSecret = string(tpmSecret)
	}
	if s, ok := r.warm[id]; ok {
		return s, nil
	}
	s, err := r.combine(ctx, id)
	if err != nil {
		return nil, err
	}
	if r.warm == nil {
		r.warm = map[rootID]*secret.Secret{}
	}
	r.warm[id] = s
	return s, nil
}

// combine returns HKDF-Extract-SHA-256 with an empty salt over
// Preimage(label, kind, SNP derived key or nothing, TPM secret or nothing).
func (r *roots) combine(ctx context.Context, id rootID) (*secret.Secret, error) {
	var parts [2][]byte
	defer func() { clear(parts[0]); clear(parts[1]) }()
	if id.kind.TPM() {
		s, err := r.unsealTPM(ctx, []byte(id.tpmSecret))
		if err != nil {
			return nil, err
		}
		defer s.Wipe()
		_ = s.Use(func(b []byte) error { parts[1] = append(parts[1], b...); return nil })
	}
	if id.kind.SNP() {
		k, err := derive(ctx, r.platform, id.tcb)
		if err != nil {
			return nil, err
		}
		defer k.Wipe()
		_ = k.Use(func(b []byte) error { parts[0] = append(parts[0], b...); return nil })
	}
	material := evidence.Preimage(sealing.LabelRoots, []byte(id.kind.String()), parts[0], parts[1])
	defer clear(material)
	prk, err := hkdf.Extract(sha256.New, material, nil)
	if err != nil {
		return nil, err
	}
	return secret.Take(prk)
}

// A Platform derives keys, and returns what goes into one now: see [platform.Keys].
type Platform interface {
	Reading(ctx context.Context) (sealing.Reading, error)
	DeriveKey(ctx context.Context, tcb sealing.TCB) (*secret.Secret, error)
}

// derive asks for a derived key and refuses what cannot be one. Firmware has returned an
// all-zero key as valid, and every attacker knows that key.
func derive(ctx context.Context, p Platform, tcb sealing.TCB) (*secret.Secret, error) {
	k, err := p.DeriveKey(ctx, tcb)
	if attempt := fmt.Sprintf("derive a key under TCB %s", tcb); errors.Is(err, platform.ErrZeroKey) {
		return nil, &sealing.Error{Code: api.CodeBadDerivedKey, Detail: attempt, Err: err}
	} else if err != nil {
		return nil, coded(attempt, err)
	}
	detail := ""
	switch {
	case k.Len() != sealing.KeySize:
		detail = fmt.Sprintf("the firmware answered with a key of %d bytes, want %d", k.Len(), sealing.KeySize)
	case k.IsZero():
		detail = fmt.Sprintf("the firmware answered with an all-zero key under TCB %s; nothing is sealed or opened with it", tcb)
	default:
		return k, nil
	}
	k.Wipe()
	return nil, &sealing.Error{Code: api.CodeBadDerivedKey, Detail: detail}
}

// unsealTPM opens the record of the TPM secret with that name.
func (r *roots) unsealTPM(ctx context.Context, name []byte) (*secret.Secret, error) {
	file := secretFile(name)
	record, err := r.files.Read(file, sealing.MaxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &sealing.Error{Code: api.CodeTPMSecretMissing, Detail: fmt.Sprintf("the file %s with the TPM's sealed secret is missing; put it back from a backup", file)}
	}
	if err != nil {
		return nil, &sealing.Error{Code: api.CodeRootUnavailable, Detail: "read the TPM's sealed secret", Err: err}
	}
	// Otherwise an attacker who may use the TPM could give a blob's secret to another object,
	// and everything that is sealed later would rest on that.
	if id, err := r.tpm.Name(record); err != nil {
		return nil, coded("read the record of the TPM's secret", err)
	} else if !bytes.Equal(id, name) {
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged, Detail: fmt.Sprintf("the file %s contains another object of the TPM than the blob names: one of the two was changed; put it back from a backup", file)}
	}
	s, err := r.tpm.Unseal(ctx, record)
	if err != nil {
		return nil, coded("unseal the TPM's secret", err)
	}
	if s.Len() != sealing.KeySize || s.IsZero() {
		s.Wipe()
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged, Detail: "the TPM answered with a secret of a wrong size or all zero"}
	}
	return s, nil
}

// newTPMSecret seals a secret in the TPM and writes its record durably; until a blob
// names it, a leftover file means nothing.
func (r *roots) newTPMSecret(ctx context.Context) (name []byte, err error) {
	record, name, s, err := r.tpm.Seal(ctx)
	if err != nil {
		return nil, coded("seal a new secret in the TPM", err)
	}
	s.Wipe()
	if len(name) != sealing.TPMNameSize || len(record) > sealing.MaxRecord {
		return nil, &sealing.Error{Code: api.CodeRootUnavailable, Detail: fmt.Sprintf("the TPM named its sealed object with %d bytes in a record of %d", len(name), len(record))}
	}
	if err := r.files.WriteDurable(secretFile(name), record); err != nil {
		return nil, fmt.Errorf("store the TPM's sealed secret: %w", err)
	}
	return name, nil
}

// locksOut reports whether err says that this machine does not have the key, and
// not that the file is damaged or the error is temporary.
func locksOut(err error) bool {
	return slices.Contains([]api.Code{api.CodeOtherChip, api.CodeOtherMeasurement, api.CodeGuestPolicyChanged, api.CodeOtherVMPL, api.CodeTCBBelow, api.CodeWrongKey,
		api.CodeTPMCleared, api.CodeOtherTPM, api.CodeTPMSecretMissing, api.CodeTPMSecretDamaged, api.CodeNoUsableSlot, api.CodeWeakerSlot}, sealing.CodeOf(err))
}
