// SPDX-License-Identifier: Apache-2.0

// Package tcglog reads the event log that a machine's firmware and boot loader keep
// beside PCRs 0 to 9, and replays it. The format is the crypto-agile log of the TCG PC
// Client Platform Firmware Profile Specification, section 10; all integers are
// little-endian.
//
//	TCG_PCClientPCREvent   the first event, in the form of TPM 1.2
//	  pcrIndex   4 bytes   0
//	  eventType  4 bytes   3, EV_NO_ACTION
//	  digest    20 bytes   zeros
//	  eventSize  4 bytes
//	  event                TCG_EfiSpecIdEvent: which hash algorithms follow, and their sizes
//	TCG_PCR_EVENT2         every other event
//	  pcrIndex   4 bytes
//	  eventType  4 bytes
//	  digests    4 bytes of count, then for each: algorithm 2 bytes, digest
//	  eventSize  4 bytes
//	  event                not looked at: what it means is for others to say
//
// Whoever hands over a log may have invented it. All that it proves is that these
// digests, in this order, lead to a value; that a PCR has this value is for a quote to
// show. The data of an event is not even bound to its digest: for many types the digest
// is over something else, a boot loader for example.
package tcglog

import (
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// Caps on what a log may ask its reader to hold. Logs of real machines have fewer than
// 200 events and 50 KB.
const (
	MaxLog        = evidence.MaxFirmwareLog // bytes
	maxEvents     = 8192
	maxAlgorithms = 8
	maxDigest     = 64 // bytes
)

// EventType is a TCG event type (Platform Firmware Profile, section 10.4.1).
type EventType uint32

// Event types that a replay treats in a way of their own.
const (
	NoAction  EventType = 3 // informs, and extends nothing
	Separator EventType = 4 // ends the firmware's part of a PCR
)

// Event is one entry of a log.
type Event struct {
	PCR     uint32
	Type    EventType
	Digests []pcr.Digest // of the banks of the log, in their order
	Data    []byte       // part of the log's bytes
}

// Log is a log that was read whole.
type Log struct {
	Banks    []pcr.Algorithm // those of the log whose hash this program knows, in its order
	Events   []Event
	locality byte // of the startup, which PCR 0 begins with
	told     bool // locality was in the log
}

// Error tells where a log is broken.
type Error struct {
	Event  int // number of the event, from 0
	Offset int // byte at which it begins
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("firmware log, event %d at byte %d: %v", e.Event, e.Offset, e.Err)
}

// Unwrap is what is wrong with the event.
func (e *Error) Unwrap() error { return e.Err }

// reader takes fields off the front; the first that is short is kept in err.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n uint64, what string) []byte {
	if r.err == nil && n > uint64(len(r.b)) {
		r.err = fmt.Errorf("%s: %d bytes wanted, %d left", what, n, len(r.b))
	}
	if r.err != nil {
		return make([]byte, min(n, 4)) // a zero for the integers; nobody uses it
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8(what string) byte    { return r.take(1, what)[0] }
func (r *reader) u16(what string) uint16 { return binary.LittleEndian.Uint16(r.take(2, what)) }
func (r *reader) u32(what string) uint32 { return binary.LittleEndian.Uint32(r.take(4, what)) }

// bank is one algorithm of the log.
type bank struct {
	id        uint16 // TPM_ALG_ID
	size      uint64 // of its digests, in bytes
	algorithm pcr.Algorithm
	known     bool // algorithm says which; digests of others are passed over
}

// Parse reads a log. Nothing is allocated in proportion to a number in it. The error is
// an *[Error] but for a log that is too long.
func Parse(b []byte) (*Log, error) {
	if len(b) > MaxLog {
		return nil, fmt.Errorf("firmware log of %d bytes, at most %d are read", len(b), MaxLog)
	}
	r := &reader{b: b}
	banks, err := r.first()
	if err != nil {
		return nil, &Error{Err: err}
	}
	l := &Log{}
	for _, k := range banks {
		if k.known {
			l.Banks = append(l.Banks, k.algorithm)
		}
	}
	extended := false // PCR 0, so that its first value is settled
	for n := 1; len(r.b) > 0; n++ {
		at := len(b) - len(r.b)
		e, err := r.event(banks)
		switch {
		case err != nil:
		case n > maxEvents:
			err = fmt.Errorf("more than %d events", maxEvents)
		case e.Type == NoAction:
			err = l.startup(e, extended)
		case e.PCR == 0:
			extended = true
		}
		if err != nil {
			return nil, &Error{Event: n, Offset: at, Err: err}
		}
		l.Events = append(l.Events, e)
	}
	return l, nil
}
