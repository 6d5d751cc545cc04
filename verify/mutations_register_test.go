// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// apart gives events of applications a PCR of their own, 14, and adds one event.
func apart(changes ...func(*testing.T, *evidencetest.Recipe)) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		r.Apart = 14
		r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13, 14}}, {Algorithm: pcr.SHA384, PCRs: []uint32{13, 14}}}
		r.Events = append(r.Events, evidencetest.Emitted("billing", "billing.service", "model", "1"))
		for _, change := range changes {
			change(t, r)
		}
	}
}

// valued has PCR 14 quoted with a value in one bank.
func valued(bank pcr.Algorithm, value []byte) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.PCRs.Set(bank, 14, value) }
}

// zeroed has PCR 14 quoted as nothing extended it.
func zeroed(t *testing.T, r *evidencetest.Recipe) {
	valued(pcr.SHA256, make([]byte, 32))(t, r)
	valued(pcr.SHA384, make([]byte, 48))(t, r)
}

// cutOff quotes PCR 14 as it is after one more event than the log shows.
func cutOff(t *testing.T, r *evidencetest.Recipe) {
	whole := evidencetest.New()
	apart()(t, whole)
	whole.Events = append(whole.Events, evidencetest.Emitted("billing", "billing.service", "model", "2"))
	e := whole.Build(t)
	for i, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384} {
		pcrs := e.Batch.PCRs[i].PCRs
		r.PCRs.Set(bank, 14, pcrs[len(pcrs)-1].Value)
	}
}

// logStart changes the text of log-start to one of the same length, and the start of the agent after
// it, which names the head of the log.
func logStart(old, new string) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		r.Records = func(records []pcr.Record) {
			first := &records[0]
			first.Content = bytes.Replace(first.Content, []byte(old), []byte(new), 1)
			for i, d := range first.Digests {
				first.Digests[i].Value = d.Algorithm.Sum(first.Content)
			}
			e, err := records[1].Event()
			if err != nil {
				t.Fatal(err)
			}
			e.Agent.Previous = pcr.Head(evidence.LogHead{}, records[:1])
			if records[1], err = pcr.NewRecord(1, r.LogPCR, r.Banks, e); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// apartAt says which values PCR 14 had when the log began.
func apartAt(values map[pcr.Algorithm][]byte) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.ApartAt = values }
}

// from shows the log from a record on.
func from(n uint64) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.LogStart = n }
}

// twoKnown gives the verifier the state of a log of two PCRs after n events that follow log-start.
func twoKnown(n int, change func(*LogState)) func(*testing.T, *options) {
	return func(t *testing.T, o *options) {
		earlier := evidencetest.New()
		apart()(t, earlier)
		if earlier.Events = earlier.Events[:n]; n < 2 {
			earlier.Statement.Caller.Executable = nil
		}
		first := baseOptions(t)
		a, err := appraiseEvidence(earlier.Encode(t), first)
		if err != nil {
			t.Fatal(err)
		}
		c, err := a.Claims()
		if err != nil {
			t.Fatalf("%v\n%s", err, explain(a))
		}
		o.LogState = c.Log
		change(o.LogState)
	}
}

// sameTime gives two records of different PCRs one time.
func sameTime(_ *testing.T, r *evidencetest.Recipe) { r.Events[1].Time, r.Events[2].Time = 2000, 2000 }

// another adds a measurement after the event.
func another(_ *testing.T, r *evidencetest.Recipe) {
	r.Events = append(r.Events, r.Events[1])
}

