// SPDX-License-Identifier: Apache-2.0

// Package replay checks the logs of evidence: the measurement log against quoted PCRs,
// with the history that it records, and the firmware's log.
package replay

import (
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

var (
	decode         = check.Definition{ID: "log.decode", Class: check.Binding, Ground: check.OnVerifier, Checks: "the log is a sequence of CEL-TLV records, numbered without a gap", Stops: "records dropped, swapped, duplicated or inserted"}
	contentDigests = check.Definition{ID: "log.digests", Class: check.Binding, Ground: check.OnVerifier, Checks: "every record is of the PCR that its event belongs to, has one digest for each active bank, and each digest is that of the record's content", Stops: "content edited while its digest is kept"}
	pcrValue       = check.Definition{ID: "log.replay", Class: check.Binding, Ground: check.OnHistory, Checks: "replaying the log gives the quoted value of each of its PCRs, in every quoted bank", Stops: "a log edited after the fact, or cut off at its end"}
	headCommitted  = check.Definition{ID: "log.head", Class: check.Binding, Ground: check.OnHistory, Checks: "the log's head is the one that report and agent committed to", Stops: "a log other than the one that was there when the quote was made"}
	eventsKnown    = check.Definition{ID: "log.events", Class: check.Binding, Ground: check.OnHistory, Checks: "the log begins with its start event, every content is an event of the format, each start of the agent names the log head it found, and each event of an application is of one that is declared", Stops: "content that verifier and agent read differently"}
	lastAgentKey   = check.Definition{ID: "log.agent-key", Class: check.Binding, Ground: check.OnHistory, Checks: "the evidence's agent key is the one that the log names at the last start of the agent, and that agent has not stopped since", Stops: "an agent key that never was in the measured log, or that outlived its agent"}
	anchorPrefix   = check.Definition{ID: "anchor.log-prefix", Class: check.Binding, Ground: check.OnHistory, Checks: "the anchor's log head is a state that the log passed through", Stops: "an anchor of another log"}
	anchorReplay   = check.Definition{ID: "anchor.log-replay", Class: check.Binding, Ground: check.OnHistory, Checks: "replaying the log up to the anchor gives the values of its PCRs that the anchor quoted", Stops: "an anchor whose PCR was in a state that the log does not explain"}
	firmwareDecode = check.Definition{ID: "firmware.decode", Class: check.Collateral, Ground: check.OnVerifier, Checks: "the firmware's log is a crypto-agile event log with known counts, sizes and PCRs, if the policy asks for it; a log that is not is used for nothing", Stops: "a log that two parsers read differently, or that makes its reader run out of memory"}
)

// The checks of this package: of the measurement log, of the anchor's place in it, and of
// the firmware's log.
var (
	Definitions         = []check.Definition{continuation, decode, contentDigests, pcrValue, headCommitted, eventsKnown, logTime, lastAgentKey, statedCaller}
	AnchorDefinitions   = []check.Definition{anchorPrefix, anchorReplay}
	FirmwareDefinitions = []check.Definition{firmwareDecode}
)

// Input is what a measurement log is checked against.
type Input struct {
	Log        *evidence.Log     // nil if the evidence contains none
	Head       evidence.LogHead  // that report and agent committed to
	Time       uint64            // of the quote, by the guest's clock in milliseconds
	AgentKey   []byte            // of the evidence
	Caller     *evidence.Caller  // in the statement; nil if it could not be read
	AK         []byte            // name of the attestation key; nil if it was not established
	ReportID   string            // name of the boot that the platform signed, hexadecimal; empty if it is not known
	Batch      *quote.Quote      // of the evidence; nil if it could not be read
	Anchor     *quote.Quote      // of its anchor; nil if there is none, or it could not be read
	AnchorHead *evidence.LogHead // head that the anchor committed to; nil if there is no anchor
	AnchorTime uint64            // of the anchor's quote, likewise
	Known      *State            // of an earlier appraisal; nil if none is known
}

// Result is what a log says.
type Result struct {
	State *State // nil unless digests and events of the log passed
	Other string // sentence about a log that is not a later state of the known one

	Continued Continued // relation to the known log
}

// Check replays the measurement log to the quoted PCR, and finds what it says.
func Check(f *check.Findings, in Input) Result {
	var out Result
	if in.Log == nil {
		f.SkipAll(Definitions, "the evidence contains no log")
		f.SkipAll(AnchorDefinitions, "the evidence contains no log")
		return out
	}
	state, head, ok := begin(f, in, &out)
	if !ok {
		return out
	}
	records, err := pcr.DecodeLog(in.Log.Records, in.Log.Start)
	if !f.DecideError(decode.ID, err) {
		return out
	}
	w := &walk{Findings: f, in: in, out: &out, state: newHistory(state), records: records, first: head, head: head}
	w.run()
	return out
}

// Firmware parses the firmware's log and returns the PCR values that it leads to, nil if
// there is none that can be read. Its replay is never compared with start values of our
// own log: an attacker who invents a log can make it lead to any value that a PCR was
// ever extended to.
//
// The host's firmware wrote the log, and nothing signed it. So a log that cannot be read makes no
// evidence forged: it is unusable, and the appraisal says why. It fails only if it is required.
func Firmware(f *check.Findings, b []byte, required bool) pcr.Values {
	if len(b) == 0 {
		f.Skip(firmwareDecode.ID, "there is no firmware log")
		return nil
	}
	l, err := tcglog.Parse(b)
	if err != nil && !required {
		f.Skip(firmwareDecode.ID, "the firmware's log cannot be used, and the policy does not ask for it: %v", err)
		return nil
	}
	if !f.DecideError(firmwareDecode.ID, err) || l == nil {
		return nil
	}
	return l.Replay()
}

// FirmwareAsked reports whether there is a firmware log, read or not.
func FirmwareAsked(f *check.Findings) bool { return f.Asked(firmwareDecode.ID) }
