// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"fmt"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// basePolicy accepts what evidencetest.New makes. Cases put root keys before its
// tables and further tables after them.
const basePolicy = `version = 1
%s

[[launch]]
measurement = "%s"
kind = "plain"
covers = "firmware+kernel+cmdline"
label = "test firmware"
%s
`

// policyText is basePolicy with root keys and tables of a case.
func makePolicy(root, tables string) string {
	return fmt.Sprintf(basePolicy, root, hex.EncodeToString(evidencetest.Measurement), tables)
}

func mustPolicy(tb testing.TB, text string) *Policy {
	tb.Helper()
	p, err := ParsePolicy([]byte(text))
	if err != nil {
		tb.Fatalf("%v\n%s", err, text)
	}
	return p
}

// options is everything that an appraisal takes, so that a test can change one thing.
type options struct {
	Policy       *Policy
	Nonce        []byte
	AcceptReplay bool
	Audience     string
	PublicKey    []byte
	UserData     []byte
	ReportData   []byte
	LogState     *LogState
	NewHistory   bool
	IMAList      []byte   // nil: none
	References   [][]byte // of files that IMA measured
	Time         time.Time
	Certificates [][]byte
	Expected     [][]byte // certificates for this material
	Enrolments   *keys.Enrolments
	Roots        *snp.Roots
	Revocation   []*snp.RevocationList
	Cache        *cache.Cache
	Expires      time.Time // of the policy
}

func (o options) verifier() (*Verifier, error) {
	v, err := New(o.Policy, Config{Roots: Roots{SNP: o.Roots}, Certificates: o.Certificates, Revocation: Revocation{SNP: o.Revocation}, IMAReferences: o.References, PolicyExpires: o.Expires})
	if err == nil {
		v.cache, v.platforms[evidence.ReportSNP].(*sevsnp.Platform).Cache = o.Cache, o.Cache
	}
	return v, err
}

func (o options) expect() Expect {
	var list iter.Seq2[[]byte, error]
	if o.IMAList != nil {
		list = ima.Whole(o.IMAList)
	}
	return Expect{IMAList: list, Nonce: o.Nonce, UnsafeAcceptReplay: o.AcceptReplay, Audience: o.Audience, PublicKey: o.PublicKey,
		UserData: o.UserData, ReportData: o.ReportData, LogState: o.LogState, NewHistory: o.NewHistory, Certificates: o.Expected, Enrolments: o.Enrolments}
}

// with appraises one material, with some checks ignored.
func (o options) with(ignored map[CheckID]bool, material any) (*Appraisal, error) {
	v, err := o.verifier()
	if err != nil {
		return nil, err
	}
	v.ignored = ignored
	switch m := material.(type) {
	case []byte:
		return v.Appraise(m, o.expect(), o.Time)
	case RawReport:
		return v.AppraiseReport(m, o.expect(), o.Time)
	case AzureSet:
		return v.AppraiseParavisor(m, o.expect(), o.Time)
	case QuoteSet:
		return v.AppraiseQuote(m, o.expect(), o.Time)
	}
	return nil, fmt.Errorf("material of type %T", material)
}

// beginWith readies an appraiser for a test of one step.
func beginWith(t *testing.T, o options) *appraiser {
	t.Helper()
	v, err := o.verifier()
	if err != nil {
		t.Fatal(err)
	}
	a, err := v.begin(MaterialEvidence, o.expect(), o.Time)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func appraiseEvidence(document []byte, o options) (*Appraisal, error) { return o.with(nil, document) }
func appraiseReport(r RawReport, o options) (*Appraisal, error)       { return o.with(nil, r) }
func appraiseParavisor(s AzureSet, o options) (*Appraisal, error)     { return o.with(nil, s) }
func appraiseQuote(s QuoteSet, o options) (*Appraisal, error)         { return o.with(nil, s) }

func baseOptions(tb testing.TB) options {
	tb.Helper()
	return options{
		Policy: mustPolicy(tb, makePolicy("", "")),
		Nonce:  evidencetest.Nonce,
		Time:   evidencetest.Time,
		Roots:  evidencetest.Roots(tb),
	}
}

// anchored turns a recipe into one of anchored evidence.
func anchored(r *evidencetest.Recipe) {
	r.Anchored = true
	r.Statement.Freshness = evidence.Anchored
}

const anchoredPolicy = "freshness = \"anchored\"\nmax_anchor_age = \"2m\""

// failedIDs lists the checks that failed, without those that were not reached.
func failedIDs(a *Appraisal) []CheckID {
	var ids []CheckID
	for _, c := range a.Checks {
		if c.Verdict == Fail {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

func explain(a *Appraisal) string {
	var b strings.Builder
	for _, c := range a.Checks {
		if c.Verdict == Fail || c.Verdict == NotAsserted && c.Required {
			fmt.Fprintf(&b, "%s %s: %s (expected %s, found %s)\n", c.Verdict, c.ID, c.Sentence, c.Expected, c.Found)
		}
	}
	return b.String()
}

// says reports whether one of the sentences for people contains this text.
func says(a *Appraisal, text string) bool {
	for _, s := range a.Sentences {
		if strings.Contains(s, text) {
			return true
		}
	}
	return false
}