func registerMutations() []mutation {
	asBefore := func(*LogState) {}
	toPCR := func(i int, to uint32) func(*testing.T, *evidencetest.Recipe) {
		return records(func(r []pcr.Record) { r[i].PCR = to })
	}
	return []mutation{
		{id: LogDigests, name: "an event of an application in the PCR of the log", blind: true, recipe: apart(toPCR(3, 13))},
		{id: LogDigests, name: "a measurement in the PCR of events", blind: true, recipe: apart(toPCR(2, 14))},
		{id: LogDigests, name: "an event of an application in a third PCR", blind: true, recipe: apart(toPCR(3, 12))},
		{id: LogDigests, name: "an event of an application in a PCR that the log does not name", blind: true, recipe: func(t *testing.T, r *evidencetest.Recipe) {
			apart(toPCR(3, 14), zeroed)(t, r)
			r.Apart = 0
		}},
		{id: LogDigests, name: "a second PCR, from an index of a log that has one", blind: true, opts: continued(asBefore), recipe: func(t *testing.T, r *evidencetest.Recipe) {
			unmeasured(r)
			apart(toPCR(2, 14), from(2), zeroed)(t, r)
			r.Apart = 0
		}},

		{id: LogReplay, name: "case 20 another program extended the PCR of events", recipe: apart(valued(pcr.SHA256, bytes.Repeat([]byte{0xee}, 32)))},
		{id: LogReplay, name: "case 22 one bank of the PCR of events was not extended", recipe: apart(valued(pcr.SHA384, make([]byte, 48)))},
		{id: LogReplay, name: "case 30 the last event of an application left out", recipe: apart(cutOff)},
		{id: LogReplay, name: "the PCR of events was not quoted", recipe: apart(func(_ *testing.T, r *evidencetest.Recipe) {
			r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}, {Algorithm: pcr.SHA384, PCRs: []uint32{13}}}
		})},
		{id: LogReplay, name: "case 49 the PCR of events was quoted under SHA-1 alone", recipe: apart(func(_ *testing.T, r *evidencetest.Recipe) {
			r.Banks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256}
			r.Select = pcr.Selection{{Algorithm: pcr.SHA1, PCRs: []uint32{14}}, {Algorithm: pcr.SHA256, PCRs: []uint32{0, 4, 13}}}
		})},
		{id: LogReplay, name: "another value of the PCR of events is known, from an index", opts: twoKnown(1, func(s *LogState) { s.Events.Values[0].Value = bytes.Repeat([]byte{1}, 32) }), recipe: apart(from(2))},
		{id: AnchorLogReplay, name: "the PCR of events was elsewhere", root: anchoredPolicy, recipe: apart(func(_ *testing.T, r *evidencetest.Recipe) {
			anchored(r)
			r.LogAt = 3 // before the event, which the quote of the anchor shows nevertheless
			r.Anchor.PCRs = pcr.Values{}
			r.Anchor.PCRs.Set(pcr.SHA256, 14, bytes.Repeat([]byte{0xee}, 32))
		})},

		{id: LogEvents, name: "two records of different PCRs at one time", recipe: apart(sameTime)},
		{id: LogEvents, name: "a measurement at the time of the event before it", recipe: apart(another, func(_ *testing.T, r *evidencetest.Recipe) { r.Events[2].Time, r.Events[3].Time = 2000, 2000 })},
		{id: LogEvents, name: "an event at the time of the measurement that is known before it", opts: twoKnown(2, func(s *LogState) { s.Time = 2000 }), recipe: apart(from(3), func(_ *testing.T, r *evidencetest.Recipe) { r.Events[2].Time = 2000 })},
		{id: LogEvents, name: "a measurement at the time of the event that is known before it", opts: twoKnown(3, func(s *LogState) { s.Time = 2000 }), recipe: apart(another, from(4), func(_ *testing.T, r *evidencetest.Recipe) { r.Events[3].Time = 2000 })},
		{id: LogEvents, name: "events in the PCR of IMA", blind: true, recipe: apart(logStart(`"pcr":14`, `"pcr":10`))},
		{id: LogEvents, name: "events in the PCR of the log", blind: true, recipe: apart(logStart(`"pcr":14`, `"pcr":13`))},
		{id: LogEvents, name: "case 21 events in a PCR that software sets back", blind: true, recipe: apart(logStart(`"pcr":14`, `"pcr":16`))},
		{id: LogEvents, name: "events in another bank than the log", blind: true, recipe: apart(logStart(`"events":{"pcr":14,"values":[{"algorithm":"sha256"`, `"events":{"pcr":14,"values":[{"algorithm":"sha999"`))},

		{id: PolicyStartValue, name: "case 88 unexplained start value of the PCR of events", recipe: apart(apartAt(map[pcr.Algorithm][]byte{pcr.SHA256: bytes.Repeat([]byte{1}, 32)}))},
		{id: PolicyStartValue, name: "case 88 another start value of the PCR of events than the listed", tables: startValueTable, recipe: apart(apartAt(map[pcr.Algorithm][]byte{pcr.SHA256: bytes.Repeat([]byte{2}, 32)}))},
		{id: PolicyStartValue, name: "case 102 the PCR of events after shim in one bank, another value in the other", recipe: apart(apartAt(oneBank(shimStart(0), pcr.SHA384)))},
		{id: PolicyStartValue, name: "case 102 the log's PCR as shim leaves that of events", recipe: apart(func(_ *testing.T, r *evidencetest.Recipe) { r.Start = shimStart(0) })},
		{id: PolicyStartValue, name: "case 88 the PCR of events, from an index", opts: twoKnown(1, func(s *LogState) { s.Events.Start[0].Value = bytes.Repeat([]byte{1}, 32) }), recipe: apart(from(2))},
	}
}

