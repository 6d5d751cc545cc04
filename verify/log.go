// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

var logChecks = []CheckID{LogContinuation, LogDecode, LogDigests, LogReplay, LogHead, LogEvents, LogStartValue, LogAgentKey}

// checkLog replays the measurement log to the quoted PCR, and finds what it says.
func (a *appraiser) checkLog() {
	l := a.e.Log
	if l == nil {
		for _, id := range append(logChecks, AnchorLogPrefix, AnchorLogReplay) {
			a.Skip(id, "the evidence holds no log")
		}
		return
	}
	state, head, ok := a.logBegin(l)
	if !ok {
		return
	}
	records, err := pcr.DecodeLog(l.Records, l.Start)
	if !a.DecideError(LogDecode, err) {
		return
	}
	w := &logWalk{appraiser: a, state: newHistory(state), records: records, first: head, head: head}
	w.run()
}

// logBegin is what is known of the log before its first record here: nothing for a
// whole log, an earlier appraisal's state for one that starts at an index. Whether a
// whole log passes through a known state, its walk will tell.
func (a *appraiser) logBegin(l *evidence.Log) (*LogState, evidence.LogHead, bool) {
	if l.Start == 0 {
		if a.expect.LogState == nil {
			a.Skip(LogContinuation, "the log is whole, and no earlier state of it is known")
		}
		return &LogState{}, evidence.LogHead{}, true
	}
	head := evidence.LogHead{Count: l.Start, Digest: l.Previous}
	known := a.expect.LogState
	switch {
	case known == nil:
		a.Decide(LogContinuation, false, "a log from record 0", fmt.Sprintf("one from record %d", l.Start),
			"the log starts at an index, and this verifier knows nothing of what came before: ask for the whole log")
		return nil, head, false
	case known.Head != head:
		if !a.Decide(LogContinuation, false, headText(known.Head), headText(head), "the log does not continue the one that is known from before") {
			return nil, head, false
		}
	}
	a.Decide(LogContinuation, true, "", "", "")
	return known.clone(), head, true
}

func headText(h evidence.LogHead) string { return fmt.Sprintf("%d records, %s", h.Count, h.Digest) }

// logWalk takes the records one by one: the values of the PCR by extending, and the
// history by reading the events.
type logWalk struct {
	*appraiser
	state   *history
	records []pcr.Record
	first   evidence.LogHead // before the first record here
	head    evidence.LogHead
	replay  *pcr.Replayer
	start   []pcr.Digest // before the first record here
	values  []pcr.Digest
	events  []*pcr.Event // of the records that the replay accepted; head and values are those behind them
	anchor  bool         // whether the log passed through the anchor's head
	known   bool         // whether it passed through the head that is known from before
	then    []pcr.Digest
}

func (w *logWalk) run() {
	index, err := w.begin()
	if err != nil {
		w.DecideError(LogEvents, err)
		return
	}
	w.values = w.start
	w.pass()
	digests, events := w.checkRecords()
	for i, r := range w.records {
		if events {
			w.read(i)
		}
		if i < len(w.events) {
			continue
		}
		if digests {
			w.values, err = r.Extend(w.values)
			if err != nil { // checkRecords has refused it
				return
			}
		}
		w.head = evidence.NextLogHead(w.head, r.Encode())
		w.pass()
	}
	w.checkKnown()
	w.Decide(LogHead, w.head == w.e.Batch.LogHead, headText(w.e.Batch.LogHead), headText(w.head), "the log is not the one that agent and report committed to")
	w.state.Head, w.state.PCR = w.head, index
	if w.batch != nil && w.ak != nil {
		w.state.AKName, w.state.ResetCount = hex.EncodeToString(w.ak.Name), w.batch.attest.ResetCount
	}
	if digests {
		w.state.Values = bankValues(w.values)
		w.compare(LogReplay, w.batch, w.values)
		w.checkStart()
	}
	if events {
		w.Decide(LogAgentKey, equal(w.state.AgentKey, w.e.AgentKey), short(w.state.AgentKey), short(w.e.AgentKey),
			"the evidence's agent key is not the one that the last start of the agent logged")
	}
	w.checkAnchorLog(digests)
	if digests && events {
		w.log = w.state.LogState
	}
}

