// SPDX-License-Identifier: Apache-2.0

// Package ear writes an appraisal as a signed token, for programs that know nothing of evidence: secret
// stores, policy engines, identity providers.
//
// The token is an EAT Attestation Result (draft-ietf-rats-ear) in a JWT (RFC 7519), signed with ES256
// (ECDSA on P-256) or EdDSA (Ed25519). It says in the words of AR4SI (draft-ietf-rats-ar4si) what was
// proven, under which policy, and until when that may be believed. docs/tokens.md has each claim.
//
//	key, err := ear.NewKey(signer)
//	...
//	token, err := ear.Token(key, policy, appraisal, ear.Options{Audience: "https://vault.example", Nonce: nonce, Build: "verifier 1.2"})
//
// # What a token claims
//
// A token never says more than its appraisal. An aspect that nothing proved is absent, or 0. A refused
// appraisal gives a token only if [Options.Refused] asks for it, and its status is contraindicated.
// A token is not valid for longer than what the appraisal rests on ([verify.Appraisal.SupportedUntil]).
//
// # What it does not replace
//
// Who has the signing key can claim anything: a relying party trusts that key as it would trust a
// verifier of its own. A token is a bearer token: until it ends, each party that has a copy can present
// it to its audience. So lifetimes are short.
//
// The same appraisal, options and key give the same bytes.
package ear

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify"
)

// Limits.
const (
	MaxLifetime = 24 * time.Hour // of a token
	MaxName     = 1024           // bytes of issuer, audience and build
	MaxToken    = 16 << 10       // bytes of a token: HTTP servers take little more in a header
)

// DefaultLifetime is how long a token is valid if nothing else is said.
const DefaultLifetime = 5 * time.Minute

const (
	submodule = "agentd"                               // name of the one submodule of each token: the machine with the programs on it
	developer = "https://github.com/cvm-agentd/agentd" // of the verifier
)

// Profile is the value of eat_profile. It tells how the claims of EAR are spelled.
type Profile string

// Profiles.
const (
	// Profile2023 has names such as ear.status. The libraries that read EAR today know it: those of
	// Veraison and Trustee.
	Profile2023 Profile = "tag:github.com,2023:veraison/ear"
	// Profile2026 has names such as ear_status, as draft-ietf-rats-ear-03 has them.
	Profile2026 Profile = "tag:ietf.org,2026:rats/ear#03"
)

// spelling is how a profile spells its claims.
type spelling struct {
	verifier, status, vector, policy, details string
	lists                                     bool // policies are a list, the overall status and the nonce of the evidence have claims
}

var spellings = map[Profile]spelling{
	Profile2023: {verifier: "ear.verifier-id", status: "ear.status", vector: "ear.trustworthiness-vector", policy: "ear.appraisal-policy-id", details: "ear.agentd"},
	Profile2026: {verifier: "ear_verifier_id", status: "ear_status", vector: "ear_trustworthiness_vector", policy: "ear_appraisal_policy_ids", details: "ear_agentd", lists: true},
}

// Options say what a token contains besides the appraisal.
type Options struct {
	Audience string        // the party that the token is for; required
	Nonce    []byte        // that the verifier expected of the evidence, 16 to 64 bytes; required
	Build    string        // program and version that verified, such as "agentctl 0.1.0"; required
	Issuer   string        // the party that verified; empty: the key, by its thumbprint (RFC 9278)
	Lifetime time.Duration // 0: DefaultLifetime; at most MaxLifetime
	Profile  Profile       // empty: Profile2023
	Machine  bool          // name chip, boot and attestation key, by which relying parties can recognise the machine
	Refused  bool          // a refused appraisal gives a token too, with status contraindicated
}

// ErrRefused is returned for a refused appraisal if no token of that kind was asked for.
var ErrRefused = errors.New("ear: the evidence was refused, and a token for refused evidence was not asked for")

// Token returns a token about an appraisal of evidence under this policy, as compact JWS. Its error is
// [ErrRefused], or says which option or appraisal gives no token.
func Token(k *Key, p *verify.Policy, a *verify.Appraisal, o Options) ([]byte, error) {
	claims, err := claimsOf(k, p, a, o)
	if err != nil {
		return nil, err
	}
	token, err := k.sign(claims)
	if err == nil && len(token) > MaxToken {
		return nil, fmt.Errorf("ear: a token of %d bytes, at most %d: the policy lists too many applications", len(token), MaxToken)
	}
	return token, err
}

