// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
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
	cache     *cache.Cache // nil if nothing is remembered
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
	v := &Verifier{policy: compiled}
	if c.CacheEntries > 0 {
		v.cache = cache.New(c.CacheEntries)
	}
	v.platforms = report.Platforms{
		evidence.ReportSNP: &sevsnp.Platform{Roots: c.Roots.SNP, Lists: slices.Clone(c.Revocation.SNP), Certificates: slices.Clone(c.Certificates), Cache: v.cache},
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

// Appraise checks a document and returns every check with its verdict. It is for tools
// that show them: a nil error says nothing about the evidence, see [Appraisal.Claims].
// The error is [ErrMisuse]; everything about the evidence, however broken, is in the
// appraisal.
func (v *Verifier) Appraise(document []byte, expect Expect, now time.Time) (*Appraisal, error) {
	return v.appraise(document, expect, now, nil)
}

// AppraiseReport appraises a bare report. [Expect.ReportData], or [Expect.Nonce], is
// compared with its REPORT_DATA, followed by zeros if shorter. Whether report data
// contains a nonce, or anything new, is the claim of the caller who states it. There is
// no vTPM in it: only a policy with binding = "none" and log = "optional" accepts it.
func (v *Verifier) AppraiseReport(r RawReport, expect Expect, now time.Time) (*Appraisal, error) {
	return v.appraiseReport(r, expect, now, nil)
}

// AppraiseParavisor appraises what an Azure paravisor vouches for. [Expect.Nonce] is
// compared with the quote, [Expect.UserData] with the user data in the runtime data.
// Only if the latter contains the nonce, of 16 bytes or more, is the report as new as
// the quote. Otherwise nothing says when it was made, and the policy must say
// freshness = "any".
func (v *Verifier) AppraiseParavisor(s AzureSet, expect Expect, now time.Time) (*Appraisal, error) {
	return v.appraiseParavisor(s, expect, now, nil)
}

// AppraiseQuote appraises a quote alone. It is never accepted, since nothing is known
// of the machine; its checks tell whether the quote itself is sound.
func (v *Verifier) AppraiseQuote(s QuoteSet, expect Expect, now time.Time) (*Appraisal, error) {
	return v.appraiseQuote(s, expect, now, nil)
}