// begin finds PCR, banks and values from which the records are to be replayed.
func (w *logWalk) begin() (uint32, error) {
	if w.first.Count != 0 {
		var err error
		w.start, err = digestsOf(w.state.Values)
		return w.state.PCR, err
	}
	replay, start, err := pcr.NewWholeReplayer(w.records)
	if err != nil {
		return 0, err
	}
	w.replay, w.start = replay, replay.Values()
	w.state.Start = bankValues(w.start)
	return start.PCR, nil
}

// continued is the replay of a log that begins at an index.
func (w *logWalk) continued() (*pcr.Replayer, error) {
	var banks []pcr.Algorithm
	for _, d := range w.start {
		banks = append(banks, d.Algorithm)
	}
	return pcr.NewReplayer(banks, w.start)
}

// checkRecords has every record checked and tells whether digests and events can be
// relied on. The first fault is reported, with the number of its record.
func (w *logWalk) checkRecords() (digests, events bool) {
	err := w.follow()
	if err == nil && len(w.records) > 0 && w.records[0].Number > 0 && w.records[0].PCR != w.state.PCR {
		err = &pcr.LogError{Code: pcr.LogPCR, Index: w.records[0].Number, Offset: -1, Err: fmt.Errorf("it is of PCR %d, the log of PCR %d", w.records[0].PCR, w.state.PCR)}
	}
	if err == nil {
		err = w.checkPrevious()
	}
	var l *pcr.LogError
	if !errors.As(err, &l) {
		w.Decide(LogDigests, err == nil, "", "", "%v", err)
		w.Decide(LogEvents, err == nil, "", "", "%v", err)
		return w.Passed(LogDigests), w.Passed(LogEvents)
	}
	switch l.Code {
	case pcr.LogContent, pcr.LogOrder, pcr.LogPrevious:
		// Those before it are all that count; those behind it were not looked at.
		w.PassWith(LogDigests, "every record before number %d is of one PCR, and each digest is that of its content", l.Index)
		return true, w.DecideError(LogEvents, err)
	default:
		w.Block(LogEvents, "not read: %v", err)
		return w.DecideError(LogDigests, err), false
	}
}

// follow replays the records, takes values and head along, and keeps the events.
func (w *logWalk) follow() (err error) {
	p := w.replay
	if p == nil {
		if p, err = w.continued(); err != nil {
			return err
		}
	}
	for _, r := range w.records {
		if err := p.Next(r); err != nil {
			return err
		}
		w.events = append(w.events, p.Event())
		w.values = p.Values()
		if w.replay != nil {
			w.head = p.Head()
		} else { // the replay does not know what came before
			w.head = evidence.NextLogHead(w.head, r.Encode())
		}
		w.pass()
	}
	return nil
}

// event is the event of record i.
func (w *logWalk) event(i int) (*pcr.Event, error) {
	if i < len(w.events) {
		return w.events[i], nil
	}
	return w.records[i].Event()
}

// checkPrevious holds the agent's starts in a log that begins at an index against the
// heads before them; for a whole log the replay has done it.
func (w *logWalk) checkPrevious() error {
	head := w.first
	if head.Count == 0 {
		return nil
	}
	for i, r := range w.records {
		e, err := w.event(i)
		if err != nil {
			return &pcr.LogError{Code: pcr.LogContent, Index: r.Number, Offset: -1, Err: err}
		}
		if e.Agent != nil && e.Agent.Previous != head {
			return &pcr.LogError{Code: pcr.LogPrevious, Index: r.Number, Offset: -1, Err: errors.New("it names another log before it")}
		}
		if w.state.Full {
			return &pcr.LogError{Code: pcr.LogOrder, Index: r.Number, Offset: -1, Err: errors.New("it follows a record that says the log is full")}
		}
		head = evidence.NextLogHead(head, r.Encode())
	}
	return nil
}

// read takes what the event of record i says into the history.
func (w *logWalk) read(i int) {
	e, err := w.event(i)
	if err != nil { // checkRecords has refused it
		return
	}
	w.state.add(w.records[i].Number, e)
}

