// SPDX-License-Identifier: Apache-2.0

package tcglog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/pcr"
)

// SystemdLog is where systemd keeps the log of what it extends after the firmware.
const SystemdLog = "/run/log/systemd/tpm2-measure.log"

// MaxSystemdLog is the largest log of systemd that is read, in bytes. A real one has a few
// kilobytes.
const MaxSystemdLog = 1 << 20

const (
	recordSeparator  = 0x1e // before each record: RFC 7464, section 2.2
	maxSystemdRecord = 64 << 10
)

// A systemdRecord is a record of systemd's log. It has the form of a CEL-JSON record
// (TCG Canonical Event Log Format, section 5.2), without a number.
type systemdRecord struct {
	PCR     *uint32         `json:"pcr"` // absent from a record of an NV index
	Digests []systemdDigest `json:"digests"`
}

type systemdDigest struct {
	Algorithm string `json:"hashAlg"`
	Digest    string `json:"digest"` // hexadecimal
}

// ParseSystemd reads systemd's log, of at most [MaxSystemdLog] bytes, and returns what was
// extended into PCRs. It is a sequence of JSON texts (RFC 7464). A last record that was cut
// off is an error, since systemd was writing it. The error is an [*Error], except for a log
// that is too long.
func ParseSystemd(b []byte) ([]Event, error) {
	if len(b) > MaxSystemdLog {
		return nil, fmt.Errorf("systemd's log of %d bytes, at most %d are read", len(b), MaxSystemdLog)
	}
	var events []Event
	for n, at := 0, 0; at < len(b); n++ {
		size := bytes.IndexByte(b[at+1:], recordSeparator) + 1
		if size == 0 {
			size = len(b) - at
		}
		e, err := systemdEvent(b[at : at+size])
		if n >= maxEvents {
			err = fmt.Errorf("more than %d records", maxEvents)
		}
		if err != nil {
			return nil, &Error{Log: "systemd's log", Event: n, Offset: at, Err: err}
		}
		if e != nil {
			events = append(events, *e)
		}
		at += size
	}
	return events, nil
}

// systemdEvent reads one record, nil if it is not of a PCR.
func systemdEvent(b []byte) (*Event, error) {
	if b[0] != recordSeparator || b[len(b)-1] != '\n' {
		return nil, errors.New("want a record separator, JSON text and a newline")
	}
	var r systemdRecord
	if err := strictjson.DecodeForeign(b[1:], maxSystemdRecord, &r); err != nil {
		return nil, err
	}
	if r.PCR == nil {
		return nil, nil
	}
	if *r.PCR >= pcr.Count {
		return nil, fmt.Errorf("PCR %d, want 0 to %d", *r.PCR, pcr.Count-1)
	}
	e := &Event{PCR: *r.PCR}
	for _, d := range r.Digests {
		bank, err := pcr.ParseAlgorithm(d.Algorithm)
		if err != nil {
			continue // a bank that this program cannot replay
		}
		value, err := hex.DecodeString(d.Digest)
		if err != nil || len(value) != bank.Size() {
			return nil, fmt.Errorf("digest %q of bank %s, want %d bytes in hexadecimal", d.Digest, bank, bank.Size())
		}
		for _, earlier := range e.Digests {
			if earlier.Algorithm == bank {
				return nil, fmt.Errorf("two digests of bank %s", bank)
			}
		}
		e.Digests = append(e.Digests, pcr.Digest{Algorithm: bank, Value: value})
	}
	return e, nil
}

// Continue extends one PCR by later events, in one bank, from the value that a firmware's
// log leads to, or from zeros. It returns nil if an event lacks the bank: what it extended
// is not known.
func Continue(replayed pcr.Values, events []Event, bank pcr.Algorithm, index uint32) []byte {
	value, ok := replayed[bank][index]
	if !ok {
		value = make([]byte, bank.Size())
	}
	for _, e := range events {
		if e.PCR != index {
			continue
		}
		digest := []byte(nil)
		for _, d := range e.Digests {
			if d.Algorithm == bank {
				digest = d.Value
			}
		}
		if digest == nil {
			return nil
		}
		value = bank.Sum(value, digest)
	}
	return value
}
