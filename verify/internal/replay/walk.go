// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

func headText(h evidence.LogHead) string {
	return text.Count(h.Count, "record") + ", " + h.Digest.String()
}

// walk takes the records one by one: the values of the PCRs by extending, and the history
// by reading the events.
type walk struct {
	*check.Findings
	in      Input
	out     *Result
	state   *history
	records []pcr.Record
	first   evidence.LogHead // before the first record here
	head    evidence.LogHead
	replay  *pcr.Replayer
	start   []pcr.Register // before the first record here
	values  []pcr.Register
	events  []*pcr.Event   // of the records that the replay accepted; head and values are those after them
	anchor  bool           // the log passed through the anchor's head
	known   bool           // the log passed through the head that is known from before
	then    []pcr.Register // values at the anchor's head
}

func (w *walk) run() {
	err := w.begin()
	if err != nil {
		w.DecideError(eventsKnown.ID, err)
		return
	}
	w.values = w.start
	w.pass()
	digests, events := w.checkRecords()
	for i, r := range w.records {
		if i < len(w.events) {
			continue
		}
		if digests {
			w.values, err = r.ExtendIn(w.values)
			if err != nil { // checkRecords has refused it
				return
			}
		}
		w.head = evidence.NextLogHead(w.head, r.Encode())
		w.pass()
	}
	w.checkKnown()
	w.Decide(headCommitted.ID, w.head == w.in.Head, headText(w.in.Head), headText(w.head), "the log is not the one that agent and report committed to")
	w.state.close()
	w.state.Head, w.state.ReportID = w.head, w.in.ReportID
	if w.in.Batch != nil && w.in.AK != nil {
		w.state.AKName, w.state.ResetCount = hex.EncodeToString(w.in.AK), w.in.Batch.ResetCount()
	}
	if digests {
		w.state.reach(w.values)
		w.compare(pcrValue.ID, w.in.Batch, w.values)
	}
	if events {
		w.checkTimes()
		w.checkAgentKey()
		w.checkCaller()
	}
	w.checkAnchorLog(digests)
	if digests && events {
		w.out.State = w.state.State
	}
}

// begin finds PCRs, banks and values to replay the records from.
func (w *walk) begin() error {
	if w.first.Count != 0 {
		var err error
		w.start, err = w.state.now()
		return err
	}
	replay, _, err := pcr.NewWholeReplayer(w.records)
	if err != nil {
		return err
	}
	w.replay, w.start = replay, replay.Registers()
	w.state.begin(w.start)
	return nil
}

// checkRecords checks every record and reports whether digests and events can be
// relied on. The first fault is reported, with the number of its record.
func (w *walk) checkRecords() (digests, events bool) {
	err := w.follow()
	if err == nil {
		err = w.checkPrevious()
	}
	if told := w.remember(); err == nil {
		err = told
	}
	var l *pcr.LogError
	if !errors.As(err, &l) {
		w.Decide(contentDigests.ID, err == nil, "", "", "%v", err)
		w.Decide(eventsKnown.ID, err == nil, "", "", "%v", err)
		return w.Passed(contentDigests.ID), w.Passed(eventsKnown.ID)
	}
	switch l.Code {
	case pcr.LogContent, pcr.LogOrder, pcr.LogTime, pcr.LogPrevious:
		// Only those before it count; those after it were not looked at.
		w.PassWith(contentDigests.ID, "every record before number %d is of its PCR, and each digest is that of its content", l.Index)
		return true, w.DecideError(eventsKnown.ID, err)
	default:
		w.Block(eventsKnown.ID, "not read: %v", err)
		return w.DecideError(contentDigests.ID, err), false
	}
}

// follow replays the records, takes values and head along, and keeps the events.
func (w *walk) follow() (err error) {
	p := w.replay
	if p == nil { // a log that begins at an index
		if p, err = pcr.NewRegisterReplayer(w.start); err != nil {
			return err
		}
	}
	for _, r := range w.records {
		if err := p.Next(r); err != nil {
			return err
		}
		w.events = append(w.events, p.Event())
		w.values = p.Registers()
		if w.replay != nil {
			w.head = p.Head()
		} else { // the replay does not know what came before
			w.head = evidence.NextLogHead(w.head, r.Encode())
		}
		w.pass()
	}
	return nil
}

