// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/rule"
	"github.com/cvm-agentd/agentd/verify/internal/statement"
)

// DraftPolicy writes a policy, with comments, that accepts the machine that document
// comes from: a golden machine, whose state was inspected. What is dangerous in that
// state is marked DANGER and commented out, so that the policy refuses the very machine
// until its author has decided.
//
// The text is empty if document does not verify: no signature, binding or log of it
// may be broken. The appraisal is under a policy that accepts everything genuine,
// and says nothing about what is acceptable.
func DraftPolicy(document []byte, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	s, a, err := survey(document, c, expect, now)
	if err != nil || a.Verdict != Pass {
		return nil, a, err
	}
	return rule.NewDraft(s), a, nil
}

// DraftPolicyFromUnverifiedEvidence does what [DraftPolicy] does for a document that does
// not verify: its maker chose what the policy accepts. The error is for documents
// without a report that can be read.
func DraftPolicyFromUnverifiedEvidence(document []byte, c Config, expect Expect, now time.Time) (text []byte, a *Appraisal, err error) {
	s, a, err := survey(document, c, expect, now)
	if err != nil {
		return nil, a, err
	}
	if s.SNP() == nil {
		return nil, a, &RefusedError{Appraisal: a}
	}
	return rule.NewDraft(s), a, nil
}

// survey appraises a document under a policy that accepts everything genuine.
func survey(document []byte, c Config, expect Expect, now time.Time) (*rule.Golden, *Appraisal, error) {
	p := rule.Survey()
	p.StartValues = statedStart(document)
	v, err := New(p, c)
	if err != nil {
		return nil, nil, err
	}
	a, err := v.begin(MaterialEvidence, expect, now)
	if err != nil {
		return nil, nil, err
	}
	if e := statement.Parse(a.Findings, document); e != nil {
		a.evidence(e)
	}
	r := a.result()
	g := &rule.Golden{Subject: subject{a}, Start: p.StartValues, Unverified: r.Verdict != Pass}
	for _, c := range r.Failed() {
		if c.Verdict == Fail {
			g.Failed = append(g.Failed, c)
		}
	}
	return g, r, nil
}

// statedStart returns the value that the log says its PCR began with, if not zero.
func statedStart(document []byte) (out []StartValue) {
	e, err := evidence.Parse(document)
	if err != nil || e.Log == nil || e.Log.Start != 0 {
		return nil
	}
	records, err := pcr.DecodeLog(e.Log.Records, 0)
	if err != nil {
		return nil
	}
	start, err := pcr.StartOf(records)
	if err != nil {
		return nil
	}
	digests, err := start.Digests()
	if err != nil {
		return nil
	}
	for _, d := range digests {
		if d.Algorithm != pcr.SHA1 && !bytes.Equal(d.Value, make([]byte, len(d.Value))) {
			out = append(out, StartValue{Bank: d.Algorithm.String(), Value: hex.EncodeToString(d.Value)})
		}
	}
	return out
}
