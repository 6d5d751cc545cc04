// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"sync"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/snp"
	"github.com/cvm-agentd/agentd/verify/snp/amd"
)

// Evidence appraises a document. The error is for options that make no sense
// ([ErrOptions]); everything about the evidence, however broken, is in the appraisal.
func Evidence(document []byte, o Options) (*Appraisal, error) {
	return appraise(document, o, nil)
}

// appraise runs the checks. Those in ignored count as passed whatever they found:
// tests show with it that each check is the only one that stops its attack.
func appraise(document []byte, o Options, ignored map[CheckID]bool) (*Appraisal, error) {
	a, err := begin(MaterialEvidence, o, ignored)
	if err != nil {
		return nil, err
	}
	a.document(document)
	return a.result(), nil
}

// builtIn are AMD's roots, read when they are first needed.
var builtIn = sync.OnceValues(amd.Roots)

// begin checks the options and readies an appraiser.
func begin(m Material, o Options, ignored map[CheckID]bool) (*appraiser, error) {
	if err := o.check(m); err != nil {
		return nil, err
	}
	if o.Roots == nil {
		roots, err := builtIn()
		if err != nil {
			return nil, fmt.Errorf("verify: %w", err)
		}
		o.Roots = roots
	}
	a := newAppraiser(o, ignored)
	a.material = m
	return a, nil
}

// appraiser holds what is known so far. A pointer that is nil was not established;
// steps that need it are then not reached, and their checks stay open.
type appraiser struct {
	o        Options
	p        *Policy
	material Material
	ignored  map[CheckID]bool
	checks   []Check
	last     int // index of the check that was looked up last

	e         *evidence.Evidence
	statement *evidence.Statement
	ak        *attestKey
	batch     *quoted
	anchor    *quoted // nil where fresh
	hcl       *hcl    // of a paravisor's set
	report    *snp.Report
	chain     *snp.Chain
	product   string // lower case, of the chain; "" before that
	signer    string // "vcek" or "vlek"
	launch    *launchRule
	binding   Binding // as the structure and the policy's list allow
	structure Binding // as the structure allows
	log       *LogState
	otherLog  string     // said of a log that is not a later state of the known one
	firmware  pcr.Values // that the firmware's log leads to; nil where there is none that could be read
}

func newAppraiser(o Options, ignored map[CheckID]bool) *appraiser {
	a := &appraiser{o: o, p: o.Policy, ignored: ignored, checks: make([]Check, len(definitions)),
		binding: BindingNone, structure: BindingNone}
	for i, d := range definitions {
		a.checks[i] = Check{ID: d.ID, Class: d.Class, Verdict: NotAsserted, Required: true}
	}
	return a
}

// document runs every step. Each returns early where it has nothing to go on.
func (a *appraiser) document(b []byte) {
	e, err := evidence.Parse(b)
	if !a.decideError(EvidenceDecode, err) || e == nil {
		return
	}
	a.e = e
	a.checkStatement()
	a.checkBatch()
	a.checkKey()
	for _, id := range append([]CheckID{ReportTable}, rawChecks...) {
		a.skip(id, "evidence is bound by commitments of its own")
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
	a.checkPolicy()
}

// index is the place of a check, in definitions and in checks. The steps record their
// checks nearly in that order, so that the search begins where the last one ended.
func (a *appraiser) index(id CheckID) int {
	for i := range definitions {
		at := a.last + i
		if at >= len(definitions) {
			at -= len(definitions)
		}
		if definitions[at].ID == id {
			a.last = at
			return at
		}
	}
	panic("verify: no check " + string(id))
}

func (a *appraiser) set(id CheckID, v Verdict, expected, found, sentence string) bool {
	c := &a.checks[a.index(id)]
	c.Verdict, c.Expected, c.Found, c.Sentence = v, expected, cutText(found), cutText(sentence)
	return v == Pass
}

// decide records a check that ran. The sentence is for a failure; a check that
// passed says what its definition says.
func (a *appraiser) decide(id CheckID, ok bool, expected, found, sentence string, args ...any) bool {
	if ok || a.ignored[id] {
		return a.set(id, Pass, expected, found, definitions[a.index(id)].Checks)
	}
	return a.set(id, Fail, expected, found, fmt.Sprintf(sentence, args...))
}

// decideError records a check that ran and failed where err is not nil.
func (a *appraiser) decideError(id CheckID, err error) bool {
	if err == nil {
		return a.decide(id, true, "", "", "")
	}
	if x := (*snp.Error)(nil); asSNP(err, &x) {
		return a.decide(id, false, x.Want, x.Found, "%v", err)
	}
	return a.decide(id, false, "", err.Error(), "%v", err)
}

// skip records a check that nobody asked for, or that has nothing to look at: it
// asserts nothing and is not required.
func (a *appraiser) skip(id CheckID, why string, args ...any) {
	if len(args) > 0 {
		why = fmt.Sprintf(why, args...)
	}
	a.set(id, NotAsserted, "", "", why)
	a.checks[a.index(id)].Required = false
}

// block records a required check that could not run, with the reason. Checks that
// nothing was recorded for are blocked too, see result.
func (a *appraiser) block(id CheckID, why string, args ...any) {
	a.set(id, NotAsserted, "", "", fmt.Sprintf(why, args...))
}

func (a *appraiser) passed(id CheckID) bool { return a.checks[a.index(id)].Verdict == Pass }

// asked tells whether anything asked for this check.
func (a *appraiser) asked(id CheckID) bool { return a.checks[a.index(id)].Required }
