// SPDX-License-Identifier: Apache-2.0

// Package tcglog reads and replays the event log that a machine's firmware and boot loader
// write when they extend PCRs 0 to 9. The format is the crypto-agile log of the TCG PC Client
// Platform Firmware Profile Specification, section 10. All integers are little-endian.
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
//	  event                not interpreted
//
// An attacker can have invented a log. All that it proves is that these digests, in this
// order, lead to a value. Only a quote shows that a PCR has this value. The data of an event
// is not even bound to its digest: for many types the digest is over something else, a boot
// loader for example.
package tcglog

import (
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// Caps on what a log may make its reader keep in memory. Logs of real machines have fewer than
// 200 events and 50 KB.
const (
	MaxLog        = evidence.MaxFirmwareLog // bytes
	maxEvents     = 8192
	maxAlgorithms = 8
	maxDigest     = 64 // bytes
)

// EventType is a TCG event type (Platform Firmware Profile, section 10.4.1).
type EventType uint32

// Event types with a special rule in a replay.
const (
	NoAction  EventType = 3 // extends nothing
	Separator EventType = 4 // ends the firmware's part of a PCR
)

// An Event is one entry of a log.
type Event struct {
	PCR     uint32
	Type    EventType
	Digests []pcr.Digest // one for each of Log.Banks, in their order
	Data    []byte       // part of the log's bytes
}

// A Log is a log that was read whole.
type Log struct {
	Banks    []pcr.Algorithm // banks of the log whose hash this program knows, in the order of the log
	Events   []Event
	locality byte // locality of TPM2_Startup, the first value of PCR 0
	told     bool // whether the log names the locality
}

// An Error is a fault of a log.
type Error struct {
	Event  int // number of the event, from 0
	Offset int // byte at which it begins
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("firmware log, event %d at byte %d: %v", e.Event, e.Offset, e.Err)
}

// Unwrap returns what is wrong with the event.
func (e *Error) Unwrap() error { return e.Err }

// A bank is one algorithm of the log.
type bank struct {
	algorithm pcr.Algorithm
	size      uint64 // size of its digests, in bytes
}

// known reports whether the digests of the bank can be replayed; others are skipped.
func (k bank) known() bool { return k.algorithm.Size() > 0 }

// Parse reads a log of at most [MaxLog] bytes. It allocates nothing in proportion to a number
// in the log. The error is an [*Error], except for a log that is too long.
func Parse(b []byte) (*Log, error) {
	if len(b) > MaxLog {
		return nil, fmt.Errorf("firmware log of %d bytes, at most %d are read", len(b), MaxLog)
	}
	r := &tpmwire.Reader{Order: binary.LittleEndian, Rest: b}
	banks, err := first(r)
	if err != nil {
		return nil, &Error{Err: err}
	}
	l := &Log{}
	for _, k := range banks {
		if k.known() {
			l.Banks = append(l.Banks, k.algorithm)
		}
	}
	extended := false // whether PCR 0 was extended, so that its first value is known
	for n := 1; len(r.Rest) > 0; n++ {
		at := len(b) - len(r.Rest)
		e, err := event(r, banks)
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
