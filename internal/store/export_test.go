// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// SealFor seals payload for h outside of any store, to a given TPM secret and recipients,
// and signs it with the store key of that seed.
func SealFor(ctx context.Context, p Platform, t TPM, f Files, h sealing.Header, tpmSecret []byte, recipients []string, seed []byte, payload *secret.Secret) ([]byte, error) {
	key, err := storeKeyOf(seed)
	if err != nil {
		return nil, err
	}
	defer key.wipe()
	r := &roots{platform: p, tpm: t, files: f}
	defer r.wipe()
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	b, err := r.seal(ctx, h, target{tpmSecret: tpmSecret, recipients: recipients, key: key}, payload)
	if err != nil {
		return nil, err
	}
	return b.Encode(), nil
}

// OpenBlob opens a blob outside of any store.
func OpenBlob(ctx context.Context, p Platform, t TPM, f Files, b *sealing.Blob) (*secret.Secret, error) {
	r := &roots{platform: p, tpm: t, files: f}
	defer r.wipe()
	if err := r.read(ctx); err != nil {
		return nil, err
	}
	return r.open(ctx, b)
}

// DeriveFrom derives from the payload of an app root.
func DeriveFrom(payload *secret.Secret, app sealing.App, version uint32, label []byte, length int) (*secret.Secret, error) {
	return derivedWith(label, length).from(payload, app, version)
}

// Versions lists those of the payload of an app root.
var Versions = versions

// SecretFile names the file of the record of a TPM secret.
var SecretFile = secretFile

// SealUnder stores as an app of a version could that knew no names of root.
func (s *Store) SealUnder(ctx context.Context, c Caller, name string, data *secret.Secret, associated []byte) error {
	ctx, err := s.ready(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	return s.putSecret(ctx, c.App, true, name, data, associated)
}
