// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// NonceSize is how many random bytes a nonce has.
const NonceSize = 32

// Challenge is the answer to POST /v1/challenges.
type Challenge struct {
	Nonce   evidence.Bytes `json:"nonce"`   // 32 random bytes, for evidence and once
	Expires time.Time      `json:"expires"` // time until which evidence is taken, by the clock of the service
}

// Request is the body of POST /v1/appraisals.
type Request struct {
	Nonce     evidence.Bytes `json:"nonce"`              // nonce of a challenge
	Evidence  jsontext.Value `json:"evidence"`           // the document of the machine, as api/schemas/evidence.json describes it
	PublicKey evidence.Bytes `json:"publicKey,omitzero"` // key that the client sees in use, exactly as in the statement; absent: not compared
	UserData  evidence.Bytes `json:"userData,omitzero"`  // user data that the client expects; absent: not compared
	CertifyAK bool           `json:"certifyAK,omitzero"` // with the answer, a certificate of the attestation key is wanted
}

// Answer is the answer to POST /v1/appraisals. Refused evidence has an answer too: read the verdict.
type Answer struct {
	Appraisal *verify.Appraisal `json:"appraisal"`
	Token     string            `json:"token,omitzero"` // signed token of the result; absent for refused evidence, and if the service has no keys

	// AKCertificate is absent for refused evidence, if none was asked for, and if Uncertified says why.
	AKCertificate *AKCertificate `json:"akCertificate,omitzero"` // certificate of the attestation key
	Uncertified   string         `json:"uncertified,omitzero"`   // why the attestation key of accepted evidence was not certified, for people
}

// challenge gives out a nonce. A store that cannot keep it gives out none.
func (s *Service) challenge(w http.ResponseWriter, r *http.Request) (*answered, error) {
	b, err := s.body(w, r, 1<<10)
	if err != nil {
		return nil, err
	}
	if err := strictjson.Decode(b, len(b), new(struct{})); len(b) > 0 && err != nil {
		return nil, refused(api.CodeMalformed, "want an empty body or {}: "+err.Error())
	}
	now := s.c.Now()
	c := Challenge{Nonce: make([]byte, NonceSize), Expires: now.UTC().Add(s.c.Lifetime).Truncate(time.Second)}
	rand.Read(c.Nonce) // it never fails: the process ends otherwise
	err = s.c.Challenges.Put(r.Context(), [NonceSize]byte(c.Nonce), now, c.Expires)
	if errors.Is(err, ErrFull) {
		return nil, &refusal{api.Problem{Code: api.CodeBusy, Detail: "too many challenges wait for evidence: ask again soon", RetryAfter: 10}}
	}
	if err != nil {
		return nil, fmt.Errorf("keep a challenge: %w", err)
	}
	return encoded(c)
}

// appraise takes the challenge, appraises the evidence, and keeps what the log says.
func (s *Service) appraise(w http.ResponseWriter, r *http.Request) (*answered, error) {
	select {
	case s.busy <- struct{}{}:
		defer func() { <-s.busy }()
	default:
		return nil, &refusal{api.Problem{Code: api.CodeBusy, Detail: "too many appraisals at once: ask again soon", RetryAfter: 1}}
	}
	q, err := s.request(w, r)
	if err != nil {
		return nil, err
	}
	ctx, now := r.Context(), s.c.Now()
	given, taken, err := s.c.Challenges.Take(ctx, [NonceSize]byte(q.Nonce), now)
	if err != nil {
		return nil, fmt.Errorf("take a challenge: %w", err)
	}
	if !taken {
		return nil, refused(CodeChallenge, "ask for a new one with POST /v1/challenges, and for new evidence")
	}
	verifier, policy, err := s.inForce(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.judge(ctx, verifier, q, visit{given: given, now: now})
	if err != nil {
		return nil, err
	}
	answer := Answer{Appraisal: found.Appraisal, AKCertificate: found.Certificate, Uncertified: found.uncertified}
	if answer.Token, err = s.token(policy, found.Appraisal, q.Nonce); err != nil {
		return nil, err
	}
	return encoded(answer)
}

// inForce returns the policy in force, with its verifier.
func (s *Service) inForce(ctx context.Context) (*verify.Verifier, *verify.Policy, error) {
	v, p, err := s.c.Policies(ctx)
	if errors.Is(err, ErrNoPolicy) {
		return nil, nil, refused(api.CodeNoSuchPath, "no policy is in force here any more: its administrator puts one")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("policy in force: %w", err)
	}
	return v, p, nil
}

// request reads a request for an appraisal. What it refuses has used no challenge.
func (s *Service) request(w http.ResponseWriter, r *http.Request) (*Request, error) {
	b, err := s.body(w, r, s.c.Body)
	if err != nil {
		return nil, err
	}
	var q Request
	if err := strictjson.Decode(b, s.c.Body, &q); err != nil {
		return nil, refused(api.CodeMalformed, err.Error())
	}
	switch {
	case len(q.Nonce) != NonceSize:
		return nil, refused(api.CodeMalformed, fmt.Sprintf("want a nonce of %d bytes: that of a challenge", NonceSize))
	case q.Evidence.Kind() != '{':
		return nil, refused(api.CodeMalformed, "want evidence: the document as it is, and not as text")
	case q.PublicKey != nil && (len(q.PublicKey) == 0 || len(q.PublicKey) > evidence.MaxPublicKey):
		return nil, refused(api.CodeMalformed, fmt.Sprintf("want a publicKey of 1 to %d bytes, or none", evidence.MaxPublicKey))
	case q.UserData != nil && (len(q.UserData) == 0 || len(q.UserData) > evidence.MaxUserData):
		return nil, refused(api.CodeMalformed, fmt.Sprintf("want userData of 1 to %d bytes, or none", evidence.MaxUserData))
	}
	return &q, nil
}

// token returns a token about an appraisal, nothing if none is to be made.
func (s *Service) token(p *verify.Policy, a *verify.Appraisal, nonce []byte) (string, error) {
	if s.c.Keys == nil || a.Verdict != verify.Pass {
		return "", nil
	}
	all := s.c.Keys()
	if len(all) == 0 {
		return "", errors.New("no key signs tokens")
	}
	o := s.c.Token
	o.Nonce = nonce
	token, err := ear.Token(all[0], p, a, o)
	return string(token), err
}

// jwks answers with the public keys of tokens.
func (s *Service) jwks(http.ResponseWriter, *http.Request) (*answered, error) {
	if s.c.Keys == nil {
		return nil, refused(api.CodeNoSuchPath, "this service makes no tokens")
	}
	var public []crypto.PublicKey
	for _, k := range s.c.Keys() {
		public = append(public, k.Public())
	}
	b, err := ear.KeySet(public...)
	return &answered{"application/jwk-set+json", b}, err
}
