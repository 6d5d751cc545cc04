// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// logBytes changes the records of the finished document.
func logBytes(f func(records [][]byte) [][]byte) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		r.Document = func(e *evidence.Evidence) {
			records, err := pcr.DecodeLog(e.Log.Records, 0)
			if err != nil {
				t.Fatal(err)
			}
			var parts [][]byte
			for _, x := range records {
				parts = append(parts, x.Encode())
			}
			e.Log.Records = bytes.Join(f(parts), nil)
		}
	}
}

// records changes the records before they are extended and hashed into the head.
func records(f func([]pcr.Record)) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Records = f }
}

// rewritten replaces the content of one record, and its digests with it.
func rewritten(i int, content []byte) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) {
		r.Records = func(records []pcr.Record) {
			x := &records[i]
			x.Content = append([]byte{pcr.ContentType, 0, 0, 0, byte(len(content))}, content...)
			for j, d := range x.Digests {
				x.Digests[j].Value = d.Algorithm.Sum(x.Content)
			}
		}
	}
}

// continued makes evidence whose log starts at record 2, and gives the verifier the
// state that an earlier appraisal of the same machine ended in.
func continued(change func(*LogState)) func(*testing.T, *options) {
	return func(t *testing.T, o *options) {
		earlier := evidencetest.New()
		unmeasured(earlier)
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

// bootAt names the boot of a known state.
func bootAt(id byte) func(*LogState) {
	return func(s *LogState) { s.ReportID = repeated(id, 32) }
}

// bootedAs names the boot in the report.
func bootedAs(id byte, change func(*testing.T, *evidencetest.Recipe)) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		r.Report.Body = func(b []byte) { copy(b[evidencetest.AtReportID:], bytes.Repeat([]byte{id}, 32)) }
		if change != nil {
			change(t, r)
		}
	}
}

// unmeasured ends a log before the application of the caller is measured.
func unmeasured(r *evidencetest.Recipe) {
	r.Events = r.Events[:1]
	r.Statement.Caller.Executable = nil
}

// appended adds a record with any content to the log.
func appended(content string) func(*testing.T, *evidencetest.Recipe) {
	return func(t *testing.T, r *evidencetest.Recipe) {
		r.Events = append(r.Events, pcr.Event{Type: pcr.EventFull})
		rewritten(len(r.Events), []byte(content))(t, r)
	}
}

func fromTwo(_ *testing.T, r *evidencetest.Recipe) { r.LogStart = 2 }

// otherAgent makes a log that is another from its second record on.
func otherAgent(_ *testing.T, r *evidencetest.Recipe) {
	r.Events[0] = evidencetest.Agent(pcr.EventAgent, "1.0.1", r.AgentKey)
}

// rebooted makes the log of another boot, by the word of the vTPM.
func rebooted(t *testing.T, r *evidencetest.Recipe) {
	otherAgent(t, r)
	r.Batch.Reset++
}

func event(e pcr.Event) func(*testing.T, *evidencetest.Recipe) {
	return func(_ *testing.T, r *evidencetest.Recipe) { r.Events = append(r.Events, e) }
}

