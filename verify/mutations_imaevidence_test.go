// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
)

// kernel is a machine whose agent adds the kernel's list of IMA to evidence.
type kernel struct {
	entries [][]byte // of the list, after those of every list
	known   int      // entries that the verifier knows from before; 0: nothing
	policy  string   // tables of the policy of that appraisal

	list  func([]byte) []byte // changes the entries in the evidence
	start func(uint64) uint64 // changes the number of their first
	given func([]byte) []byte // the whole list, from elsewhere; nil: none
	state func(*LogState)     // changes what the verifier knows
}

// all returns the whole list.
func (k *kernel) all(r *evidencetest.Recipe) [][]byte {
	return append(firstMeasured(r), k.entries...)
}

// at has the machine show the list from an index on, when it has n entries.
func (k *kernel) at(r *evidencetest.Recipe, from, n int) {
	boot(r)
	all := k.all(r)[:n]
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384} {
		r.PCRs.Set(bank, 10, evidencetest.IMAValue(bank, all...))
	}
	list := &evidence.IMA{Start: uint64(from), Entries: bytes.Join(all[from:], nil)}
	r.Document = func(e *evidence.Evidence) { e.IMA = list }
}

// recipe makes the evidence.
func (k *kernel) recipe(_ *testing.T, r *evidencetest.Recipe) {
	k.at(r, k.known, 2+len(k.entries))
	made := r.Document
	r.Document = func(e *evidence.Evidence) {
		made(e)
		if k.list != nil {
			e.IMA.Entries = k.list(bytes.Clone(e.IMA.Entries))
		}
		if k.start != nil {
			e.IMA.Start = k.start(e.IMA.Start)
		}
	}
}

// knows gives the verifier what it knows from before.
func (k *kernel) knows(t *testing.T, o *options) {
	t.Helper()
	if k.given != nil {
		o.IMAList = k.given(bytes.Join(k.all(booted10()), nil))
	}
	if k.known == 0 {
		return
	}
	first, r := baseOptions(t), evidencetest.New()
	first.Policy = mustPolicy(t, makePolicy("", k.policy))
	k.at(r, 0, k.known)
	a, err := appraiseEvidence(r.Encode(t), first)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Claims()
	if err != nil {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	b, err := strictjson.Encode(c.Log)
	if err != nil {
		t.Fatal(err)
	}
	o.LogState = new(LogState) // as a verifier reads it
	if err := strictjson.Decode(b, evidence.MaxEvidence, o.LogState); err != nil {
		t.Fatal(err)
	}
	if k.state != nil {
		k.state(o.LogState)
	}
}

// booted10 is a machine with the PCRs of its boot.
func booted10() *evidencetest.Recipe {
	r := evidencetest.New()
	boot(r)
	return r
}

// imaEvidenceMutations are evidence with a list of the kernel with which one thing is wrong
// (case 127).
func imaEvidenceMutations() (out []mutation) {
	more := [][]byte{evidencetest.IMAFile("/usr/bin/second", "true"), evidencetest.IMAFile("/usr/bin/third", "true")}
	last := len(more[1])
	add := func(m mutation, k kernel) {
		if k.entries == nil {
			k.entries = more
		}
		if m.tables == "" {
			m.tables = imaPolicy
		}
		if k.policy == "" {
			k.policy = m.tables
		}
		given := m.recipe
		m.recipe = func(t *testing.T, r *evidencetest.Recipe) {
			k.recipe(t, r)
			if given != nil {
				given(t, r)
			}
		}
		m.opts = k.knows
		out = append(out, m)
	}
	cut := func(n int) func([]byte) []byte { return func(b []byte) []byte { return b[:len(b)-n] } }
	changed := func(b []byte) []byte { b[len(b)-2] ^= 1; return b }
	whole := func(b []byte) []byte { return b }
	without := func(b []byte) []byte { // the last but one
		return slices.Delete(b, len(b)-last-len(more[0]), len(b)-last)
	}
	swapped := func(b []byte) []byte {
		return append(b[:len(b)-last], evidencetest.IMAFile("/usr/bin/other", "true")...)
	}
	next := func(n uint64) func(uint64) uint64 { return func(uint64) uint64 { return n } }

	add(mutation{id: IMADecode, name: "case 127 in evidence, path changed", blind: true}, kernel{list: changed})
	add(mutation{id: IMADecode, name: "case 127 in evidence, cut within an entry", blind: true}, kernel{list: cut(1)})
	add(mutation{id: IMADecode, name: "in evidence, beside a good one", blind: true}, kernel{list: changed, given: whole})
	add(mutation{id: IMAReplay, name: "case 127 in evidence, cut at an entry"}, kernel{list: cut(last)})
	add(mutation{id: IMAReplay, name: "case 127 in evidence, of another boot"}, kernel{list: swapped})
	add(mutation{id: IMAReplay, name: "in evidence, nothing", blind: true}, kernel{list: func([]byte) []byte { return nil }})
	add(mutation{id: IMAReplay, name: "from an index, an entry left out"}, kernel{known: 2, list: without})
	add(mutation{id: IMAReplay, name: "from an index, the known values are of another boot"}, kernel{known: 2, state: func(s *LogState) {
		for i := range s.IMA.Values {
			s.IMA.Values[i].Value[0] ^= 1
		}
	}})
	add(mutation{id: IMAReplay, name: "a given list that is cut, beside a good one"}, kernel{given: cut(last)})
	add(mutation{id: IMAContinuation, name: "from an index, and nothing is known", blind: true}, kernel{start: next(1), list: func(b []byte) []byte { return b[len(b)-last:] }})
	add(mutation{id: IMAContinuation, name: "from an index, another number"}, kernel{known: 2, start: next(3)})
	add(mutation{id: IMAContinuation, name: "from an index, a bank is not known", blind: true}, kernel{known: 2, state: func(s *LogState) { s.IMA.Values = s.IMA.Values[:1] }})
	add(mutation{id: IMAContinuation, name: "two lists with another entry"}, kernel{list: swapped, given: whole})
	add(mutation{id: IMAContinuation, name: "two lists, one cut"}, kernel{list: cut(last), given: whole})
	add(mutation{id: IMAContinuation, name: "two lists, an entry in another PCR"}, kernel{given: whole, list: func(b []byte) []byte { b[len(b)-last] = 11; return b }})
	add(mutation{id: PolicyIMA, name: "from an index, and another policy judged what came before"}, kernel{known: 2, policy: "[[ima_files]]\ndigests = [\"" + imaDigest("true") + "\", \"" + imaDigest("evil") + "\"]\n"})
	add(mutation{id: PolicyIMAAggregate, name: "from an index, a PCR of the boot was extended later", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.PCRs.Set(pcr.SHA256, 5, bytes.Repeat([]byte{1}, 32))
	}}, kernel{known: 2})
	add(mutation{id: PolicyIMAViolations, name: "case 127 from an index"}, kernel{known: 2, entries: [][]byte{evidencetest.IMAViolation("/usr/bin/true")}})
	add(mutation{id: PolicyIMAFiles, name: "from an index, changed on disk"}, kernel{known: 2, entries: [][]byte{evidencetest.IMAFile("/usr/bin/true", "false")}})
	add(mutation{id: PolicyIMAFiles, name: "from an index, a file that is called like the boot"}, kernel{known: 2, entries: [][]byte{evidencetest.IMAFile("boot_aggregate", "false")}})
	return out
}

