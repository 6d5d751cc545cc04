// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// appraise runs the checks. Those in ignored count as passed whatever they found:
// tests show with it that each check is the only one that stops its attack.
func (v *Verifier) appraise(document []byte, expect Expect, now time.Time, ignored map[CheckID]bool) (*Appraisal, error) {
	a, err := v.begin(MaterialEvidence, expect, now, ignored)
	if err != nil {
		return nil, err
	}
	a.document(document)
	return a.result(), nil
}

// begin checks what is expected and readies an appraiser.
func (v *Verifier) begin(m Material, expect Expect, now time.Time, ignored map[CheckID]bool) (*appraiser, error) {
	if err := expect.check(m, now); err != nil {
		return nil, err
	}
	return &appraiser{
		Verifier: v, p: v.policy, expect: expect, now: now, material: m,
		Findings: check.NewFindings(order, ignored), binding: BindingNone, structure: BindingNone,
	}, nil
}

// appraiser holds what is known so far. A pointer that is nil was not established;
// steps that need it are then not reached, and their checks stay open.
type appraiser struct {
	*Verifier
	p        *rule.Compiled
	expect   Expect
	now      time.Time
	material Material
	*check.Findings

	e         *evidence.Evidence
	statement *evidence.Statement
	ak        *tpmwire.Key
	batch     *quoted
	anchor    *quoted // nil where fresh
	hcl       *hcl    // of a paravisor's set
	report    *snp.Report
	chain     *snp.Chain
	product   string // lower case, of the chain; "" before that
	signer    string // "vcek" or "vlek"
	launch    *rule.Launch
	binding   Binding // as the structure and the policy's list allow
	structure Binding // as the structure allows
	log       *LogState
	otherLog  string     // said of a log that is not a later state of the known one
	firmware  pcr.Values // that the firmware's log leads to; nil where there is none that could be read
}

// document runs every step. Each returns early where it has nothing to go on.
func (a *appraiser) document(b []byte) {
	e, err := evidence.Parse(b)
	if !a.DecideError(EvidenceDecode, err) || e == nil {
		return
	}
	a.e = e
	a.checkStatement()
	a.checkBatch()
	a.checkKey()
	for _, id := range append([]CheckID{ReportTable}, rawChecks...) {
		a.Skip(id, "evidence is bound by commitments of its own")
	}
	want := evidence.QuoteData(e.Batch.Tree, e.AnchorDigest())
	a.batch = a.checkQuote(quoteChecks, &e.Batch, want[:])
	if e.Anchor != nil {
		want := evidence.QuoteData(e.Anchor.Tree, nil)
		a.anchor = a.checkQuote(anchorChecks, e.Anchor, want[:])
		a.checkAnchor()
	} else {
		a.skipAnchor("the report was made for this batch")
	}
	a.checkReport()
	a.checkBinding()
	a.checkLog()
	a.checkFirmwareLog(e.FirmwareLog)
	a.p.Judge(subject{a}, a.Findings)
}