var logMutations = []mutation{
	{id: LogContinuation, name: "nothing known of the beginning", blind: true, recipe: fromTwo},
	{id: LogContinuation, name: "another beginning", recipe: fromTwo, opts: continued(func(s *LogState) { s.Head.Digest[0] ^= 1 })},

	{id: LogContinuation, name: "another history of the same boot", recipe: otherAgent, opts: continued(func(*LogState) {})},
	{id: LogContinuation, name: "another history, known without its boot", recipe: otherAgent, opts: continued(func(s *LogState) { s.AKName, s.ResetCount = "", 0 })},
	{id: LogContinuation, name: "shorter than what is known", recipe: func(_ *testing.T, r *evidencetest.Recipe) { unmeasured(r) }, opts: continued(func(s *LogState) { s.Head.Count, s.Head.Digest[0] = 3, s.Head.Digest[0]^1 })},

	{id: LogContinuation, name: "case 100 another history of the same REPORT_ID, under another AK and after a reset of the vTPM", opts: continued(bootAt(1)), recipe: bootedAs(1, func(t *testing.T, r *evidencetest.Recipe) {
		otherAgent(t, r)
		r.AK = evidencetest.ECCKey('o')
		r.Batch.Reset++
	})},
	{id: LogContinuation, name: "case 65 another REPORT_ID, and a vTPM that was not reset", opts: continued(bootAt(1)), recipe: bootedAs(2, otherAgent)},
	{id: LogContinuation, name: "case 100 the known history, with another REPORT_ID", opts: continued(bootAt(1)), recipe: bootedAs(2, nil)},
	{id: LogContinuation, name: "case 100 the rest of the known history, with another REPORT_ID", opts: continued(bootAt(1)), recipe: bootedAs(2, fromTwo)},

	{id: LogDecode, name: "case 28 dropped", blind: true, recipe: logBytes(func(r [][]byte) [][]byte { return append(r[:1:1], r[2:]...) })},
	{id: LogDecode, name: "case 28 swapped", blind: true, recipe: logBytes(func(r [][]byte) [][]byte { return [][]byte{r[0], r[2], r[1]} })},
	{id: LogDecode, name: "case 28 duplicated", recipe: logBytes(func(r [][]byte) [][]byte { return append(r, r[2]) })},
	{id: LogDecode, name: "case 28 inserted", blind: true, recipe: logBytes(func(r [][]byte) [][]byte { return [][]byte{r[0], r[1], r[1], r[2]} })},
	{id: LogDecode, name: "case 30 cut within a record", blind: true, recipe: logBytes(func(r [][]byte) [][]byte { r[2] = r[2][:len(r[2])-1]; return r })},
	{id: LogDecode, name: "case 31 a length of four gigabytes", recipe: logBytes(func(r [][]byte) [][]byte {
		return append(r, []byte{0, 0xff, 0xff, 0xff, 0xff})
	})},
	{id: LogDecode, name: "PCR 99", blind: true, recipe: logBytes(func(r [][]byte) [][]byte { r[2][5+8+5] = 99; return r })},
	{id: LogDecode, name: "case 21 a PCR that software sets back", blind: true, recipe: logBytes(func(r [][]byte) [][]byte {
		for i := range r {
			r[i][5+8+5] = 16
		}
		return r
	})},
	{id: LogDigests, name: "case 29 content edited, digest kept", blind: true, recipe: records(func(r []pcr.Record) {
		r[2].Content = bytes.Replace(r[2].Content, []byte(`"unit":"billing.service"`), []byte(`"unit":"payment.service"`), 1)
	})},
	{id: LogDigests, name: "case 29 one bank is of other content", blind: true, recipe: records(func(r []pcr.Record) { r[2].Digests[1].Value[0] ^= 1 })},
	{id: LogDigests, name: "another PCR", blind: true, recipe: records(func(r []pcr.Record) { r[2].PCR = 12 })},
	{id: LogReplay, name: "case 20 another program extended the PCR", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.PCRs.Set(pcr.SHA256, 13, bytes.Repeat([]byte{0xee}, 32))
	}},
	{id: LogReplay, name: "case 22 one bank was not extended", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.PCRs.Set(pcr.SHA384, 13, make([]byte, 48))
	}},
	{id: LogReplay, name: "a bank that the log does not have", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Banks = r.Banks[:1]
		r.PCRs.Set(pcr.SHA384, 13, make([]byte, 48))
	}},
	{id: LogReplay, name: "the PCR was not quoted", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 4}}}
	}},
	{id: LogReplay, name: "case 49 quoted under SHA-1 alone", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Banks = []pcr.Algorithm{pcr.SHA1, pcr.SHA256}
		r.Select = pcr.Selection{{Algorithm: pcr.SHA1, PCRs: []uint32{13}}, {Algorithm: pcr.SHA256, PCRs: []uint32{0, 4}}}
	}},
	{id: LogHead, name: "another head was committed to", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Batch.Snapshot = func(s *evidence.Snapshot) { s.LogHead.Digest[0] ^= 1 }
	}},
	{id: LogEvents, name: "no start event", blind: true, recipe: rewritten(0, []byte(`{"type":"full","time":1}`))},
	{id: LogEvents, name: "empty log", blind: true, recipe: document(func(e *evidence.Evidence) { e.Log.Records = nil })},
	{id: LogEvents, name: "unknown event", recipe: appended(`{"type":"later","time":9000}`)},
	{id: LogEvents, name: "content in another spelling", recipe: appended(`{ "type":"full","time":9000}`)},
	{id: LogEvents, name: "a record without a time", recipe: appended(`{"type":"full"}`)},
	{id: LogEvents, name: "a record older than the one before it", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Events[1].Time = 999 }},
	{id: LogEvents, name: "an application measured after the agent stopped", blind: true, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events = append(r.Events, evidencetest.Stop(r.AgentKey), r.Events[1])
	}},
	{id: LogEvents, name: "an agent stopped that did not start", blind: true, recipe: event(evidencetest.Stop(evidencetest.Key('b')))},
	{id: LogEvents, name: "another log before the agent's start", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		unmeasured(r)
		agent := evidencetest.Agent(pcr.EventAgent, "1.0.0", r.AgentKey)
		agent.Agent.Previous = evidence.LogHead{Count: 5, Digest: evidence.Digest{5}}
		r.Events = append(r.Events, agent)
	}},
	{id: LogEvents, name: "another log before the agent's start, from an index", opts: continued(func(*LogState) {}), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		unmeasured(r)
		agent := evidencetest.Agent(pcr.EventAgent, "1.0.0", r.AgentKey)
		agent.Agent.Previous = evidence.LogHead{Count: 5, Digest: evidence.Digest{5}}
		r.Events = append(r.Events, agent)
		r.LogStart = 2
	}},
	{id: LogTime, name: "a record after the quote", recipe: func(_ *testing.T, r *evidencetest.Recipe) { r.Events[1].Time = r.Batch.Time + 1 }},
	{id: LogTime, name: "a record after the quote, from an index", opts: continued(func(*LogState) {}), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		fromTwo(nil, r)
		r.Events[1].Time = r.Batch.Time + 1
	}},
	{id: LogTime, name: "a record after the quote of the anchor that covers it", root: anchoredPolicy, recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		anchored(r)
		for i := range r.Events {
			r.Events[i].Time = r.Anchor.Time + 1
		}
	}},
	{id: LogEvents, name: "older than what is known, from an index", opts: continued(func(s *LogState) { s.Time = 1_000_000 }), recipe: fromTwo},
	{id: LogEvents, name: "measured after the agent is known to have stopped, from an index", blind: true, opts: continued(func(s *LogState) { s.Stopped = true }), recipe: fromTwo},
	{id: LogEvents, name: "an agent stopped that did not start, from an index", blind: true, opts: continued(func(*LogState) {}), recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		unmeasured(r)
		r.Events = append(r.Events, evidencetest.Stop(evidencetest.Key('b')))
		r.LogStart = 2
	}},
	{id: LogAgentKey, name: "a key that was never logged", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		r.Events[0] = evidencetest.Agent(pcr.EventAgent, "1.0.0", evidencetest.Key('b'))
	}},
	{id: LogAgentKey, name: "the key of an agent that stopped", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		unmeasured(r)
		r.Events = append(r.Events, evidencetest.Stop(r.AgentKey))
	}},
	{id: LogAgentKey, name: "the key of an earlier start", recipe: func(_ *testing.T, r *evidencetest.Recipe) {
		unmeasured(r)
		r.Events = append(r.Events, evidencetest.Agent(pcr.EventAgent, "1.0.0", evidencetest.Key('b')))
	}},
}
