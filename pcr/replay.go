// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/evidence"
)

// Zero returns the value of a PCR after a reset to zeros, in each bank.
func Zero(banks []Algorithm) []Digest {
	out := make([]Digest, len(banks))
	for i, a := range banks {
		out[i] = Digest{Algorithm: a, Value: make([]byte, a.Size())}
	}
	return out
}

// Extend returns the value that the PCR has in each bank after a record was extended into
// values: H(old, digest) (TPM 2.0 Part 1, section 17.2). It fails if the record does not
// have exactly the banks of values, in their order.
func (r Record) Extend(values []Digest) ([]Digest, error) {
	if len(r.Digests) != len(values) {
		return nil, fmt.Errorf("digests of %d banks, want %d", len(r.Digests), len(values))
	}
	out := make([]Digest, len(values))
	for i, d := range r.Digests {
		if d.Algorithm != values[i].Algorithm {
			return nil, fmt.Errorf("digest of bank %s, want %s", d.Algorithm, values[i].Algorithm)
		}
		if len(d.Value) != d.Algorithm.Size() || d.Algorithm.Size() == 0 {
			return nil, fmt.Errorf("digest of %d bytes for bank %s", len(d.Value), d.Algorithm)
		}
		out[i] = Digest{Algorithm: d.Algorithm, Value: d.Algorithm.Sum(values[i].Value, d.Value)}
	}
	return out, nil
}

// StartOf returns the start event of a whole log, whose first record is number 0. Every
// error is a [*LogError].
func StartOf(records []Record) (*StartEvent, error) {
	if len(records) == 0 || records[0].Number != 0 {
		return nil, &LogError{Code: LogOrder, Offset: -1, Err: errors.New("the log does not begin with record 0")}
	}
	e, err := records[0].Event()
	if err != nil {
		return nil, &LogError{Code: LogContent, Offset: -1, Err: err}
	}
	if e.Type != EventStart {
		return nil, &LogError{Code: LogOrder, Offset: -1, Err: fmt.Errorf("the first record is %q, want %q", e.Type, EventStart)}
	}
	return e.Start, nil
}

// A Replayer follows a log record by record and computes the values that its PCRs must have.
type Replayer struct {
	start     []Register
	registers []Register // now
	learns    bool       // the first record says which PCR the only register is
	first     uint64     // number of the first record
	count     uint64     // records that were followed
	full      bool
	stop      bool           // the last record says that the daemon stopped
	time      uint64         // of the last record
	agent     evidence.Bytes // agent key of the last start or reload that was followed; nil before
	head      evidence.LogHead
	event     *Event // of the last record
}

// NewWholeReplayer returns a Replayer for a whole log, from its first record on, and the
// event of that record. It begins at the values that this event claims.
func NewWholeReplayer(records []Record) (*Replayer, *StartEvent, error) {
	start, err := StartOf(records)
	if err != nil {
		return nil, nil, err
	}
	registers, err := start.Registers()
	if err != nil {
		return nil, nil, &LogError{Code: LogContent, Offset: -1, Err: err}
	}
	return &Replayer{start: registers, registers: registers}, start, nil
}

// NewReplayer returns a Replayer for one PCR that has the values start in each bank. A nil
// start means zeros. The first record says which PCR it is.
func NewReplayer(banks []Algorithm, start []Digest) (*Replayer, error) {
	if start == nil {
		start = Zero(banks)
	}
	if len(banks) == 0 || len(start) != len(banks) {
		return nil, fmt.Errorf("replay: start values of %d banks, want %d", len(start), len(banks))
	}
	for i, a := range banks {
		if start[i].Algorithm != a {
			return nil, fmt.Errorf("replay: start value %d is not one of bank %s", i, a)
		}
	}
	p, err := NewRegisterReplayer([]Register{{Values: start}})
	if err != nil {
		return nil, err
	}
	p.learns = true
	return p, nil
}

// NewRegisterReplayer returns a Replayer for PCRs that have these values: that of the log, and that
// of events of applications if the log has a second one.
func NewRegisterReplayer(registers []Register) (*Replayer, error) {
	if err := checkRegisters(registers); err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	return &Replayer{start: registers, registers: registers}, nil
}

// Values returns the value that the PCR of the log must have now, in each bank.
func (p *Replayer) Values() []Digest { return p.registers[0].Values }

// Registers returns the PCRs of the log with the values that they must have now: that of the log,
// and that of events of applications if there is a second one. The caller must not change them.
func (p *Replayer) Registers() []Register { return p.registers }

// Head returns the log head now. It is right only if the first record was number 0.
func (p *Replayer) Head() evidence.LogHead { return p.head }

// Full reports whether the last record says that the log is full.
func (p *Replayer) Full() bool { return p.full }

// Time returns the time of the last record, 0 before the first.
func (p *Replayer) Time() uint64 { return p.time }

// AgentKey returns the key of the agent that started last and has not stopped since, nil if
// there is none.
func (p *Replayer) AgentKey() []byte {
	if p.stop {
		return nil
	}
	return p.agent
}

