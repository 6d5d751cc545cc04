// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// A mutation breaks one rule and keeps all others: what commits to the changed part is
// computed anew and signed. Exactly the check ID must fail, and with that check
// switched off the evidence must be accepted, so that no other one hides its loss.
type mutation struct {
	id     CheckID
	name   string // with its case in the list of cases
	root   string // further root keys of the policy
	tables string // further tables of the policy
	policy string // whole policy, in place of these
	opts   func(*testing.T, *options)
	recipe func(*testing.T, *evidencetest.Recipe)
	bytes  func(*testing.T, []byte) []byte
	raw    func(*testing.T, *options) rawMaterial // in place of evidence
	// blind mutations leave nothing to go on: with the check switched off, others
	// stay open instead, and the evidence is refused all the same.
	blind bool
}

func (m *mutation) run(t *testing.T, ignored map[CheckID]bool) *Appraisal {
	t.Helper()
	o := baseOptions(t)
	text := m.policy
	if text == "" {
		text = makePolicy(m.root, m.tables)
	}
	o.Policy = mustPolicy(t, text)
	if m.opts != nil {
		m.opts(t, &o)
	}
	if m.raw != nil {
		a, err := m.raw(t, &o).appraise(o, ignored)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	r := evidencetest.New()
	if m.recipe != nil {
		m.recipe(t, r)
	}
	document := r.Encode(t)
	if m.bytes != nil {
		document = m.bytes(t, document)
	}
	a, err := o.with(ignored, document)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mutations() []mutation {
	var all []mutation
	for _, part := range [][]mutation{statementMutations, quoteMutations, anchorMutations, reportMutations, logMutations, startMutations,
		machinePolicyMutations, logPolicyMutations, rawMutations, azureMutations, svsmMutations, callerMutations, programMutations(), coverageMutations(), gateMutations(), eventMutations(), registerMutations(), firmwareMutations, imaMutations(), imaEvidenceMutations(), ekMutations(), gcpMutations(), textMutations(), basisMutations, proofMutations(), containerMutations, containerPolicyMutations()} {
		all = append(all, part...)
	}
	return all
}

func TestMutations(t *testing.T) {
	for _, m := range mutations() {
		t.Run(string(m.id)+"/"+m.name, func(t *testing.T) {
			a := m.run(t, nil)
			if ids := failedIDs(a); len(ids) != 1 || ids[0] != m.id {
				t.Fatalf("failed are %v, want %s alone:\n%s", ids, m.id, explain(a))
			}
			if want := a.Check(m.id).Class; a.Verdict != Fail || a.Class != want || a.ExitCode() != int(want) {
				t.Errorf("verdict %s, class %v, want class %v", a.Verdict, a.Class, want)
			}
			if c := a.Check(m.id); c.Sentence == "" {
				t.Error("the failed check says nothing")
			}
			if _, err := a.Claims(); err == nil || a.Accepted.claims != nil {
				t.Error("the claims of refused evidence can be had")
			}
			if a.Class != ClassPolicy && a.Binding != BindingNone {
				t.Errorf("refused for a signature, format or certificate, and the binding is %s", a.Binding)
			}
		})
	}
}

// TestChecksAreNeeded: with one check switched off, what only it stopped gets through.
// A check without a mutation of its own here could be lost without notice.
func TestChecksAreNeeded(t *testing.T) {
	for _, m := range mutations() {
		t.Run(string(m.id)+"/"+m.name, func(t *testing.T) {
			a := m.run(t, map[CheckID]bool{m.id: true})
			if ids := failedIDs(a); !m.blind && (a.Verdict != Pass || len(ids) != 0) {
				t.Errorf("still refused without %s: another check stops this too, or the mutation breaks more than one rule:\n%s", m.id, explain(a))
			} else if a.Check(m.id).Verdict == Fail {
				t.Errorf("%s fails although it is switched off", m.id)
			} else if m.blind && a.Verdict != Fail {
				t.Errorf("accepted without %s: it is not blind", m.id)
			}
		})
	}
}

// TestEveryCheckIsMutated checks that the table has every check of the list.
func TestEveryCheckIsMutated(t *testing.T) {
	have := make(map[CheckID]int)
	names := make(map[string]bool)
	for _, m := range mutations() {
		have[m.id]++
		if key := string(m.id) + "/" + m.name; names[key] {
			t.Errorf("%s is in the table twice", key)
		} else {
			names[key] = true
		}
	}
	for _, d := range definitions {
		if have[d.ID] == 0 {
			t.Errorf("%s has no mutation", d.ID)
		}
		delete(have, d.ID)
	}
	for id := range have {
		t.Errorf("%s is not a check", id)
	}
}
