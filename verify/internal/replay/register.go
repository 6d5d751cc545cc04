// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"fmt"
	"slices"

	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// EventsPCR is the PCR of the events of applications, if the log has a second one for them.
type EventsPCR struct {
	PCR    uint32      `json:"pcr"`    // PCR of all records of app-event and of no other
	Start  []BankValue `json:"start"`  // values before the first record of the log
	Values []BankValue `json:"values"` // values at Head, in every bank of the log
}

// Began returns the PCRs of the log with the values before its first record, that of the log
// first. A state that is kept elsewhere may spell them in a way that cannot be read.
func (s *State) Began() ([]pcr.Register, error) {
	values := [][]BankValue{s.Start}
	if s.Events != nil {
		values = append(values, s.Events.Start)
	}
	return s.registers(values)
}

// now returns the PCRs of the log with the values at Head.
func (s *State) now() ([]pcr.Register, error) {
	values := [][]BankValue{s.Values}
	if s.Events != nil {
		values = append(values, s.Events.Values)
	}
	return s.registers(values)
}

func (s *State) registers(values [][]BankValue) (out []pcr.Register, err error) {
	for i, v := range values {
		r := pcr.Register{PCR: s.PCR}
		if i > 0 {
			r.PCR = s.Events.PCR
		}
		if r.Values, err = digestsOf(v); err != nil {
			return nil, fmt.Errorf("PCR %d: %w", r.PCR, err)
		}
		out = append(out, r)
	}
	return out, nil
}

// begin takes the PCRs that the first record of a log names.
func (s *State) begin(registers []pcr.Register) {
	s.PCR, s.Start = registers[0].PCR, bankValues(registers[0].Values)
	if len(registers) > 1 {
		s.Events = &EventsPCR{PCR: registers[1].PCR, Start: bankValues(registers[1].Values)}
	}
}

// reach takes the values at Head.
func (s *State) reach(registers []pcr.Register) {
	s.Values = bankValues(registers[0].Values)
	if s.Events != nil {
		s.Events.Values = bankValues(registers[1].Values)
	}
}

// Has reports whether a PCR is one of the log.
func (s *State) Has(index uint32) bool {
	return s.PCR == index || s.Events != nil && s.Events.PCR == index
}

// FromZero reports whether a PCR of the log began with zero in this bank.
func (s *State) FromZero(index uint32, bank pcr.Algorithm) bool {
	start := s.Start
	if s.PCR != index {
		start = s.Events.Start
	}
	return slices.ContainsFunc(start, func(v BankValue) bool { return v.Bank == bank.String() && check.Zero(v.Value) })
}

// switches reports whether a record with an event of this type is in another PCR than the last
// record of the log.
func (s *State) switches(t pcr.EventType) bool {
	last := slices.ContainsFunc(s.Emitted, func(e Emitted) bool { return e.Last == s.Head.Count-1 })
	return s.Events != nil && last != (t == pcr.EventEmitted)
}

// checkEvents reports what the second PCR contradicts.
func (s *State) checkEvents() error {
	if s.Events == nil {
		return nil
	}
	for _, registers := range []func() ([]pcr.Register, error){s.Began, s.now} {
		r, err := registers()
		if err == nil {
			_, err = pcr.NewRegisterReplayer(r)
		}
		if err != nil {
			return fmt.Errorf("PCR of events: %w", err)
		}
	}
	return nil
}
