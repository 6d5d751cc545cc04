// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Sign signs a message of the caller's app, or a digest, with the key that r names. The key is
// made from a version of the app's root for this one signature, and nothing of it is kept: it is
// there as long as that version is. The first request of an app makes its root.
func (s *Store) Sign(ctx context.Context, c Caller, r api.SignRequest) (out api.Signed, err error) {
	if err := sealing.CheckSigned(r.Algorithm, r.Message, r.Digest); err != nil {
		return out, err
	}
	of := api.SigningKey{Label: r.Label, Algorithm: r.Algorithm, Version: r.Version}
	out.Version, err = s.useKey(ctx, c, of, func(k *sealing.SigningKey) (err error) {
		if out.PublicKey, err = k.PublicKey(); err == nil {
			out.Signature, err = k.Sign(r.Message, r.Digest)
		}
		return err
	})
	return out, err
}

// PublicKey returns the public half of a signing key of the caller's app. The first request of an
// app makes its root.
func (s *Store) PublicKey(ctx context.Context, c Caller, of api.SigningKey) (out api.PublicKey, err error) {
	out.Version, err = s.useKey(ctx, c, of, func(k *sealing.SigningKey) (err error) {
		out.PublicKey, err = k.PublicKey()
		return err
	})
	return out, err
}

// KeyMaterial returns what a signing key of the caller's app is made from, and the version of the root:
// for keys that the TPM makes, [sealing.TPMKeySize] bytes. The first request of an app makes its root.
// The caller wipes the result.
func (s *Store) KeyMaterial(ctx context.Context, c Caller, of api.SigningKey) (*secret.Secret, uint32, error) {
	if err := sealing.CheckSigningKey(of.Algorithm, of.Label); err != nil {
		return nil, 0, err
	}
	length, err := sealing.SigningSize(of.Algorithm)
	if err != nil {
		return nil, 0, err
	}
	return s.fromRoot(ctx, c, expansion{length: length, info: func(app sealing.App, version uint32) []byte {
		return sealing.SigningInfo(app, version, of.Algorithm, of.Label)
	}}, of.Version)
}

// useKey makes a signing key, hands it to f, and wipes it. It returns the version of the root.
func (s *Store) useKey(ctx context.Context, c Caller, of api.SigningKey, f func(*sealing.SigningKey) error) (uint32, error) {
	material, version, err := s.KeyMaterial(ctx, c, of)
	if err != nil {
		return 0, err
	}
	defer material.Wipe()
	return version, material.Use(func(b []byte) error {
		k, err := sealing.NewSigningKey(of.Algorithm, b)
		if err != nil {
			return err
		}
		defer k.Wipe()
		return f(k)
	})
}