// check completes the options, and refuses what makes no token.
func (o *Options) check(k *Key) error {
	if o.Profile == "" {
		o.Profile = Profile2023
	}
	if o.Issuer == "" {
		o.Issuer = "urn:ietf:params:oauth:jwk-thumbprint:sha-256:" + k.ID()
	}
	if o.Lifetime == 0 {
		o.Lifetime = DefaultLifetime
	}
	if _, known := spellings[o.Profile]; !known {
		return fmt.Errorf("ear: profile %s, want one of %q", text.Excerpt(o.Profile), slices.Sorted(maps.Keys(spellings)))
	}
	if o.Lifetime < time.Second || o.Lifetime > MaxLifetime {
		return fmt.Errorf("ear: a lifetime of %v, want %v to %v", o.Lifetime, time.Second, MaxLifetime)
	}
	for _, x := range []struct{ name, value string }{{"audience", o.Audience}, {"build", o.Build}, {"issuer", o.Issuer}} {
		if err := text.Check(x.name, x.value, 1, MaxName); err != nil {
			return fmt.Errorf("ear: %w", err)
		}
	}
	if err := text.Size("nonce", len(o.Nonce), evidence.MinNonce, evidence.MaxNonce); err != nil {
		return fmt.Errorf("ear: %w", err)
	}
	return nil
}

// claimsOf returns the claims of a token as JSON, with the members in order.
func claimsOf(k *Key, p *verify.Policy, a *verify.Appraisal, o Options) ([]byte, error) {
	if err := o.check(k); err != nil {
		return nil, err
	}
	if p.Digest().String() != a.Policy {
		return nil, errors.New("ear: the appraisal is not one under this policy")
	}
	if a.Material != verify.MaterialEvidence {
		return nil, fmt.Errorf("ear: the material is %s: only evidence answers a nonce of the verifier in all its parts", a.Material)
	}
	ends, err := end(a, o.Lifetime)
	if err != nil {
		return nil, err
	}
	names := spellings[o.Profile]
	claims, refused := a.Claims()
	if refused != nil && a.Verdict != verify.Fail {
		return nil, fmt.Errorf("ear: an appraisal with the verdict %s and without claims: it was cut, or read from elsewhere", text.Excerpt(string(a.Verdict)))
	}
	v, d := new(vector), &details{Type: DetailsType, Verdict: a.Verdict}
	switch {
	case refused == nil && (!passed(a, "statement.nonce") || string(claims.Statement.Nonce) != string(o.Nonce)):
		return nil, errors.New("ear: no nonce was expected, or another one: a token would make old evidence look new")
	case refused == nil:
		v.affirm(p, a, claims)
		d.accepted(p, a, claims, o.Machine)
	case !o.Refused:
		return nil, ErrRefused
	default:
		v.refuse(a)
		d.refused(a)
	}
	nonce, policy := base64.RawURLEncoding.EncodeToString(o.Nonce), "sha256:"+a.Policy
	result := map[string]any{names.status: v.status(a.Verdict), names.vector: v, names.policy: policy, names.details: d}
	token := map[string]any{
		"eat_profile": o.Profile, "iat": a.Time.Unix(), "nbf": a.Time.Unix(), "exp": ends, "iss": o.Issuer, "aud": o.Audience, "sub": d.subject(),
		"eat_nonce": nonce, names.verifier: map[string]string{"developer": developer, "build": o.Build},
		"submods": map[string]any{submodule: result},
	}
	if names.lists {
		result[names.policy], token[names.status] = []string{policy}, v.status(a.Verdict)
		if refused == nil {
			result["eat_nonce"] = nonce
		}
	}
	return identified(token)
}

// identified adds jti, the digest of all other claims. A token that is made again is the same token.
func identified(token map[string]any) ([]byte, error) {
	b, err := strictjson.Encode(token)
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	sum := sha256.Sum256(b)
	token["jti"] = hex.EncodeToString(sum[:16])
	if b, err = strictjson.Encode(token); err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	return b, nil
}

// end returns exp, in seconds: never later than what the appraisal rests on.
func end(a *verify.Appraisal, lifetime time.Duration) (int64, error) {
	ends := a.Time.Add(lifetime)
	if until := a.SupportedUntil; a.Verdict == verify.Pass && until.Before(ends) {
		ends = until
	}
	if ends.Unix() <= a.Time.Unix() {
		return 0, fmt.Errorf("ear: what the verdict rests on ends at %s, so a token would be over at once", ends.UTC().Format(time.RFC3339))
	}
	return ends.Unix(), nil
}
