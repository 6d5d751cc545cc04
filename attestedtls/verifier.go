// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// VerifierOptions says how a [Verifier] judges, besides its policy. The zero value is usual.
type VerifierOptions struct {
	// Config is what the verifier trusts and knows. If CacheEntries is 0, it remembers 64
	// reports and chains, since one report serves many connections.
	Config verify.Config

	// Audience is the name of this verifier, which evidence must contain. Empty: none.
	Audience string

	// AcceptAnyCaller accepts a policy that does not name the caller. Then every program of an
	// accepted machine can have evidence made for a connection that is not its own: an attacker
	// with a copy of the leaf's key needs only such an accomplice.
	AcceptAnyCaller bool

	// JudgeOpen has [Verifier.Replace] judge open connections again by the evidence that they
	// showed, and close those that are refused. Their evidence is kept meanwhile, and their verdict
	// is then the new one. Without it a connection keeps the verdict of the policy that was in
	// force when it was made. The end of a signed policy is judged in the same way.
	JudgeOpen bool

	// Continue lets later connections to the same process, with the same certificate, rest on
	// accepted evidence for so long after it was shown: no quote is made for them, and they cost
	// little more than TLS. What the evidence says is then of that moment, up to Continue ago, and a
	// secret that leaks from the memory of either process serves for as long
	// (docs/attested-tls.md, section 5). The age of the report counts on, so that
	// max_anchor_age of the policy is kept. 0: never; at most [MaxContinue]. A policy that asks
	// for fresh reports never continues, and neither does an end with Fresh.
	Continue time.Duration

	// MaxEvidence is the largest document that is read, in bytes. 0: 2 MiB, the least; at most
	// evidence.MaxEvidence. Documents are usually below 20 KB.
	MaxEvidence int

	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Verifier judges the evidence of other ends under a policy, which can be replaced while it runs.
// Many ends may share one.
type Verifier struct {
	options VerifierOptions
	large   *places // of reading more than maxMessage
	memory  *memory

	mu   sync.Mutex // guards the two below
	now  *ruling    // in force; never changed, only replaced
	open map[*Conn]*standing
}

// ruling is a policy in force.
type ruling struct {
	verifier    *verify.Verifier
	freshness   evidence.Freshness
	firmwareLog bool
	maxAge      time.Duration // of an anchor; 0: any
	ends        time.Time     // when it expires; zero: never
	ended       bool          // it expired, also if the clock goes back
}

const cacheEntries = 64

// NewVerifier returns a verifier under a copy of a policy. The error is [ErrMisuse], or
// verify.ErrMisuse, if the policy cannot be used. [NewSignedVerifier] is for a signed policy.
func NewVerifier(policy *verify.Policy, o VerifierOptions) (*Verifier, error) {
	return NewSignedVerifier(&verify.SignedPolicy{Policy: policy}, o)
}

// NewSignedVerifier returns a verifier under a copy of a signed policy, as [NewVerifier] does. If its
// label says when it expires, no evidence is accepted from then on: it is refused with code "policy",
// until another policy is in force. A hook that warns lets what the policy accepted pass.
func NewSignedVerifier(policy *verify.SignedPolicy, o VerifierOptions) (*Verifier, error) {
	switch {
	case o.MaxEvidence != 0 && o.MaxEvidence < leastLargest, o.MaxEvidence > evidence.MaxEvidence:
		return nil, misuse("MaxEvidence is %d, want %d to %d", o.MaxEvidence, leastLargest, evidence.MaxEvidence)
	case o.Continue < 0 || o.Continue > MaxContinue:
		return nil, misuse("Continue is %v, want 0 to %v", o.Continue, MaxContinue)
	case len(o.Audience) > evidence.MaxAudience:
		return nil, misuse("an audience of %d bytes, at most %d", len(o.Audience), evidence.MaxAudience)
	}
	o.MaxEvidence = cmp.Or(o.MaxEvidence, leastLargest)
	if o.Now == nil {
		o.Now = time.Now
	}
	v := &Verifier{options: o, large: newPlaces(), memory: newMemory(), open: map[*Conn]*standing{}}
	var err error
	if v.now, err = v.rule(policy, o.Config); err != nil {
		return nil, err
	}
	v.watch(v.now)
	return v, nil
}

// rule readies a policy.
func (v *Verifier) rule(signed *verify.SignedPolicy, c verify.Config) (*ruling, error) {
	policy := signed.Policy
	c.CacheEntries, c.PolicyExpires = cmp.Or(c.CacheEntries, cacheEntries), cmp.Or(signed.Label.Expires, c.PolicyExpires)
	verifier, err := verify.New(policy, c)
	if err != nil {
		return nil, err
	}
	if policy.Caller.Unit == "" && policy.Caller.Container == "" && !v.options.AcceptAnyCaller {
		return nil, misuse("the policy does not name the caller (caller.unit or caller.container), so that any program of an accepted machine could have evidence made for any connection: name it, or set AcceptAnyCaller")
	}
	ima := policy.IMA != verify.IMA{} || len(policy.IMAFiles) > 0
	if policy.Continuation == verify.Required || ima && policy.IMA.List != verify.Optional {
		return nil, misuse("the policy asks for an earlier state of the log (continuation), or for the list of IMA (ima.list), and a connection has neither: every other end would be refused")
	}
	r := &ruling{verifier: verifier, freshness: evidence.Anchored, firmwareLog: policy.FirmwareLog == verify.Required, maxAge: time.Duration(policy.MaxAnchorAge), ends: signed.Label.Expires}
	if r.over(v.options.Now()) {
		return nil, misuse("the policy expired at %s", r.ends.Format(time.RFC3339))
	}
	if cmp.Or(policy.Freshness, verify.FreshReport) == verify.FreshReport {
		r.freshness = evidence.Fresh
	}
	return r, nil
}

// current returns the policy in force.
func (v *Verifier) current() *ruling {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.now
}

// Replace puts another policy into force, and what the verifier trusts and knows. New connections
// follow it. If JudgeOpen is set, open connections are judged again, and Replace returns how many
// it closed. A connection that another call is judging at that moment is left to that one. If the
// error is not nil, nothing changed.
func (v *Verifier) Replace(policy *verify.Policy, c verify.Config) (closed int, err error) {
	return v.ReplaceSigned(&verify.SignedPolicy{Policy: policy}, c)
}

// ReplaceSigned puts a signed policy into force, as Replace does, until it expires.
func (v *Verifier) ReplaceSigned(policy *verify.SignedPolicy, c verify.Config) (closed int, err error) {
	r, err := v.rule(policy, c)
	if err != nil {
		return 0, err
	}
	v.mu.Lock()
	v.now = r
	v.mu.Unlock()
	v.watch(r)
	return v.apply(), nil
}

// bound is what evidence must be bound to, besides what verify.Expect says.
type bound struct {
	role     role
	exporter []byte
	fresh    bool // a report of its own was asked for
}

// judge judges a document. A refusal is in the verdict.
func (v *Verifier) judge(r *ruling, document []byte, expect verify.Expect, b bound) *Verdict {
	out := &Verdict{Document: document, Evidence: sha256.Sum256(document), Time: v.options.Now(), expect: expect, bound: b}
	appraisal, err := r.verifier.Appraise(document, expect, out.Time)
	if err != nil {
		out.Refusal = &Error{Code: CodeForged, Verdict: out, Err: err}
		return out
	}
	out.Appraisal = appraisal
	claims, err := appraisal.Claims()
	switch {
	case err != nil:
		out.Refusal = refuse(codeOf(appraisal, document, b), "%w", err)
	case b.fresh && appraisal.Freshness != verify.FreshReport:
		out.Refusal = refuse(CodeFreshness, "the evidence has an anchored report, and a fresh one was asked for")
	case r.over(out.Time):
		out.Refusal = refuse(CodePolicy, "the policy expired at %s: put another one into force", r.ends.Format(time.RFC3339))
	default:
		out.Claims = claims
		return out
	}
	out.Refusal.Verdict = out
	return out
}

// codeOf returns the code of a refused appraisal (docs/attested-tls.md, section 7). If anything else
// is forged, it does not matter which connection the evidence claims to be for.
func codeOf(a *verify.Appraisal, document []byte, b bound) (code Code) {
	if b.fresh && a.Freshness == verify.AnchoredReport {
		return CodeFreshness
	}
	switch a.Class {
	case verify.ClassCollateral:
		return CodeCollateral
	case verify.ClassRevoked:
		return CodeRevoked
	case verify.ClassPolicy:
		return CodePolicy
	}
	failed := map[verify.CheckID]bool{}
	for _, c := range a.Failed() {
		failed[c.ID] = c.Verdict == verify.Fail
	}
	for _, known := range []struct {
		id   verify.CheckID
		code Code
	}{{"statement.nonce", CodeNonce}, {"statement.audience", CodeAudience}, {"statement.public-key", CodeKey}, {"statement.user-data", misboundIn(document, b)}} {
		if failed[known.id] {
			delete(failed, known.id)
			code = cmp.Or(code, known.code)
		}
	}
	for id, is := range failed {
		if is && a.Check(id).Class == verify.ClassBinding {
			return CodeForged
		}
	}
	return cmp.Or(code, CodeForged)
}

// misboundIn says why the user data of a document is not what was expected.
func misboundIn(document []byte, b bound) Code {
	e, err := evidence.Parse(document)
	if err != nil {
		return CodeForged
	}
	s, err := evidence.ParseStatement(e.Statement)
	if err != nil {
		return CodeForged
	}
	return misbound(s.UserData, b.role, b.exporter)
}

// publicKeyOf returns the SubjectPublicKeyInfo of the certificate of the other end.
func publicKeyOf(certificates []*x509.Certificate) ([]byte, error) {
	if len(certificates) == 0 {
		return nil, fmt.Errorf("the other end showed no certificate")
	}
	return certificates[0].RawSubjectPublicKeyInfo, nil
}