// remember adds every event to the history, and returns the first contradiction.
func (w *walk) remember() (first error) {
	for i, r := range w.records {
		e, err := w.event(i)
		if err != nil {
			continue // checkRecords refuses a record without an event
		}
		if err := w.state.add(r.Number, e); err != nil && first == nil {
			first = &pcr.LogError{Code: pcr.LogOrder, Index: r.Number, Offset: -1, Err: err}
		}
	}
	return first
}

// checkAgentKey wants the key of the agent that runs. The key of one that stopped is over:
// a program that kept it must not sign for the time after.
func (w *walk) checkAgentKey() {
	key := w.state.AgentKey
	if w.state.Stopped && bytes.Equal(key, w.in.AgentKey) {
		w.Decide(lastAgentKey.ID, false, "an agent that runs", check.Short(key)+", which stopped", "the log says that the agent with this key has stopped")
		return
	}
	w.Decide(lastAgentKey.ID, bytes.Equal(key, w.in.AgentKey), check.Short(key), check.Short(w.in.AgentKey),
		"the evidence's agent key is not the one that the last start of the agent logged")
}

// event returns the event of record i.
func (w *walk) event(i int) (*pcr.Event, error) {
	if i < len(w.events) {
		return w.events[i], nil
	}
	return w.records[i].Event()
}

// pass records that the walk is at a head that it must come through, with the PCR values
// at the anchor's.
func (w *walk) pass() {
	if a := w.in.AnchorHead; a != nil && w.head == *a {
		w.anchor, w.then = true, w.values
	}
	if k := w.in.Known; k != nil && w.head == k.Head {
		w.known = true
	}
}

func (w *walk) checkAnchorLog(digests bool) {
	if w.in.AnchorHead == nil {
		return
	}
	h := *w.in.AnchorHead
	if h.Count < w.in.Log.Start {
		w.Block(anchorPrefix.ID, "the anchor's log ended at record %d, before the log of the evidence starts: ask for the log from there, or whole", h.Count)
		w.Block(anchorReplay.ID, "see %s", anchorPrefix.ID)
		return
	}
	if !w.Decide(anchorPrefix.ID, w.anchor, headText(h), "no such state", "the anchor was made for another log") || !digests {
		return
	}
	if w.then == nil {
		w.then = w.start
	}
	w.compare(anchorReplay.ID, w.in.Anchor, w.then)
}

// compare checks that the replayed values match the quoted ones, of every PCR of the log in every
// quoted bank. A quote that leaves such a PCR out, or has it under SHA-1 only, proves nothing of it.
func (w *walk) compare(id check.ID, q *quote.Quote, registers []pcr.Register) {
	if q == nil || q.Values == nil {
		return
	}
	for _, r := range registers {
		if !w.compareOne(id, q, r) {
			return
		}
	}
}

// compareOne does so for one PCR, and reports whether it passed.
func (w *walk) compareOne(id check.ID, q *quote.Quote, r pcr.Register) bool {
	banks, strong := q.Banks(r.PCR)
	if !strong {
		return w.Decide(id, false, fmt.Sprintf("PCR %d in a bank of SHA-256 or stronger", r.PCR), "not quoted", "the log is of PCR %d, which the quote does not cover", r.PCR)
	}
	for _, b := range banks {
		i := slices.IndexFunc(r.Values, func(d pcr.Digest) bool { return d.Algorithm == b })
		quotedValue := q.Values[b][r.PCR]
		if i < 0 {
			if !w.Decide(id, false, b.String(), "no such bank in the log", "PCR %d was quoted in bank %s, which the log did not extend", r.PCR, b) {
				return false
			}
			continue
		}
		if !w.Decide(id, bytes.Equal(r.Values[i].Value, quotedValue), fmt.Sprintf("%x", quotedValue), fmt.Sprintf("%x", r.Values[i].Value),
			"replaying the log does not give the quoted value of PCR %d in bank %s", r.PCR, b) {
			return false
		}
	}
	return true
}
