// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify"
)

// Request is what a relying party wants to deliver.
type Request struct {
	Challenge Challenge // that it made for this delivery
	App       string    // application that the secret is for
	Name      string    // name of the secret
	Replace   bool      // the secret replaces one of that name
	Sender    []byte    // public half of the relying party's key; nil: it has none

	MaxValidity uint32           // seconds that a ticket may be valid; 0: [MaxValidity]
	Known       *verify.LogState // earlier state of the machine's log; nil: none is known
	NewHistory  bool             // the log of another boot or machine begins a new history
}

// ErrNoRule is returned if a policy says nothing of the application.
var ErrNoRule = errors.New("the policy does not list the application")

// CheckPolicy refuses a policy under which any program could be the application.
func (r *Request) CheckPolicy(p *verify.Policy) error {
	for _, a := range p.Apps {
		if a.Name == r.App {
			if a.Required != nil && !*a.Required {
				return fmt.Errorf("%w %q as required", ErrNoRule, r.App)
			}
			return nil
		}
	}
	return fmt.Errorf("%w %q as [[app]], so any program could be it", ErrNoRule, r.App)
}

// Verified is what the evidence of a ticket showed.
type Verified struct {
	AgentKey  ed25519.PublicKey // of the agent that made the ticket, and will sign the receipt
	Log       *verify.LogState  // of the machine, to be known the next time
	Appraisal *verify.Appraisal // which accepted the evidence
}

// Verify verifies a ticket. The policy of v must be one that CheckPolicy accepts. If the evidence
// was refused, the error is a [*verify.RefusedError]; if the ticket is another one, or was not made
// by the agent of the evidence, it has a code.
func (r *Request) Verify(t *Ticket, v *verify.Verifier, now time.Time) (*Verified, error) {
	if err := r.asked(t); err != nil {
		return nil, err
	}
	id := t.ID()
	a, err := v.Appraise(t.Evidence, verify.Expect{Nonce: r.Challenge[:], Audience: Audience, UserData: id[:], LogState: r.Known, NewHistory: r.NewHistory}, now)
	if err != nil {
		return nil, err
	}
	claims, err := a.Claims()
	if err != nil {
		return nil, forged(err)
	}
	e, err := evidence.Parse(t.Evidence) // which was accepted, so its agent key is the one that the report vouches for
	if err != nil {
		return nil, err
	}
	if !ed25519.Verify(ed25519.PublicKey(e.AgentKey), t.vouched(), t.Signature) {
		return nil, refused(api.CodeTicketForged, "the agent of the evidence did not sign the ticket: another program may have asked for evidence over its own key")
	}
	if err := t.covered(claims); err != nil {
		return nil, err
	}
	return &Verified{AgentKey: ed25519.PublicKey(e.AgentKey), Log: claims.Log, Appraisal: a}, nil
}

// asked refuses a ticket that was made for something else.
func (r *Request) asked(t *Ticket) error {
	other := func(what string, got, want any) error {
		return refused(api.CodeOtherTicket, "the ticket is for another %s: %v, want %v", what, got, want)
	}
	switch {
	case t.Challenge != r.Challenge:
		return other("challenge", fmt.Sprintf("%x", t.Challenge), fmt.Sprintf("%x", r.Challenge))
	case t.App != r.App:
		return other("app", fmt.Sprintf("%q", t.App), fmt.Sprintf("%q", r.App))
	case t.Name != r.Name:
		return other("secret", fmt.Sprintf("%q", t.Name), fmt.Sprintf("%q", r.Name))
	case t.Replace != r.Replace:
		return other("change (whether it replaces a secret)", t.Replace, r.Replace)
	case !bytes.Equal(t.Sender, r.Sender):
		return other("sender", keyText(t.Sender), keyText(r.Sender))
	case r.MaxValidity > 0 && t.ValidFor > r.MaxValidity:
		return refused(api.CodeOtherTicket, "the ticket is valid for %d seconds, want at most %d: until then the machine stores what comes, also if you would not send it any more", t.ValidFor, r.MaxValidity)
	}
	return nil
}

func keyText(key []byte) string {
	if key == nil {
		return "any"
	}
	return fmt.Sprintf("%x", key)
}

// ofTicket are the checks that fail for evidence that was made for something else.
var ofTicket = []verify.CheckID{"statement.nonce", "statement.audience", "statement.user-data"}

// forged gives evidence that was made for something else the code of a forged ticket. Other errors
// of a verifier stay as they are.
func forged(err error) error {
	r, ok := errors.AsType[*verify.RefusedError](err)
	if !ok {
		return err
	}
	for _, c := range r.Appraisal.Failed() {
		if slices.Contains(ofTicket, c.ID) && c.Verdict == verify.Fail {
			return refused(api.CodeTicketForged, "the evidence was made for another ticket (%s)", c.ID)
		}
	}
	return err
}

// covered refuses a ticket for another content of the application than the log has now.
func (t *Ticket) covered(claims *verify.Claims) error {
	if claims.Log == nil {
		return refused(api.CodeAppChanged, "the evidence has no log, so nothing says what app %q is", t.App)
	}
	i := slices.IndexFunc(claims.Log.Apps, func(a verify.AppClaim) bool { return a.Name == t.App })
	if i < 0 {
		return refused(api.CodeAppChanged, "app %q is not in the log", t.App)
	}
	a := &claims.Log.Apps[i]
	switch {
	case a.Covered() == nil:
		return refused(api.CodeAppChanged, "app %q is not covered any more: its files may have changed", t.App)
	case a.Versions[a.Current].Digest != t.Digest:
		return refused(api.CodeAppChanged, "the ticket is for app %q with digest %v, and the log has it with %v", t.App, t.Digest, a.Versions[a.Current].Digest)
	}
	return nil
}

// Verify checks that the agent whose ticket was verified stored what was encrypted.
func (r *Receipt) Verify(agent ed25519.PublicKey, ticket, sealed evidence.Digest) error {
	switch {
	case r.Ticket != ticket:
		return refused(api.CodeReceiptForged, "the receipt is of another ticket: %v, want %v", r.Ticket, ticket)
	case r.Sealed != sealed:
		return refused(api.CodeReceiptForged, "another message than the one that was sent was opened: %v, want %v. If the signature is right, the machine has a secret that another party chose", r.Sealed, sealed)
	case len(agent) != ed25519.PublicKeySize || !ed25519.Verify(agent, r.vouched(), r.Signature):
		return refused(api.CodeReceiptForged, "the agent that vouched for the ticket did not sign the receipt")
	}
	return nil
}