// pass notes when the walk is at a head that it must come through, with the PCR values
// at the anchor's.
func (w *logWalk) pass() {
	if a := w.e.Anchor; a != nil && w.head == a.LogHead {
		w.anchor, w.then = true, w.values
	}
	if k := w.expect.LogState; k != nil && w.head == k.Head {
		w.known = true
	}
}

// checkKnown holds a whole log against the state that is known from before. Within one
// boot a log only grows: one that never was in that state is another history. After a
// boot, or of another machine, it is another log by right, and what the known one said
// does not count; that is told to people.
func (w *logWalk) checkKnown() {
	k := w.expect.LogState
	if k == nil || w.first.Count != 0 || w.batch == nil || w.ak == nil {
		return
	}
	ak, boot := hex.EncodeToString(w.ak.Name), w.batch.attest.ResetCount
	if w.known || k.AKName == "" || k.AKName == ak && k.ResetCount == boot {
		w.Decide(LogContinuation, w.known, headText(k.Head), "no such state", "the log never was in the state that is known from before, and nothing shows that it is of another boot")
		return
	}
	w.Skip(LogContinuation, "the log is whole, and of another boot or machine than the one that is known from before")
	w.otherLog = "The log is not a later state of the one that is known from before: the vTPM was reset since, or it is another. What the known log recorded is not in it."
}

func (w *logWalk) checkAnchorLog(digests bool) {
	if w.e.Anchor == nil {
		return
	}
	h := w.e.Anchor.LogHead
	if h.Count < w.e.Log.Start {
		w.Block(AnchorLogPrefix, "the anchor's log ended at record %d, before the log of the evidence starts: ask for the log from there, or whole", h.Count)
		w.Block(AnchorLogReplay, "see %s", AnchorLogPrefix)
		return
	}
	if !w.Decide(AnchorLogPrefix, w.anchor, headText(h), "no such state", "the anchor was made for another log") || !digests {
		return
	}
	if w.then == nil {
		w.then = w.start
	}
	if w.appraiser.anchor != nil {
		w.compare(AnchorLogReplay, w.appraiser.anchor, w.then)
	}
}

// compare holds replayed values against the quoted ones, in every quoted bank. A
// quote that leaves this PCR out, or has it under SHA-1 only, proves nothing of it.
func (w *logWalk) compare(id CheckID, q *quoted, values []pcr.Digest) {
	if q == nil || q.values == nil {
		return
	}
	index := w.state.PCR
	banks, strong := q.banksOf(index)
	if !strong {
		w.Decide(id, false, fmt.Sprintf("PCR %d in a bank of SHA-256 or stronger", index), "not quoted", "the log is of PCR %d, which the quote does not cover", index)
		return
	}
	for _, b := range banks {
		i := slices.IndexFunc(values, func(d pcr.Digest) bool { return d.Algorithm == b })
		quotedValue := q.values[b][index]
		if i < 0 {
			if !w.Decide(id, false, b.String(), "no such bank in the log", "PCR %d was quoted in bank %s, which the log did not extend", index, b) {
				return
			}
			continue
		}
		if !w.Decide(id, equal(values[i].Value, quotedValue), fmt.Sprintf("%x", quotedValue), fmt.Sprintf("%x", values[i].Value),
			"replaying the log does not give the quoted value of PCR %d in bank %s", index, b) {
			return
		}
	}
}

// checkStart accepts a start value that is zero or that the policy lists, in every
// quoted bank that can be relied on. Another one means that somebody extended the PCR
// before this log began, or that this is not the first log of the boot.
func (w *logWalk) checkStart() {
	if w.batch == nil {
		return
	}
	start, err := digestsOf(w.state.Start)
	if err != nil {
		w.DecideError(LogStartValue, err)
		return
	}
	banks, _ := w.batch.banksOf(w.state.PCR)
	for _, d := range start {
		if d.Algorithm == pcr.SHA1 || !slices.Contains(banks, d.Algorithm) || isZero(d.Value) {
			continue
		}
		if !w.Decide(LogStartValue, w.p.StartsAt(d), "zero, or a [[start_value]] of the policy", fmt.Sprintf("%s %x", d.Algorithm, d.Value),
			"PCR %d was not zero when the log began, and nothing explains its value: a log may have been deleted during this boot", w.state.PCR) {
			return
		}
	}
	w.Decide(LogStartValue, true, "", "", "")
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }
