// SPDX-License-Identifier: Apache-2.0

package sealing

import (
	"context"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// SealFor seals payload for h outside of any store, to a given TPM secret and recipients.
func SealFor(ctx context.Context, p Platform, t TPM, f Files, h Header, tpmSecret []byte, recipients []string, payload *secret.Secret) ([]byte, error) {
	r := &roots{platform: p, tpm: t, files: f}
	defer r.wipe()
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	b, err := r.seal(ctx, h, target{tpmSecret: tpmSecret, recipients: recipients}, payload)
	if err != nil {
		return nil, err
	}
	return b.encode(), nil
}

// OpenBlob opens a blob outside of any store.
func OpenBlob(ctx context.Context, p Platform, t TPM, f Files, b *Blob) (*secret.Secret, error) {
	r := &roots{platform: p, tpm: t, files: f}
	defer r.wipe()
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	return r.open(ctx, b)
}

// Encode writes a parsed blob again.
func (b *Blob) Encode() []byte { return b.encode() }

// DeriveFrom derives from the payload of an app root.
var DeriveFrom = deriveFrom

// Recode parses the payload of a manifest and writes it again.
func Recode(b []byte) (*secret.Secret, error) {
	m, err := parseManifest(b)
	if err != nil {
		return nil, err
	}
	return m.encode()
}

// Versions lists those of the payload of an app root.
var Versions = versions

// SecretFile is where the record of a TPM secret lies.
var SecretFile = secretFile