// TestTwoRegisters: evidence of a log with two PCRs is accepted, whole and from each record on,
// and the log explains both.
func TestTwoRegisters(t *testing.T) {
	for name, c := range map[string]struct {
		m    mutation
		said string // of the start of the log
	}{
		"whole":                    {mutation{recipe: apart(another)}, "PCR 13 had the value zero, and PCR 14 had the value zero"},
		"a rule about the event":   {mutation{recipe: apart(another), tables: eventRule("last", `contents = ["1"]`)}, ""},
		"after shim":               {mutation{recipe: apart(apartAt(shimStart(0)))}, "PCR 13 had the value zero, and PCR 14 had the value after shim of Ubuntu without MOKs"},
		"a listed value":           {mutation{recipe: apart(apartAt(map[pcr.Algorithm][]byte{pcr.SHA256: bytes.Repeat([]byte{1}, 32)})), tables: startValueTable}, "PCR 14 had the value that the policy lists or zero"},
		"from an event":            {mutation{recipe: apart(another, from(3)), opts: twoKnown(2, func(*LogState) {})}, ""},
		"from a measurement":       {mutation{recipe: apart(another, from(4)), opts: twoKnown(3, func(*LogState) {})}, ""},
		"from another measurement": {mutation{recipe: apart(from(2)), opts: twoKnown(1, func(*LogState) {})}, ""},
		"whole, and known before":  {mutation{recipe: apart(another), opts: twoKnown(3, func(*LogState) {})}, ""},
		"nothing new":              {mutation{recipe: apart(from(4)), opts: twoKnown(3, func(*LogState) {})}, ""},
		"anchored before the event": {mutation{root: anchoredPolicy, recipe: apart(func(_ *testing.T, r *evidencetest.Recipe) {
			anchored(r)
			r.LogAt = 3
		})}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := c.m.run(t, nil)
			claims, err := a.Claims()
			if err != nil {
				t.Fatalf("%v\n%s", err, explain(a))
			}
			if e := claims.Log.Events; e == nil || e.PCR != 14 || len(e.Start) != 2 || len(e.Values) != 2 {
				t.Errorf("%+v", e)
			}
			for _, p := range claims.PCRs {
				if log := p.Index == 13 || p.Index == 14; log != (p.Explained == ByLog) {
					t.Errorf("PCR %d (%s) is explained by %s", p.Index, p.Bank, p.Explained)
				}
			}
			if got := a.Check(PolicyStartValue).Sentence; !strings.HasSuffix(got, c.said) {
				t.Errorf("%q, want %q", got, c.said)
			}
		})
	}
}

// TestStateOfTwoRegisters: a state of a log with two PCRs that is kept elsewhere must have values
// of both, and a verifier of it does not change it.
func TestStateOfTwoRegisters(t *testing.T) {
	for name, change := range map[string]func(*LogState){
		"no start values":    func(s *LogState) { s.Events.Start = nil },
		"no values":          func(s *LogState) { s.Events.Values = nil },
		"a short value":      func(s *LogState) { s.Events.Values[0].Value = s.Events.Values[0].Value[1:] },
		"fewer banks":        func(s *LogState) { s.Events.Start = s.Events.Start[:1] },
		"a bank of none":     func(s *LogState) { s.Events.Start[0].Bank = "md5" },
		"the PCR of the log": func(s *LogState) { s.Events.PCR = s.PCR },
		"the PCR of IMA":     func(s *LogState) { s.Events.PCR = 10 },
	} {
		o := baseOptions(t)
		twoKnown(2, change)(t, &o)
		r := evidencetest.New()
		apart(from(3))(t, r)
		if _, err := appraiseEvidence(r.Encode(t), o); err == nil || !strings.Contains(err.Error(), "contradicts itself") {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := baseOptions(t)
	twoKnown(2, func(*LogState) {})(t, &o)
	before := bytes.Clone(o.LogState.Events.Values[0].Value)
	r := evidencetest.New()
	apart(from(3))(t, r)
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Verdict != Pass {
		t.Fatalf("%v\n%s", err, explain(a))
	}
	if after := a.Accepted.claims.Log.Events.Values[0].Value; !bytes.Equal(o.LogState.Events.Values[0].Value, before) || bytes.Equal(after, before) {
		t.Error("the state of the caller was changed")
	}
}
