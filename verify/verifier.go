// SPDX-License-Identifier: Apache-2.0

// Package verify checks evidence. It is what a relying party imports: pure Go, no
// device, no daemon, no network, no clock of its own. The same document, the same
// policy and the same time give the same result everywhere.
//
//	policy, err := verify.ParsePolicy(text)
//	...
//	v, err := verify.New(policy, verify.Config{})
//	...
//	claims, err := v.Verify(document, verify.Expect{Nonce: nonce}, time.Now())
//	if err != nil {
//		return err // refused: a *RefusedError contains every check
//	}
//	use(claims.Statement.PublicKey)
//
// A [Verifier] has what does not change between requests: policy, roots, certificates,
// revocation lists and a cache. [Expect] has what one request expects of its answer.
//
// # Refused is an error
//
// [Verifier.Verify] returns claims only of evidence that it accepted. Every refusal is a
// [*RefusedError], which contains the [Appraisal]: class, exit code and every check.
// [Verifier.Appraise] is for tools that show every check. Its error says nothing about
// the evidence, and [Appraisal.Claims] is the only way from it to the claims.
//
// # What an appraisal is
//
// An appraisal runs a fixed list of checks, [Definitions]. Every check of the list is in
// every appraisal with a verdict: pass, fail, or not-asserted. A check that could not run
// because an earlier one failed is not-asserted and required, and evidence with such a
// check is refused. A check that nothing asked for (no TCB floor in the policy, no log in
// the evidence) is not-asserted and not required; it is listed all the same, so that
// silence is not mistaken for proof. docs/checks.md names the attack that each check
// stops, docs/policy.md every key of a policy.
//
// # What is concluded
//
// [Basis] tells on whose word a check passed, a claim rests, and the verdict as a whole. The
// processor vouches for the launch alone. What evidence says of PCR values, log, agent,
// caller and key is the word of the guest, and so of root of any guest with that launch
// measurement, which needs no TPM to say it. It is more than that only if the policy knows
// the attestation key, or lists a launch that covers everything that can become root. A
// policy can demand that ([BasisDemands]).
//
// [Binding] tells what ties the vTPM to the report: the structure that was found, if the
// policy lists the launch measurement as of that kind, and otherwise the guest's word. A
// report alone cannot show where a vTPM runs, since a plain guest can imitate any structure
// inside REPORT_DATA.
//
// [Verifier.VerifyReport], [Verifier.VerifyParavisor] and [Verifier.AppraiseQuote] put
// what other systems record through the same checks, if it has what they need.
package verify

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Config is what a [Verifier] trusts and knows besides its policy. The zero value
// trusts the roots that are built in.
type Config struct {
	Roots        Roots      // of the platforms' keys
	Certificates [][]byte   // X.509 DER, in addition to those in the evidence; unverified
	Revocation   Revocation // lists of the roots; those of other roots are ignored

	// IMAReferences are files of digests that the policy names by their SHA-256, as "agentctl
	// policy ima-reference" writes them. Each that it names must be there.
	IMAReferences [][]byte

	// Enrolments are those apart from the policy, for evidence that is appraised without
	// Expect.Enrolments. See there.
	Enrolments *keys.Enrolments

	// PolicyExpires is when the policy expires, as the label of a [SignedPolicy] says; zero: never. It
	// ends [Appraisal.SupportedUntil]. Whether the policy is in force is for the caller to check.
	PolicyExpires time.Time

	// CacheEntries is the number of verified reports, revocation lists and chains to
	// remember, each of about 30 KB; 0 remembers nothing. What depends on time or
	// policy is checked every time.
	CacheEntries int
}

// Roots are the root keys that a verifier trusts, by platform.
type Roots struct {
	SNP *snp.Roots // nil: AMD's, which are built in
}

// Revocation contains revocation lists, by platform.
type Revocation struct {
	SNP []*snp.RevocationList
}

// A Verifier appraises evidence under one policy. Many goroutines may use one at the
// same time.
type Verifier struct {
	policy    *rule.Compiled
	platforms report.Platforms
	given     [][]byte         // Config.Certificates
	enrolled  *keys.Enrolments // Config.Enrolments
	expires   time.Time        // Config.PolicyExpires
	cache     *cache.Cache     // nil if nothing is remembered

	// ignored are checks that count as passed whatever they found. Tests show with it that
	// each check is the only one that stops its attack.
	ignored map[CheckID]bool
}

// builtIn returns AMD's roots, which are read when they are first needed.
var builtIn = sync.OnceValues(snp.AMDRoots)

// New returns a Verifier for a copy of a policy. The error is [ErrMisuse] if the policy
// is refused or absent: there is no default, since what is acceptable depends on the
// relying party.
func New(p *Policy, c Config) (*Verifier, error) {
	if p == nil {
		return nil, misuse("no policy: there is no default, since what is acceptable depends on the relying party")
	}
	if c.CacheEntries < 0 {
		return nil, misuse("a cache of %d entries", c.CacheEntries)
	}
	if c.Roots.SNP == nil {
		roots, err := builtIn()
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		c.Roots.SNP = roots
	}
	compiled, err := p.Compile()
	if err != nil {
		return nil, misuse("%w", err)
	}
	if err := compiled.Refer(c.IMAReferences); err != nil {
		return nil, misuse("%w", err)
	}
	v := &Verifier{policy: compiled, given: slices.Clone(c.Certificates), enrolled: c.Enrolments, expires: c.PolicyExpires}
	if c.CacheEntries > 0 {
		v.cache = cache.New(c.CacheEntries)
	}
	amd := &sevsnp.Platform{Roots: c.Roots.SNP, Lists: slices.Clone(c.Revocation.SNP), Certificates: v.given, Cache: v.cache}
	v.platforms = report.Platforms{
		evidence.ReportSNP:       amd,
		evidence.ReportParavisor: &paravisor.Platform{SNP: amd},
		evidence.ReportSVSM:      &sevsnp.SVSM{SNP: amd},
	}
	return v, nil
}

// Verify checks a document and returns its claims. Every refusal is a [*RefusedError],
// which contains the appraisal; every other error is [ErrMisuse]. Now is the time of
// the appraisal: this package never reads a clock.
func (v *Verifier) Verify(document []byte, expect Expect, now time.Time) (*Claims, error) {
	return claimsOf(v.Appraise(document, expect, now))
}

// VerifyReport checks a bare report and returns its claims, like [Verifier.Verify].
func (v *Verifier) VerifyReport(r RawReport, expect Expect, now time.Time) (*Claims, error) {
	return claimsOf(v.AppraiseReport(r, expect, now))
}

// VerifyParavisor checks a paravisor's set and returns its claims, like [Verifier.Verify].
func (v *Verifier) VerifyParavisor(s AzureSet, expect Expect, now time.Time) (*Claims, error) {
	return claimsOf(v.AppraiseParavisor(s, expect, now))
}

func claimsOf(a *Appraisal, err error) (*Claims, error) {
	if err != nil {
		return nil, err
	}
	return a.Claims()
}