// TestIMAInEvidence: evidence with the kernel's list explains PCR 10, from an index too. What the
// verifier knows of it goes on, also over evidence without a list.
func TestIMAInEvidence(t *testing.T) {
	leads := [][]byte{evidencetest.IMAFile("/usr/bin/second", "true"), evidencetest.IMAViolation("/x"), evidencetest.IMAFile("/z", "true")}
	tables := "[ima]\nviolations = \"allow\"\n" + imaPolicy
	for _, c := range []struct {
		name string
		kernel
	}{
		{"whole", kernel{entries: leads}},
		{"read after the quote", kernel{entries: leads, list: func(b []byte) []byte { return append(b, "entries that the kernel added after the quote"...) }}},
		{"from an index", kernel{entries: leads, known: 3}},
		{"from its end", kernel{entries: leads, known: 5}},
		{"beside a whole one", kernel{entries: leads, known: 3, given: func(b []byte) []byte { return append(b, 1) }}},
		{"beside one, nothing known", kernel{entries: leads, start: func(uint64) uint64 { return 4 }, list: func(b []byte) []byte { return b[len(b)-len(leads[2]):] }, given: func(b []byte) []byte { return b }}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := c.kernel
			k.policy = tables
			o, r := baseOptions(t), evidencetest.New()
			o.Policy = mustPolicy(t, makePolicy("", tables))
			k.knows(t, &o)
			k.recipe(t, r)
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			claims, err := a.Claims()
			if err != nil {
				t.Fatal(err, explain(a))
			}
			kept := claims.Log.IMA
			if claims.IMA == nil || claims.IMA.Entries != 5 || claims.IMA.Violations != 1 || kept == nil || kept.Next != 5 || kept.Extended != 5 || kept.Violations != 1 || len(kept.Values) != 2 || kept.First == "" {
				t.Fatalf("claims are %+v, kept is %+v", claims.IMA, kept)
			}
			for _, p := range claims.PCRs {
				if p.Index == 10 && p.Explained != ByIMA {
					t.Errorf("PCR 10 of %s is explained by %s", p.Bank, p.Explained)
				}
			}
			o.LogState, o.IMAList = claims.Log, nil
			o.Policy = mustPolicy(t, makePolicy("", ""))
			if a, err = appraiseEvidence(evidencetest.New().Encode(t), o); err != nil {
				t.Fatal(err)
			}
			if claims, err = a.Claims(); err != nil || claims.Log.IMA == nil || claims.Log.IMA.Next != 5 {
				t.Errorf("evidence without a list: %v, %+v", err, claims)
			}
		})
	}
}

// TestIMAStateContradictsItself: a state of a list that cannot be is a mistake of its owner.
func TestIMAStateContradictsItself(t *testing.T) {
	k := kernel{entries: [][]byte{evidencetest.IMAFile("/z", "true")}, known: 2, policy: imaPolicy}
	for name, change := range map[string]func(*IMAState){
		"nothing extended": func(s *IMAState) { s.Extended = 0 },
		"more than there":  func(s *IMAState) { s.Extended = s.Next + 1 },
		"violations":       func(s *IMAState) { s.Violations = s.Next + 1 },
		"they overflow":    func(s *IMAState) { s.Violations, s.Unlisted = 1<<63, 1<<63 },
		"size of a value":  func(s *IMAState) { s.Values[0].Value = s.Values[0].Value[1:] },
		"name of its bank": func(s *IMAState) { s.Values[0].Bank = "md5" },
	} {
		k.state = func(s *LogState) { change(s.IMA) }
		o, r := baseOptions(t), evidencetest.New()
		o.Policy = mustPolicy(t, makePolicy("", imaPolicy))
		k.knows(t, &o)
		k.recipe(t, r)
		if a, err := appraiseEvidence(r.Encode(t), o); err == nil {
			t.Errorf("%s: %v", name, a.Verdict)
		}
	}
}
