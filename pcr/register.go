// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"errors"
	"fmt"
	"slices"
)

// A Register is one PCR of a log, with its value in every active bank. A log has one, or two: the
// second has the events of applications alone.
type Register struct {
	PCR    uint32
	Values []Digest // ascending by TPM_ALG_ID
}

// PCRs that other logs explain.
const (
	firmwarePCRs = 8  // 0 to 7: of the firmware and its boot manager
	imaPCR       = 10 // of Linux's integrity measurement architecture
)

// CheckEventsPCR checks that a PCR can have the events of applications, if log is that of the
// measurement log.
func CheckEventsPCR(index, log uint32) error {
	switch {
	case index == log:
		return fmt.Errorf("PCR %d has the measurement log itself", index)
	case index > LastStatic:
		return fmt.Errorf("PCR %d is reset by more than a start of the TPM, want at most %d", index, LastStatic)
	case index < firmwarePCRs:
		return fmt.Errorf("PCR %d is the firmware's", index)
	case index == imaPCR:
		return fmt.Errorf("PCR %d is that of the kernel's IMA", index)
	}
	return nil
}

// EqualRegisters reports whether two lists have the same PCRs with the same values in the same
// order.
func EqualRegisters(a, b []Register) bool {
	return slices.EqualFunc(a, b, func(x, y Register) bool { return x.PCR == y.PCR && Equal(x.Values, y.Values) })
}

// PCROf returns the PCR that events of this type extend.
func (p *Replayer) PCROf(t EventType) uint32 {
	if t == EventEmitted && len(p.registers) > 1 {
		return p.registers[1].PCR
	}
	return p.registers[0].PCR
}

// ExtendIn returns the registers after the record was extended into the one that it names. They
// are left as they were.
func (r Record) ExtendIn(registers []Register) ([]Register, error) {
	at := slices.IndexFunc(registers, func(x Register) bool { return x.PCR == r.PCR })
	if at < 0 {
		return nil, fmt.Errorf("it is for PCR %d, the log for PCR %s", r.PCR, pcrsOf(registers))
	}
	next, err := r.Extend(registers[at].Values)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(registers)
	out[at].Values = next
	return out, nil
}

// pcrsOf lists the PCRs of registers for people.
func pcrsOf(registers []Register) string {
	out := fmt.Sprint(registers[0].PCR)
	for _, r := range registers[1:] {
		out += fmt.Sprintf(" and %d", r.PCR)
	}
	return out
}

// checkRegisters checks that registers can be those of a log.
func checkRegisters(registers []Register) error {
	if n := len(registers); n != 1 && n != 2 {
		return fmt.Errorf("%d PCRs, want one or two", n)
	}
	banks := registers[0].Values
	for _, r := range registers {
		if len(r.Values) == 0 || len(r.Values) != len(banks) {
			return fmt.Errorf("values of PCR %d in %d banks, want %d", r.PCR, len(r.Values), max(1, len(banks)))
		}
		for i, d := range r.Values {
			switch {
			case d.Algorithm.Size() == 0 || len(d.Value) != d.Algorithm.Size():
				return fmt.Errorf("value %d of PCR %d is not one of bank %s", i, r.PCR, d.Algorithm)
			case d.Algorithm != banks[i].Algorithm:
				return fmt.Errorf("value %d of PCR %d is of bank %s, want %s", i, r.PCR, d.Algorithm, banks[i].Algorithm)
			case i > 0 && d.Algorithm <= banks[i-1].Algorithm:
				return fmt.Errorf("bank %s is not in ascending order", d.Algorithm)
			}
		}
	}
	if len(registers) == 2 {
		return CheckEventsPCR(registers[1].PCR, registers[0].PCR)
	}
	return nil
}

// EventsStart is the value of the PCR of events of applications before the first record of the log.
type EventsStart struct {
	PCR    uint32      `json:"pcr"`    // PCR of all records of app-event and of no other; see CheckEventsPCR
	Values StartValues `json:"values"` // of the same banks as those of the log
}

// Registers returns the PCRs of the log with their start values.
func (s *StartEvent) Registers() ([]Register, error) {
	values, err := s.Values.digests("start.values")
	if err != nil {
		return nil, err
	}
	out := []Register{{s.PCR, values}}
	if s.Events == nil {
		return out, nil
	}
	second, err := s.Events.Values.digests("start.events.values")
	if err != nil {
		return nil, err
	}
	out = append(out, Register{s.Events.PCR, second})
	if err := checkRegisters(out); err != nil {
		return nil, fmt.Errorf("start.events: %w", err)
	}
	return out, nil
}

// NewStart returns the event of a log that begins with these registers.
func NewStart(registers []Register) (*StartEvent, error) {
	if err := checkRegisters(registers); err != nil {
		return nil, fmt.Errorf("begin a log: %w", err)
	}
	out := &StartEvent{PCR: registers[0].PCR, Values: startValues(registers[0].Values)}
	if len(registers) == 2 {
		out.Events = &EventsStart{PCR: registers[1].PCR, Values: startValues(registers[1].Values)}
	}
	return out, nil
}

func startValues(digests []Digest) (out StartValues) {
	for _, d := range digests {
		out = append(out, StartValue{Algorithm: d.Algorithm.String(), Value: d.Value})
	}
	return out
}

// digests returns start values as digests of their banks.
func (l StartValues) digests(part string) ([]Digest, error) {
	if len(l) == 0 {
		return nil, errors.New(part + " is empty")
	}
	out := make([]Digest, 0, len(algorithms))
	for i, v := range l {
		a, err := ParseAlgorithm(v.Algorithm)
		if err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", part, i, err)
		}
		if i > 0 && a <= out[i-1].Algorithm {
			return nil, fmt.Errorf("%s[%d]: bank %s is not in ascending order", part, i, a)
		}
		if len(v.Value) != a.Size() {
			return nil, fmt.Errorf("%s[%d]: %d bytes for bank %s, want %d", part, i, len(v.Value), a, a.Size())
		}
		out = append(out, Digest{Algorithm: a, Value: v.Value})
	}
	return out, nil
}
