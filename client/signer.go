// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"fmt"
	"io"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

// Signer is a signing key of the calling app as a [crypto.Signer]: for TLS, for requests of
// certificates, and for [Client.EvidenceWithKey]. The private half stays in the agent, or in the TPM.
// It may be used by many goroutines.
type Signer struct {
	client *Client
	key    api.SigningKey
	der    []byte // public half, DER SubjectPublicKeyInfo
	public crypto.PublicKey
	hash   crypto.Hash // that ECDSA signs a digest of; 0 of Ed25519
}

// NewSigner asks for the public half of k. If k names no version, the signer stays with the one that is
// current now: its key does not change when root gives the app a new version of its root.
func NewSigner(ctx context.Context, c *Client, k api.SigningKey) (*Signer, error) {
	answer, err := c.PublicKey(ctx, k)
	if err != nil {
		return nil, err
	}
	s := &Signer{client: c, key: k, der: answer.PublicKey}
	s.key.Version = answer.Version
	if s.public, err = x509.ParsePKIXPublicKey(answer.PublicKey); err != nil {
		return nil, fmt.Errorf("parse the public key that the agent gave: %w", err)
	}
	switch p := s.public.(type) {
	case ed25519.PublicKey:
	case *ecdsa.PublicKey:
		if s.hash = crypto.SHA256; p.Curve.Params().BitSize > 256 {
			s.hash = crypto.SHA384
		}
	default:
		return nil, fmt.Errorf("the agent gave a public key of type %T, want Ed25519 or ECDSA", p)
	}
	return s, nil
}

// Public returns the public half: an ed25519.PublicKey or an *ecdsa.PublicKey.
func (s *Signer) Public() crypto.PublicKey { return s.public }

// Key returns the name of the key, with its version.
func (s *Signer) Key() api.SigningKey { return s.key }

// onTheWay is how long a request and its answer may take besides the agent's time for the answer.
const onTheWay = 15 * time.Second

// Sign has the agent sign: with Ed25519 a message, with ECDSA on P-256 a digest of SHA-256, and on P-384
// of SHA-384. An ECDSA signature is DER. The agent has random numbers of its own. Sign waits for as long
// as the agent may take; [Signer.SignContext] waits as long as a context allows.
func (s *Signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), api.CallSign.Timeout+onTheWay)
	defer cancel()
	return s.SignContext(ctx, digest, opts)
}

// SignContext does what Sign does, as long as ctx allows.
func (s *Signer) SignContext(ctx context.Context, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if h := opts.HashFunc(); h != s.hash {
		return nil, fmt.Errorf("sign with key %q of %s: the hash is %v, want %v", s.key.Label, s.key.Algorithm, h, s.hash)
	}
	if o, ok := opts.(*ed25519.Options); ok && o.Context != "" {
		return nil, fmt.Errorf("sign with key %q: Ed25519 with a context is not supported", s.key.Label)
	}
	r := api.SignRequest{Label: s.key.Label, Algorithm: s.key.Algorithm, Version: s.key.Version}
	if s.hash == 0 {
		r.Message = digest
	} else {
		r.Digest = digest
	}
	signed, err := s.client.Sign(ctx, r)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(signed.PublicKey, s.der) {
		return nil, fmt.Errorf("the key %q is another one than before: the TPM was cleared or replaced, or another agent answers", s.key.Label)
	}
	return signed.Signature, nil
}
