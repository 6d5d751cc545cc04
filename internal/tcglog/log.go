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
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

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

// NoAction is the event type with a special rule in a replay: it extends nothing.
const NoAction EventType = 3

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
	Log    string // which log, if not the firmware's
	Event  int    // number of the event, from 0
	Offset int    // byte at which it begins
	Err    error
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s, event %d at byte %d: %v", cmp.Or(e.Log, "firmware log"), e.Event, e.Offset, e.Err)
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

// signature begins a TCG_EfiSpecIdEvent (section 10.4.5.1).
var signature = []byte("Spec ID Event03\x00")

// first reads the first event, which names the algorithms of the others:
//
//	signature          16 bytes  "Spec ID Event03" and a zero
//	platformClass       4 bytes
//	specVersionMinor, specVersionMajor, specErrata, uintnSize   1 byte each
//	numberOfAlgorithms  4 bytes
//	digestSizes                  for each: algorithmId 2 bytes, digestSize 2 bytes
//	vendorInfoSize      1 byte
//	vendorInfo
func first(r *tpmwire.Reader) ([]bank, error) {
	index, typ := r.U32("pcrIndex"), EventType(r.U32("eventType"))
	digest := r.Take(20, "digest")
	data := r.Take(uint64(r.U32("eventSize")), "event")
	if r.Err != nil {
		return nil, r.Err
	}
	if index != 0 || typ != NoAction || !bytes.Equal(digest, make([]byte, 20)) || !bytes.HasPrefix(data, signature) {
		return nil, errors.New("the first event does not name the hash algorithms: want a log of TPM 2.0, not of TPM 1.2")
	}
	d := &tpmwire.Reader{Order: binary.LittleEndian, Rest: data[len(signature):]}
	d.Take(8, "platformClass to uintnSize")
	count := d.U32("numberOfAlgorithms")
	if d.Err == nil && (count == 0 || count > maxAlgorithms) {
		return nil, fmt.Errorf("it names %d hash algorithms, want 1 to %d", count, maxAlgorithms)
	}
	var banks []bank
	for range count {
		k := bank{algorithm: pcr.Algorithm(d.U16("algorithmId")), size: uint64(d.U16("digestSize"))}
		if d.Err != nil {
			break
		}
		if slices.ContainsFunc(banks, func(o bank) bool { return o.algorithm == k.algorithm }) {
			return nil, fmt.Errorf("it names algorithm 0x%04x twice", uint16(k.algorithm))
		}
		if k.size == 0 || k.size > maxDigest || k.known() && int(k.size) != k.algorithm.Size() {
			return nil, fmt.Errorf("it gives digests of algorithm 0x%04x %d bytes", uint16(k.algorithm), k.size)
		}
		banks = append(banks, k)
	}
	d.Take(uint64(d.U8("vendorInfoSize")), "vendorInfo")
	if d.Err == nil && len(d.Rest) > 0 {
		d.Err = fmt.Errorf("%d bytes follow it", len(d.Rest))
	}
	return banks, d.Err
}

// event reads one TCG_PCR_EVENT2 (section 10.2.2). It must have a digest for each
// algorithm that the first event named, once each. The digests are put into that order.
func event(r *tpmwire.Reader, banks []bank) (Event, error) {
	e := Event{PCR: r.U32("pcrIndex"), Type: EventType(r.U32("eventType"))}
	count := r.U32("digests.count")
	if r.Err == nil && e.PCR >= pcr.Count {
		return e, fmt.Errorf("PCR %d, want 0 to %d", e.PCR, pcr.Count-1)
	}
	if r.Err == nil && int64(count) != int64(len(banks)) {
		return e, fmt.Errorf("digests of %d algorithms, the log has %d", count, len(banks))
	}
	values := make([][]byte, len(banks))
	for range len(banks) {
		a := pcr.Algorithm(r.U16("digests.algorithm"))
		if r.Err != nil {
			return e, r.Err
		}
		i := slices.IndexFunc(banks, func(k bank) bool { return k.algorithm == a })
		if i < 0 || values[i] != nil {
			return e, fmt.Errorf("a digest of algorithm 0x%04x, which the log does not have, or a second one", uint16(a))
		}
		values[i] = r.Take(banks[i].size, "digests.digest")
	}
	e.Data = r.Take(uint64(r.U32("eventSize")), "event")
	if r.Err != nil {
		return e, r.Err
	}
	for i, k := range banks {
		if k.known() {
			e.Digests = append(e.Digests, pcr.Digest{Algorithm: k.algorithm, Value: values[i]})
		}
	}
	return e, nil
}

// startupLocality begins the data of the event that names the locality (section 10.4.5.3).
// One byte follows it.
var startupLocality = []byte("StartupLocality\x00")

// startup notes the locality that TPM2_Startup was sent from. It is the first value of PCR 0,
// so the log must name it at most once, before any event of PCR 0.
func (l *Log) startup(e Event, extended bool) error {
	if !bytes.HasPrefix(e.Data, startupLocality) {
		return nil
	}
	switch {
	case len(e.Data) != len(startupLocality)+1:
		return fmt.Errorf("startup locality in %d bytes, want %d", len(e.Data), len(startupLocality)+1)
	case extended:
		return errors.New("startup locality after an event that extended PCR 0, want it before")
	case l.told:
		return errors.New("a second startup locality, want one")
	}
	locality := e.Data[len(startupLocality)]
	if locality > 4 {
		return fmt.Errorf("startup locality %d, want 0 to 4", locality)
	}
	l.locality, l.told = locality, true
	return nil
}

// Replay returns the values that the log leads to, for every PCR that it extends. PCRs 17 to
// 22 begin with ones (PC Client Platform TPM Profile, section 4.6). The first value of PCR 0
// ends with the startup locality. The other PCRs begin with zeros.
func (l *Log) Replay() pcr.Values {
	out := pcr.Values{}
	for _, e := range l.Events {
		if e.Type == NoAction {
			continue
		}
		for _, d := range e.Digests {
			value, ok := out[d.Algorithm][e.PCR]
			if !ok {
				value = l.start(d.Algorithm, e.PCR)
			}
			out.Set(d.Algorithm, e.PCR, d.Algorithm.Sum(value, d.Value))
		}
	}
	return out
}

func (l *Log) start(a pcr.Algorithm, index uint32) []byte {
	b := make([]byte, a.Size())
	switch {
	case index == 0:
		b[len(b)-1] = l.locality
	case index >= 17 && index <= 22:
		for i := range b {
			b[i] = 0xff
		}
	}
	return b
}