// Event returns the event of the last record, nil before the first. The caller must not
// change it.
func (p *Replayer) Event() *Event { return p.event }

// Next follows one more record. Every error is a [*LogError], and leaves the Replayer
// unchanged.
func (p *Replayer) Next(r Record) error {
	if p.count == 0 {
		p.first = r.Number
		if p.learns {
			p.start, p.registers = []Register{{r.PCR, p.start[0].Values}}, []Register{{r.PCR, p.registers[0].Values}}
		}
	}
	if want := p.first + p.count; r.Number != want {
		return p.fail(LogNumber, "it is numbered %d, want %d", r.Number, want)
	}
	if r.PCR > LastStatic || !slices.ContainsFunc(p.registers, func(x Register) bool { return x.PCR == r.PCR }) {
		return p.fail(LogPCR, "it is for PCR %d, the log is for PCR %s", r.PCR, pcrsOf(p.registers))
	}
	next, err := r.ExtendIn(p.registers)
	if err != nil {
		return p.fail(LogBanks, "%w", err)
	}
	for _, d := range r.Digests {
		if !bytes.Equal(d.Algorithm.Sum(r.Content), d.Value) {
			return p.fail(LogDigest, "its %s digest is not that of its content", d.Algorithm)
		}
	}
	e, err := r.Event()
	if err != nil {
		return p.fail(LogContent, "%w", err)
	}
	if want := p.PCROf(e.Type); r.PCR != want {
		return p.fail(LogPCR, "it is for PCR %d, and this log has the event %q in PCR %d", r.PCR, e.Type, want)
	}
	if err := p.follows(r, e); err != nil {
		return err
	}
	p.head = evidence.NextLogHead(p.head, r.Encode())
	p.registers, p.full, p.event = next, e.Type == EventFull, e
	p.stop, p.time = e.Type == EventStop, e.Time
	if e.Agent != nil {
		p.agent = e.Agent.AgentKey
	}
	p.count++
	return nil
}

// fail returns an error about the next record.
func (p *Replayer) fail(code LogCode, format string, a ...any) error {
	return &LogError{Code: code, Index: p.first + p.count, Offset: -1, Err: fmt.Errorf(format, a...)}
}

// follows checks that an event may come next.
func (p *Replayer) follows(r Record, e *Event) error {
	switch {
	case p.full:
		return p.fail(LogOrder, "it follows a record that says the log is full")
	case (e.Type == EventStart) != (r.Number == 0):
		return p.fail(LogOrder, "its event is %q; the first record of a log, and no other, is %q", e.Type, EventStart)
	case e.Time < p.time:
		return p.fail(LogTime, "its time is %d ms, before the %d ms of the record before it", e.Time, p.time)
	case e.Time == p.time && p.count > 0 && p.PCROf(e.Type) != p.PCROf(p.event.Type):
		return p.fail(LogTime, "its time is %d ms, as that of the record before it, which is in another PCR: want a later one", e.Time)
	case p.stop && e.Type != EventAgent && e.Type != EventFull:
		return p.fail(LogOrder, "its event is %q, after one that says that the agent stopped; want %q", e.Type, EventAgent)
	case e.Stop != nil && (p.agent != nil || p.first == 0) && !bytes.Equal(e.Stop.AgentKey, p.agent):
		return p.fail(LogOrder, "it says that an agent stopped which is not the one that started last")
	}
	if e.Start != nil {
		if err := p.checkStart(e.Start); err != nil {
			return err
		}
	}
	if e.Agent != nil && p.first == 0 && e.Agent.Previous != p.head {
		return p.fail(LogPrevious, "it names a log of %d records with digest %s before it, which has %d and %s",
			e.Agent.Previous.Count, e.Agent.Previous.Digest, p.head.Count, p.head.Digest)
	}
	return nil
}

// checkStart checks that the first record claims the values that the replay began with.
func (p *Replayer) checkStart(s *StartEvent) error {
	said, err := s.Registers()
	if err != nil {
		return &LogError{Code: LogContent, Offset: -1, Err: err}
	}
	if s.PCR != p.start[0].PCR {
		return &LogError{Code: LogPCR, Offset: -1, Err: fmt.Errorf("it starts a log of PCR %d and extends PCR %d", s.PCR, p.start[0].PCR)}
	}
	if !EqualRegisters(said, p.start) {
		return &LogError{Code: LogBanks, Offset: -1, Err: errors.New("its start values do not match those given")}
	}
	return nil
}

// Replay returns the value that the PCR must have in each bank after records, if it had
// the values start before the first. A nil start means zeros. The records must be numbered
// one by one and be for one PCR; [NewWholeReplayer] follows a log of two as well. Each must have
// exactly one digest for each bank, which is the hash of its content. The contents must be events
// in a possible order. A log from its first record on must also claim the same start values. An
// error about a record is a [*LogError].
func Replay(records []Record, banks []Algorithm, start []Digest) ([]Digest, error) {
	p, err := NewReplayer(banks, start)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if err := p.Next(r); err != nil {
			return nil, err
		}
	}
	return p.Values(), nil
}
