// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
)

// Agent makes evidence. A [*client.Client] is one.
type Agent interface {
	Evidence(context.Context, api.EvidenceRequest) ([]byte, error)
	EvidenceWithKey(context.Context, api.EvidenceRequest, crypto.Signer) ([]byte, error)
}

// Attester shows evidence of this machine. The zero value asks the agent at its usual socket. It
// may serve many ends at once, and must not be copied or changed after its first use.
type Attester struct {
	// Agent makes the evidence. nil: the agent of this machine.
	Agent Agent

	// AnchoredOnly refuses verifiers that want a report of their own (code "freshness"). A host
	// lets a report through every few seconds only, so that others wait for it. All that wait at
	// the same time share one.
	AnchoredOnly bool

	// Audiences are the names of verifiers that evidence is made for; others are refused (code
	// "audience"). nil: any name, or none. The verifier names itself: the certificate that it
	// shows may say who it is.
	Audiences []string

	// MaxPending is how many requests are at the agent at once; further ones wait. 0: 64.
	MaxPending int

	once     sync.Once
	agent    Agent
	pending  chan struct{}
	sessions sessionKeys
}

const defaultPending = 64

func (a *Attester) init() {
	a.once.Do(func() {
		if a.agent = a.Agent; a.agent == nil {
			a.agent = new(client.Client)
		}
		n := a.MaxPending
		if n <= 0 {
			n = defaultPending
		}
		a.pending = make(chan struct{}, n)
	})
}

// serves checks that this end attests to an end with this wish.
func (a *Attester) serves(w *wish) error {
	switch {
	case a.AnchoredOnly && w.Freshness == evidence.Fresh:
		return refuse(CodeFreshness, "the other end asks for a report of its own, and this one gives anchored evidence only")
	case a.Audiences != nil && !slices.Contains(a.Audiences, string(w.Audience)):
		return refuse(CodeAudience, "the other end calls itself %q, which is not among the audiences of this one", w.Audience)
	}
	return nil
}

// show returns evidence for the wish of the other end, over this end's certificate.
func (a *Attester) show(ctx context.Context, w *wish, own *tls.Certificate, exporter []byte) ([]byte, error) {
	return a.ask(ctx, api.EvidenceRequest{
		Nonce: w.Nonce, Audience: string(w.Audience), UserData: userData(w.Role, exporter), Freshness: w.Freshness, FirmwareLog: bool(w.FirmwareLog),
	}, own)
}

// ask asks the agent for evidence over the key of a certificate, with a proof of its possession if
// one can be made.
func (a *Attester) ask(ctx context.Context, r api.EvidenceRequest, own *tls.Certificate) ([]byte, error) {
	a.init()
	key, err := publicKey(own)
	if err != nil {
		return nil, refuse(CodeCertificate, "%w", err)
	}
	select {
	case a.pending <- struct{}{}:
		defer func() { <-a.pending }()
	case <-ctx.Done():
		return nil, refuse(CodeBusy, "%d requests wait for the agent: %w", cap(a.pending), context.Cause(ctx))
	}
	r.PublicKey = key
	var document []byte
	if signer := prover(own, key); signer != nil {
		document, err = a.agent.EvidenceWithKey(ctx, r, signer)
	} else {
		document, err = a.agent.Evidence(ctx, r)
	}
	if err != nil {
		return nil, agentError(ctx, err)
	}
	return document, nil
}

// agentError returns the refusal that an error of the agent means.
func agentError(ctx context.Context, err error) *Error {
	switch {
	case ctx.Err() != nil:
		return refuse(CodeTimeout, "wait for evidence: %w", err)
	case errors.Is(err, api.CodeBusy), errors.Is(err, api.CodeThrottled), errors.Is(err, api.CodeConnections):
		return refuse(CodeBusy, "%w", err)
	}
	return refuse(CodeAgent, "%w", err)
}

// publicKey returns the SubjectPublicKeyInfo of a certificate, as it is in it.
func publicKey(c *tls.Certificate) ([]byte, error) {
	if c == nil || len(c.Certificate) == 0 {
		return nil, errors.New("this end has no certificate in this connection")
	}
	leaf := c.Leaf
	if leaf == nil {
		var err error
		if leaf, err = x509.ParseCertificate(c.Certificate[0]); err != nil {
			return nil, fmt.Errorf("read the own certificate: %w", err)
		}
	}
	return leaf.RawSubjectPublicKeyInfo, nil
}

// prover returns what signs a proof of possession for the key of c, or nil if none can be made of
// this kind of key, or of this spelling of it (docs/evidence.md, section 6).
func prover(c *tls.Certificate, key []byte) crypto.Signer {
	signer, is := c.PrivateKey.(crypto.Signer)
	if !is || errors.Is(keys.CheckPossession(key, nil, nil), keys.ErrKeyKind) {
		return nil
	}
	canonical, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil || !bytes.Equal(canonical, key) {
		return nil
	}
	return signer
}
