// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/sevsnp"
	"github.com/cvm-agentd/agentd/verify/internal/statement"
)

// subject returns what an appraiser has established, for the rules of a policy.
func (a *appraiser) subject() *rule.Subject {
	m := a.material
	s := &rule.Subject{
		Material: rule.Material{Statement: m == MaterialEvidence, Report: m != MaterialQuote, Quote: m != MaterialReport},
		AK:       a.ak,
		Tie:      rule.Tie{Structure: a.structure, Binding: a.binding, See: a.untied()},
		Age:      a.age(),
		Explained: func(bank pcr.Algorithm, index uint32) (byLog, byFirmware bool) {
			return a.byLog(bank, index), a.byFirmware(bank, index)
		},
		FirmwareLog:  logState(a.firmware != nil, replay.FirmwareAsked(a.Findings)),
		Firmware:     a.firmware,
		IMAState:     logState(a.ima != nil, a.listed),
		IMA:          a.ima,
		Measured:     a.measured,
		Log:          a.log.State,
		Continued:    a.log.Continued,
		NewHistory:   a.expect.NewHistory,
		LogState:     logState(a.log.State != nil, a.logged),
		Time:         a.now,
		Enrolments:   a.expect.Enrolments,
		Certificates: a.certificates,
		Chain:        a.chain,
		OnGoogle:     func(m *keys.GoogleInstance) { a.instance = m },
	}
	s.SNP = sevsnp.Of(a.report)
	if a.batch != nil && a.batch.Values != nil {
		s.Quote = a.batch
	}
	if a.statement != nil {
		s.Caller = &a.statement.Caller
	}
	return s
}

// untied names the checks that tie the vTPM to the report, of those that this material undergoes
// the ones that did not pass.
func (a *appraiser) untied() string {
	all := []check.Definition{report.Commitment, report.VouchedKey, paravisor.RuntimeData}
	if a.platform != nil {
		all = append(all, a.platform.Definitions()...)
	}
	var ids []string
	for _, d := range all {
		if id := string(d.ID); !a.Met(d) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return strings.Join(ids, ", ")
}

// vouched returns what vouches for the evidence; nothing if a check below the policy
// failed or is open.
func (a *appraiser) vouched(sound bool) check.Vouched {
	v := a.p.Vouched(a.subject(), a.Findings)
	v.Sound = sound
	return v
}

func logState(read, present bool) rule.LogState {
	switch {
	case read:
		return rule.LogRead
	case present:
		return rule.LogUnreadable
	}
	return rule.LogAbsent
}

// age returns what the report was made for, and when.
func (a *appraiser) age() rule.Age {
	age := rule.Age{
		Freshness: a.freshness(), Replay: a.material == MaterialReport && a.expect.UnsafeAcceptReplay,
		Anchored: a.anchored, Known: quote.Comparable(a.Findings, a.anchor, a.batch), Since: quote.Age(a.anchor, a.batch),
		GuestKnown: quote.TimesComparable(a.Findings) && statement.Signed(a.Findings) && a.Passed(report.Commitment.ID), ByGuest: a.guestAge,
	}
	switch age.Freshness {
	case UnknownReport:
		for _, id := range []CheckID{report.ExpectedData.ID, paravisor.ExpectedData.ID} {
			if a.Asked(id) && !a.Passed(id) {
				age.Open = fmt.Sprintf("%s and %s", report.ExpectedData.ID, paravisor.ExpectedData.ID)
			}
		}
	case FreshReport:
		age.Open = string(a.undated())
	}
	return age
}

// undated returns the first check that a report's age depends on and that did not pass.
func (a *appraiser) undated() CheckID {
	ids := []CheckID{report.KindKnown.ID}
	if a.platform != nil {
		ids = append(ids, a.platform.Genuine()...)
	}
	switch a.material {
	case MaterialEvidence:
		ids = append(ids, report.Commitment.ID)
	case MaterialParavisor:
		ids = append(ids, paravisor.RuntimeData.ID)
	}
	for _, id := range ids {
		if !a.Passed(id) {
			return id
		}
	}
	return ""
}

// chain returns the way from the first of certificates, which c is about, to a root of the
// policy. Of several ways it takes one that is valid, so that a known one will do if it is valid.
func (a *appraiser) chain(certificates [][]byte, c rule.Certified, roots []*x509.Certificate) ([]*x509.Certificate, error) {
	key := chainKey(certificates, roots)
	if known, ok := a.cache.Get(key); ok {
		if chain := known.([]*x509.Certificate); c.CheckValidity(chain, a.now) == nil {
			a.rely(chain)
			return chain, nil
		}
	}
	chain, err := c.Chain(roots, a.now)
	if err == nil {
		a.rely(chain)
		a.cache.Put(key, chain)
	}
	return chain, err
}

// rely notes when the first certificate of a chain ends that this appraisal relies on.
func (a *appraiser) rely(chain []*x509.Certificate) {
	for _, c := range chain {
		a.relied = report.Earlier(a.relied, c.NotAfter)
	}
}

// chainKey returns the cache's key of certificates of a TPM's key and its issuers, under these
// roots.
func chainKey(certificates [][]byte, roots []*x509.Certificate) evidence.Digest {
	var raw [][]byte
	for _, c := range roots {
		raw = append(raw, c.Raw)
	}
	id := evidence.Sum256("agentd/cache/ek-roots/1", raw...)
	return evidence.Sum256("agentd/cache/ek/1", append([][]byte{id[:]}, certificates...)...)
}
