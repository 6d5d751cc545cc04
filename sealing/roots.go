// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
)

// roots makes the keys that slots rest on, and keeps them: hosts allow a request to
// the SNP firmware only every few seconds. What is kept is the combined root, not
// the derived key or the TPM's secret. Not for use by several goroutines.
type roots struct {
	platform Platform // nil where the machine derives no keys
	tpm      TPM      // nil where there is none
	files    Files

	reading *Reading // now; nil where there is no platform
	warm    map[rootID]*secret.Secret
}

// rootID names a root on this machine: reading and device are the same for all.
type rootID struct {
	kind      SlotKind
	tcb       TCB
	tpmSecret string
}

// read asks the platform for the reading of now, and drops roots that may be stale.
func (r *roots) read(ctx context.Context) error {
	if r.platform == nil {
		return nil
	}
	now, err := r.platform.Reading(ctx)
	if err != nil {
		return &Error{Code: RootUnavailable, Detail: "learn the TCB of the firmware", Err: err}
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

// kind is the strongest slot that this machine can have, 0 where it has no root.
func (r *roots) kind() SlotKind {
	switch {
	case r.platform != nil && r.tpm != nil:
		return SlotSNPTPM
	case r.platform != nil:
		return SlotSNP
	case r.tpm != nil:
		return SlotTPM
	}
	return 0
}

// get is the root of a slot of that kind in a blob that was sealed on machine was
// with that TPM secret. The result belongs to r.
func (r *roots) get(ctx context.Context, kind SlotKind, was *Reading, tpmSecret []byte) (*secret.Secret, error) {
	id := rootID{kind: kind}
	if kind.snp() {
		if r.platform == nil || r.reading == nil {
			return nil, &Error{Code: NoUsableSlot, Detail: fmt.Sprintf("slot %s needs a key derived by SNP firmware, which this machine does not offer", kind)}
		}
		// Firmware that is asked for a TCB above its own was seen to answer with zeros.
		if !was.TCB.AtMost(r.reading.TCB) {
			return nil, explain(*was, *r.reading)
		}
		id.tcb = was.TCB
	}
	if kind.tpm() {
		if r.tpm == nil {
			return nil, &Error{Code: NoUsableSlot, Detail: fmt.Sprintf("slot %s needs a TPM, and this machine has none", kind)}
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

// combine is HKDF-Extract-SHA-256 with an empty salt over
// Preimage(label, kind, SNP derived key or nothing, TPM secret or nothing).
func (r *roots) combine(ctx context.Context, id rootID) (*secret.Secret, error) {
	var parts [2][]byte
	defer func() { clear(parts[0]); clear(parts[1]) }()
	if id.kind.tpm() {
		s, err := r.unsealTPM(ctx, []byte(id.tpmSecret))
		if err != nil {
			return nil, err
		}
		defer s.Wipe()
		_ = s.Use(func(b []byte) error { parts[1] = append(parts[1], b...); return nil })
	}
	if id.kind.snp() {
		b, err := derive(ctx, r.platform, id.tcb)
		if err != nil {
			return nil, err
		}
		parts[0] = b
	}
	material := evidence.Preimage(labelRoots, []byte(id.kind.String()), parts[0], parts[1])
	defer clear(material)
	prk, err := hkdf.Extract(sha256.New, material, nil)
	if err != nil {
		return nil, err
	}
	return secret.Take(prk)
}

// derive asks for a derived key and refuses what cannot be one: a key that is all
// zero has been handed out as valid, and everybody knows it.
func derive(ctx context.Context, d Deriver, tcb TCB) ([]byte, error) {
	b, err := d.DeriveKey(ctx, tcb.Uint64())
	if err != nil {
		clear(b)
		if CodeOf(err) != "" {
			return nil, err
		}
		return nil, &Error{Code: RootUnavailable, Detail: fmt.Sprintf("derive a key under TCB %s", tcb), Err: err}
	}
	if len(b) != keySize {
		defer clear(b)
		return nil, &Error{Code: BadDerivedKey, Detail: fmt.Sprintf("the firmware answered with a key of %d bytes, want %d", len(b), keySize)}
	}
	var or byte
	for _, x := range b {
		or |= x
	}
	if or == 0 {
		return nil, &Error{Code: BadDerivedKey, Detail: fmt.Sprintf("the firmware answered with an all-zero key under TCB %s; nothing is sealed or opened with it", tcb)}
	}
	return b, nil
}

// unsealTPM opens the record of the TPM secret with that name.
func (r *roots) unsealTPM(ctx context.Context, name []byte) (*secret.Secret, error) {
	file := secretFile(name)
	record, err := r.files.Read(file, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &Error{Code: TPMSecretMissing, Detail: fmt.Sprintf("the file %s with the TPM's sealed secret is not there; put it back, or use the recovery identity", file)}
	}
	if err != nil {
		return nil, &Error{Code: RootUnavailable, Detail: "read the TPM's sealed secret", Err: err}
	}
	s, err := r.tpm.Unseal(ctx, record)
	if err != nil && CodeOf(err) == "" {
		return nil, &Error{Code: RootUnavailable, Detail: "unseal the TPM's secret", Err: err}
	}
	if err != nil {
		return nil, err
	}
	if s.Len() != keySize || s.IsZero() {
		s.Wipe()
		return nil, &Error{Code: TPMSecretDamaged, Detail: "the TPM answered with a secret of a wrong size or all zero"}
	}
	return s, nil
}

// newTPMSecret seals a secret in the TPM and writes its record durably; until a blob
// names it, a leftover file means nothing.
func (r *roots) newTPMSecret(ctx context.Context) (name []byte, err error) {
	record, name, s, err := r.tpm.Seal(ctx)
	if err != nil {
		return nil, &Error{Code: RootUnavailable, Detail: "seal a new secret in the TPM", Err: err}
	}
	s.Wipe()
	if len(name) != tpmNameSize || len(record) > maxRecord {
		return nil, &Error{Code: RootUnavailable, Detail: fmt.Sprintf("the TPM named its sealed object with %d bytes in a record of %d", len(name), len(record))}
	}
	if err := r.files.WriteDurable(secretFile(name), record); err != nil {
		return nil, fmt.Errorf("store the TPM's sealed secret: %w", err)
	}
	return name, nil
}
