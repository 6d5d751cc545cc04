// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strconv"

	"github.com/cvm-agentd/agentd/agent/internal/problem"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
)

// publicKey answers with the public half of a signing key.
func (s *Server) publicKey(c *call, _ api.None) (job, error) {
	k := api.SigningKey{Label: c.query.Get(api.QueryLabel), Algorithm: api.SigningAlgorithm(c.query.Get(api.QueryAlgorithm))}
	if given := c.query.Get(api.QueryVersion); given != "" {
		version, err := strconv.ParseUint(given, 10, 32)
		if err != nil {
			return job{}, problem.Invalid(api.QueryVersion, "want the number of a version, below 2^32")
		}
		k.Version = uint32(version)
	}
	return s.forOwner(c, small, keysOfApp, func(ctx context.Context, o Owner) (any, error) { return s.Keys.PublicKey(ctx, o, k) }), nil
}

// checkSigningKey refuses a request that names a signing key and a public key, or that comes
// by the socket of administration: root gets no evidence that names the key of an app.
func checkSigningKey(r *api.EvidenceRequest, socket Socket) error {
	switch {
	case r.SigningKey == nil:
		return nil
	case socket != Client:
		return problem.New(api.CodeNotPermitted, "only the client socket serves evidence with signingKey")
	case len(r.PublicKey) > 0:
		return problem.Invalid("/publicKey", "not with signingKey: the agent names the public half itself")
	}
	return nil
}

// proveSigningKey has r name the signing key that it asks for, and proves that the caller may use
// it. Of the caller the proof says what the statement will. A proof is over a message with a label of its
// own, and verifies under the key of the app alone: the keys of the agent sign other messages.
func (s *Server) proveSigningKey(ctx context.Context, c *call, r *api.EvidenceRequest, id evidence.Caller) error {
	if r.SigningKey == nil {
		return nil
	}
	if err := s.Keys.Await(ctx); err != nil {
		return err
	}
	o, refused := s.owner(c.peer, keysOfApp)
	if refused != nil {
		return refused
	}
	statement := evidence.Statement{Nonce: r.Nonce, Audience: r.Audience, Caller: id}
	k := r.SigningKey
	signed, err := s.Keys.Sign(ctx, o, api.SignRequest{
		Label: k.Label, Algorithm: k.Algorithm, Version: k.Version,
		Message: evidence.KeyProofMessage(&statement, s.AgentKey),
	})
	r.PublicKey, r.KeyProof, r.SigningKey = signed.PublicKey, signed.Signature, nil
	return err
}
