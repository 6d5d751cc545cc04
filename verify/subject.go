// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/paravisor"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
	"github.com/cvm-agentd/agentd/verify/internal/replay"
	"github.com/cvm-agentd/agentd/verify/internal/report"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
)

// subject shows the rules of a policy what an appraiser has established.
type subject struct{ a *appraiser }

var _ rule.Subject = subject{}

func (s subject) Material() rule.Material {
	m := s.a.material
	return rule.Material{Statement: m == MaterialEvidence, Report: m != MaterialQuote, Quote: m != MaterialReport}
}

func (s subject) AK() (keys.Name, bool) {
	if s.a.ak == nil {
		return nil, false
	}
	return s.a.ak.Name, true
}

func (s subject) Tie() rule.Tie {
	return rule.Tie{Structure: s.a.structure, Binding: s.a.binding, See: fmt.Sprintf("%s and %s", report.Commitment, paravisor.RuntimeData)}
}

func (s subject) Age() rule.Age {
	a := s.a
	age := rule.Age{
		Freshness: a.freshness(), Replay: a.material == MaterialReport && a.expect.UnsafeAcceptReplay,
		Anchored: a.anchored, Known: quote.Comparable(a.Findings, a.anchor, a.batch), Since: quote.Age(a.anchor, a.batch),
	}
	switch age.Freshness {
	case UnknownReport:
		for _, id := range []CheckID{report.ExpectedData, paravisor.ExpectedData} {
			if a.Asked(id) && !a.Passed(id) {
				age.Open = fmt.Sprintf("%s and %s", report.ExpectedData, paravisor.ExpectedData)
			}
		}
	case FreshReport:
		age.Open = string(a.undated())
	}
	return age
}

// undated returns the first check that a report's age depends on and that did not pass.
func (a *appraiser) undated() CheckID {
	ids := []CheckID{report.KindKnown}
	if a.platform != nil {
		ids = append(ids, a.platform.Genuine()...)
	}
	switch a.material {
	case MaterialEvidence:
		ids = append(ids, report.Commitment)
	case MaterialParavisor:
		ids = append(ids, paravisor.RuntimeData)
	}
	for _, id := range ids {
		if !a.Passed(id) {
			return id
		}
	}
	return ""
}

func (s subject) Quote() *rule.Quote {
	if s.a.batch == nil || s.a.batch.Values == nil {
		return nil
	}
	return &rule.Quote{Selection: s.a.batch.Selection, Values: s.a.batch.Values}
}

func (s subject) Explained(bank pcr.Algorithm, index uint32) (byLog, byFirmware bool) {
	return s.a.byLog(bank, index), s.a.byFirmware(bank, index)
}

func (s subject) FirmwareLog() rule.LogState {
	switch {
	case s.a.firmware != nil:
		return rule.LogRead
	case replay.FirmwareAsked(s.a.Findings):
		return rule.LogUnreadable
	}
	return rule.LogAbsent
}

func (s subject) Log() (*replay.State, rule.LogState) {
	switch l := s.a.log.State; {
	case l != nil:
		return l, rule.LogRead
	case s.a.logged:
		return nil, rule.LogUnreadable
	}
	return nil, rule.LogAbsent
}

func (s subject) Caller() *evidence.Caller {
	if s.a.statement == nil {
		return nil
	}
	return &s.a.statement.Caller
}

func (s subject) Time() time.Time { return s.a.now }

func (s subject) EKChain(r *keys.Enrolment, c *keys.EKCertificate, roots []*x509.Certificate) ([]*x509.Certificate, error) {
	return s.a.ekChain(r.EKCertificates, c, roots)
}

// ekChain returns the chain from the certificate in an enrolment to a root of the policy.
// Of several ways it takes one that is valid, so that a known one will do if it is valid.
func (a *appraiser) ekChain(raw keys.Bundle, c *keys.EKCertificate, roots []*x509.Certificate) ([]*x509.Certificate, error) {
	if a.cache == nil {
		return c.Chain(roots, a.now)
	}
	key := ekKey(raw, roots)
	if known, ok := a.cache.Get(key); ok {
		if chain := known.([]*x509.Certificate); c.CheckValidity(chain, a.now) == nil {
			return chain, nil
		}
	}
	chain, err := c.Chain(roots, a.now)
	if err == nil {
		a.cache.Put(key, chain)
	}
	return chain, err
}

// ekKey returns the cache's key of the certificates in an enrolment, under these roots.
func ekKey(certificates [][]byte, roots []*x509.Certificate) evidence.Digest {
	var raw [][]byte
	for _, c := range roots {
		raw = append(raw, c.Raw)
	}
	id := evidence.Sum256("agentd/cache/ek-roots/1", raw...)
	return evidence.Sum256("agentd/cache/ek/1", append([][]byte{id[:]}, certificates...)...)
}
