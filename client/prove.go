// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// EvidenceWithKey asks for evidence that names the public half of key, with a proof that this
// process has the private half. Key is of Ed25519, of ECDSA on P-256, P-384 or P-521, or of RSA with
// 2,048 to 4,096 bits; it can be in an HSM. PublicKey of r is that of key, or absent. A proof is for
// one request, of one process, to one run of the agent. What the agent said of both is remembered;
// if it is not so any more, EvidenceWithKey asks and signs once more.
func (c *Client) EvidenceWithKey(ctx context.Context, r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, fmt.Errorf("encode the public key: %w", err)
	}
	if r.PublicKey != nil && !bytes.Equal(r.PublicKey, public) {
		return nil, errors.New("the request names another public key than that of the signer")
	}
	r.PublicKey = public
	for try := 1; ; try++ {
		if r.KeyProof, err = c.prove(ctx, r, key); err != nil {
			return nil, err
		}
		document, err := c.Evidence(ctx, r)
		if try == 1 && errors.Is(err, api.CodeBadKeyProof) {
			c.known.Store(nil)
			continue
		}
		return document, err
	}
}

// self returns who this process is to the agent that ran when that was asked last.
func (c *Client) self(ctx context.Context) (*api.Self, error) {
	if known := c.known.Load(); known != nil {
		return known, nil
	}
	self, err := c.Self(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask who this process is to the agent: %w", err)
	}
	c.known.Store(self)
	return self, nil
}

// prove signs r as the request of this process to the agent that runs now.
func (c *Client) prove(ctx context.Context, r api.EvidenceRequest, key crypto.Signer) ([]byte, error) {
	self, err := c.self(ctx)
	if err != nil {
		return nil, err
	}
	s := evidence.Statement{
		Nonce: r.Nonce, Audience: r.Audience,
		Caller: evidence.Caller{UID: self.UID, PID: self.PID, Started: self.Started},
	}
	proof, err := sign(key, evidence.KeyProofMessage(&s, self.AgentKey))
	if err != nil {
		return nil, fmt.Errorf("sign the request with the key that it names: %w", err)
	}
	return proof, nil
}

// sign makes the one form of signature that belongs to the kind of key (docs/evidence.md, section
// 6).
func sign(key crypto.Signer, message []byte) ([]byte, error) {
	var opts crypto.SignerOpts
	switch public := key.Public().(type) {
	case ed25519.PublicKey:
		return key.Sign(rand.Reader, message, crypto.Hash(0))
	case *ecdsa.PublicKey:
		switch name := public.Curve.Params().Name; name {
		case "P-256":
			opts = crypto.SHA256
		case "P-384":
			opts = crypto.SHA384
		case "P-521":
			opts = crypto.SHA512
		default:
			return nil, fmt.Errorf("ECDSA on %s: want P-256, P-384 or P-521", name)
		}
	case *rsa.PublicKey:
		opts = &rsa.PSSOptions{SaltLength: 32, Hash: crypto.SHA256}
	default:
		return nil, fmt.Errorf("a %T cannot prove its possession: want Ed25519, ECDSA or RSA", public)
	}
	h := opts.HashFunc().New()
	h.Write(message)
	return key.Sign(rand.Reader, h.Sum(nil), opts)
}
