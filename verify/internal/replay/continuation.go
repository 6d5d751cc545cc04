// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/hex"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

var continuation = check.Definition{ID: "log.continuation", Class: check.Binding, Ground: check.OnHistory, Checks: "a log that starts at an index, or that is of the same boot, continues the log that the verifier knows from before", Stops: "a log whose inconvenient beginning was left out, or another history in its place"}

// Continued says how a log is related to the one that the verifier knows from before.
type Continued int

// Relations of a log to the known one.
const (
	NothingKnown Continued = iota // the verifier knows no earlier log
	OtherBoot                     // it is of another boot or machine
	Continues                     // it passes through the known state
	Contradicts                   // it does not, and nothing shows that it is of another boot
)

// boot says whether evidence is of the boot that a known state is of.
type boot int

const (
	bootUnknown boot = iota
	bootSame
	bootOther
)

// bootOf compares the names of two boots. The processor signs the name of a boot in the
// report, so it counts whatever the vTPM says. If one of the two is not known, the AK and
// the vTPM's count of resets have to do, which rest on the word of the vTPM.
func (in *Input) bootOf(k *State) boot {
	if in.namesBoot() {
		return bootIf(k.ReportID == in.ReportID)
	}
	return in.bootByTPM(k)
}

// bootByTPM compares the AK and the vTPM's count of resets.
func (in *Input) bootByTPM(k *State) boot {
	if k.AKName == "" || in.Batch == nil || in.AK == nil {
		return bootUnknown
	}
	return bootIf(k.AKName == hex.EncodeToString(in.AK) && k.ResetCount == in.Batch.ResetCount())
}

// namesBoot reports whether the names of both boots are known.
func (in *Input) namesBoot() bool { return in.Known.ReportID != "" && in.ReportID != "" }

func bootIf(same bool) boot {
	if same {
		return bootSame
	}
	return bootOther
}

// begin returns what is known of the log before its first record here: nothing for a
// whole log, an earlier appraisal's state for one that starts at an index. Whether a
// whole log passes through a known state, its walk tells.
func begin(f *check.Findings, in Input, out *Result) (*State, evidence.LogHead, bool) {
	if in.Log.Start == 0 {
		if in.Known == nil {
			f.Skip(continuation.ID, "the log is whole, and no earlier state of it is known")
		}
		return &State{}, evidence.LogHead{}, true
	}
	head := evidence.LogHead{Count: in.Log.Start, Digest: in.Log.Previous}
	switch {
	case in.Known == nil:
		f.Decide(continuation.ID, false, "a log from record 0", fmt.Sprintf("one from record %d", in.Log.Start),
			"the log starts at an index, and this verifier knows nothing of what came before: ask for the whole log")
		return nil, head, false
	case in.Known.Head != head:
		out.Continued = Contradicts
		if !f.Decide(continuation.ID, false, headText(in.Known.Head), headText(head), "the log does not continue the one that is known from before") {
			return nil, head, false
		}
	case in.foreign(f, out):
		return nil, head, false
	default:
		f.Decide(continuation.ID, true, "", "", "")
	}
	out.Continued = Continues
	return in.Known.Clone(), head, true
}

// foreign refuses a log that continues one of another boot by the processor's word, and
// reports whether it did. A log begins with its boot, so a later boot that continues it
// shows a history that is not its own.
func (in *Input) foreign(f *check.Findings, out *Result) bool {
	if !in.namesBoot() || in.Known.ReportID == in.ReportID {
		return false
	}
	out.Continued = Contradicts
	return !f.Decide(continuation.ID, false, "REPORT_ID "+in.Known.ReportID, "REPORT_ID "+in.ReportID,
		"the log continues one of another boot, by the REPORT_ID that the processor signs: a log begins anew with each boot")
}

// checkKnown compares a whole log with the state that is known from before. Within one
// boot a log only grows: one that never was in that state is another history. After a
// boot, or of another machine, it may be another log, and what the known one said does
// not count; a sentence tells people so.
func (w *walk) checkKnown() {
	k := w.in.Known
	if k == nil || w.first.Count != 0 {
		return
	}
	byReport := w.in.namesBoot()
	if !byReport && (w.in.Batch == nil || w.in.AK == nil) {
		return
	}
	switch b := w.in.bootOf(k); {
	case w.known && w.in.foreign(w.Findings, w.out):
	case w.known:
		w.out.Continued = Continues
		w.Decide(continuation.ID, true, "", "", "")
	case b == bootOther && byReport && w.in.bootByTPM(k) == bootSame:
		w.out.Continued = Contradicts
		w.Decide(continuation.ID, false, "REPORT_ID "+k.ReportID, "REPORT_ID "+w.in.ReportID,
			"the vTPM says that it was not reset since the log that is known from before, and the REPORT_ID that the processor signs is of another boot: the vTPM is a copy, or serves another machine")
	case b != bootOther:
		w.out.Continued = Contradicts
		sentence := "the log was never in the state that is known from before, and nothing shows that it is of another boot"
		if byReport {
			sentence = "the log was never in the state that is known from before, and the REPORT_ID that the processor signs is of the same boot"
		}
		w.Decide(continuation.ID, false, headText(k.Head), "no such state", "%s", sentence)
	default:
		w.out.Continued = OtherBoot
		w.Skip(continuation.ID, "the log is whole, and of another boot or machine than the one that is known from before")
		w.out.Other = "The log is not a later state of the one that is known from before: by the word of the vTPM, it was reset since, or it is another. What the known log recorded is not in it."
		if byReport {
			w.out.Other = "The log is not a later state of the one that is known from before: by the REPORT_ID that the processor signs, this is another boot, or another machine. What the known log recorded is not in it."
		}
	}
}

// checkPrevious compares a log that begins at an index with the state before it: heads,
// time, the agent and its stop. For a whole log the replay has done it.
func (w *walk) checkPrevious() error {
	head, agent := w.first, w.state.AgentKey
	if head.Count == 0 {
		return nil
	}
	for i, r := range w.records {
		e, err := w.event(i)
		fail := func(code pcr.LogCode, format string, a ...any) error {
			return &pcr.LogError{Code: code, Index: r.Number, Offset: -1, Err: fmt.Errorf(format, a...)}
		}
		switch {
		case err != nil:
			return fail(pcr.LogContent, "%w", err)
		case e.Agent != nil && e.Agent.Previous != head:
			return fail(pcr.LogPrevious, "it names another log before it")
		case w.state.Full:
			return fail(pcr.LogOrder, "it follows a record that says the log is full")
		case i == 0 && e.Time < w.state.Time:
			return fail(pcr.LogTime, "its time is %d ms, before the %d ms of the record before it", e.Time, w.state.Time)
		case i == 0 && e.Time == w.state.Time && w.state.switches(e.Type):
			return fail(pcr.LogTime, "its time is %d ms, as that of the record before it, which is in another PCR: want a later one", e.Time)
		case i == 0 && w.state.Stopped && e.Type != pcr.EventAgent && e.Type != pcr.EventFull:
			return fail(pcr.LogOrder, "its event is %q, after one that says that the agent stopped", e.Type)
		case e.Stop != nil && !bytes.Equal(e.Stop.AgentKey, agent):
			return fail(pcr.LogOrder, "it says that an agent stopped which is not the one that started last")
		case e.Agent != nil:
			agent = e.Agent.AgentKey
		}
		head = evidence.NextLogHead(head, r.Encode())
	}
	return nil
}
