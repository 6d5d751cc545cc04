// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// attest shows evidence, or continues what the other end saw before, and reads the verdict.
func (x *exchange) attest(ctx context.Context) error {
	m, answer, err := x.answer(ctx)
	if err != nil {
		return err
	}
	if err := x.put(m); err != nil {
		return err
	}
	var v verdict
	if _, err := x.read(ctx, &v); err != nil {
		return err
	}
	if v.Evidence != sha256.Sum256(answer) {
		return refuse(CodeEarlyData, "the verdict is not on what this end showed")
	}
	x.confirm = v.Confirm
	return nil
}

// answer returns the message for the wish of the other end, and what a verdict on it names.
func (x *exchange) answer(ctx context.Context) (m message, answer []byte, err error) {
	a, w := x.e.attester, x.theirs.Verify
	if err := a.serves(w); err != nil {
		return nil, nil, err
	}
	key, err := publicKey(x.c.local)
	if err != nil {
		return nil, nil, refuse(CodeCertificate, "%w", err)
	}
	if o, secret := a.offered(w, key); o != nil {
		c := &continuation{role: w.Role, exporter: x.exporter, nonce: w.Nonce, audience: string(w.Audience), publicKey: key, session: o.Session, evidence: o.Evidence, salt: random()}
		proof := c.proof(secret)
		return &continued{Type: kindContinued, Session: o.Session, Evidence: o.Evidence, Salt: c.salt, Proof: proof}, proof, nil
	}
	document, err := a.show(ctx, w, x.c.local, x.exporter)
	if err != nil {
		return nil, nil, err
	}
	out := &shown{Type: kindEvidence, Document: document}
	if w.Continue != nil {
		k := a.sessions.current(time.Now)
		out.Session, out.Secret = k.name[:], k.secret(w.Role, string(w.Audience), key, sha256.Sum256(document))
	}
	return out, document, nil
}

// judge reads the evidence of the other end, or what continues it, and puts the verdict.
func (x *exchange) judge(ctx context.Context) error {
	defer func() {
		if x.large != nil {
			x.large()
		}
	}()
	var m shown
	var again continued
	which, err := x.read(ctx, &m, &again)
	if err != nil {
		return err
	}
	var judged *Verdict
	var answer []byte
	if which == 0 {
		judged, answer, err = x.judgeEvidence(&m)
	} else {
		judged, answer, err = x.judgeContinued(&again)
	}
	if err != nil {
		return err
	}
	if err := x.e.decide(ctx, judged); err != nil {
		return err
	}
	x.judged = judged
	x.c.verdict.Store(x.e.verifier.kept(judged))
	x.c.confirm = random()
	return x.put(&verdict{Type: kindVerdict, Evidence: sha256.Sum256(answer), Confirm: x.c.confirm})
}

func (x *exchange) judgeEvidence(m *shown) (judged *Verdict, answer []byte, err error) {
	key, err := publicKeyOf(x.state.PeerCertificates)
	if err != nil {
		return nil, nil, refuse(CodeCertificate, "%w", err)
	}
	if m.Secret != nil {
		if !x.continues() {
			return nil, nil, refuse(CodeContinued, "the other end gave a secret that this one did not ask for")
		}
		x.learned = &learned{m.Session, m.Secret}
	}
	v, other := x.e.verifier, x.e.role.other()
	expect := verify.Expect{Nonce: x.nonce, Audience: v.options.Audience, PublicKey: key, UserData: userData(other, x.exporter)}
	return v.judge(x.ruling, m.Document, expect, bound{role: other, exporter: x.exporter, fresh: x.fresh()}), m.Document, nil
}

// judgeContinued checks the proof that the other end is one that showed evidence before.
func (x *exchange) judgeContinued(m *continued) (judged *Verdict, answer []byte, err error) {
	v, other := x.e.verifier, x.e.role.other()
	key, err := publicKeyOf(x.state.PeerCertificates)
	if err != nil {
		return nil, nil, refuse(CodeCertificate, "%w", err)
	}
	var k *known
	for _, o := range x.offered {
		if string(o.session) == string(m.Session) && o.digest == m.Evidence {
			k = o
		}
	}
	if k == nil {
		return nil, nil, refuse(CodeContinued, "the other end continues evidence that this one did not name")
	}
	c := &continuation{role: other, exporter: x.exporter, nonce: x.nonce, audience: v.options.Audience, publicKey: key, session: k.session, evidence: k.digest, salt: m.Salt}
	if !hmac.Equal(c.proof(k.secret), m.Proof) {
		v.memory.drop(keyOfPeer(other, key), k) // the next connection takes evidence
		return nil, nil, refuse(CodeContinued, "the proof of the other end is not one of the end that showed the evidence before")
	}
	if judged = v.verdictOn(k, x.ruling, v.options.Now()); judged == nil { // time passed while the other end answered
		return nil, nil, refuse(CodeContinued, "the evidence of before is too old by now, or the policy refuses it")
	}
	return judged, m.Proof, nil
}

// fresh reports whether this end wants a report of its own.
func (x *exchange) fresh() bool { return x.e.fresh || x.ruling.freshness == evidence.Fresh }

// continues reports whether this end may rest on earlier evidence.
func (x *exchange) continues() bool { return x.e.verifier.options.Continue > 0 && !x.fresh() }

// offers returns what this end's hello says of earlier evidence; nil if it wants none.
func (x *exchange) offers() []offer {
	if !x.continues() {
		return nil
	}
	out := []offer{}
	if key, err := publicKeyOf(x.state.PeerCertificates); err == nil {
		x.offered = x.e.verifier.offers(x.ruling, keyOfPeer(x.e.role.other(), key))
	}
	for _, k := range x.offered {
		out = append(out, offer{k.session, k.digest})
	}
	return out
}
