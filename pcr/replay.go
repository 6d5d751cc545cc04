package pcr

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

// Zero is the value of a PCR after a reset to zeros, in each of banks.
func Zero(banks []Algorithm) []Digest {
	out := make([]Digest, len(banks))
	for i, a := range banks {
		out[i] = Digest{Algorithm: a, Value: make([]byte, a.Size())}
	}
	return out
}

// Extend is the value that the PCR has in each bank after a record was extended into
// values: H(old, digest) (TPM 2.0 Part 1, section 17.2). It fails where the record does
// not have exactly the banks of values, in their order.
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

// StartOf is the start event of a whole log, whose first record is number 0.
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

// Replay gives the value that the PCR must have in each of banks after records, when
// it had the values start before the first; nil start stands for zeros. The records
// must be numbered one by one, be of one PCR, hold exactly one digest for each bank,
// each the hash of the record's content, and their contents must be events in a
// possible order. Errors are *[LogError].
//
// A log from its first record on must also say of itself what start says; a PCR
// whose bank is active but not in the log, or the reverse, is an error.
func Replay(records []Record, banks []Algorithm, start []Digest) ([]Digest, error) {
	if start == nil {
		start = Zero(banks)
	}
	for i, a := range banks {
		if i >= len(start) || len(start) != len(banks) || start[i].Algorithm != a || len(start[i].Value) != a.Size() {
			return nil, errors.New("replay: start values are not one for each bank, in its order")
		}
	}
	values := start
	var head evidence.LogHead // known only from record 0 on
	for i, r := range records {
		fail := func(code LogCode, format string, a ...any) error {
			return &LogError{Code: code, Index: r.Number, Offset: -1, Err: fmt.Errorf(format, a...)}
		}
		if want := records[0].Number + uint64(i); r.Number != want {
			return nil, &LogError{Code: LogNumber, Index: want, Offset: -1, Err: fmt.Errorf("it is numbered %d, want %d", r.Number, want)}
		}
		if r.PCR != records[0].PCR || r.PCR >= Count {
			return nil, fail(LogPCR, "it is of PCR %d, the log of PCR %d", r.PCR, records[0].PCR)
		}
		next, err := r.Extend(values)
		if err != nil {
			return nil, fail(LogBanks, "%w", err)
		}
		for _, d := range r.Digests {
			if !bytes.Equal(d.Algorithm.Sum(r.Content), d.Value) {
				return nil, fail(LogDigest, "its %s digest is not that of its content", d.Algorithm)
			}
		}
		e, err := r.Event()
		if err != nil {
			return nil, fail(LogContent, "%w", err)
		}
		if i > 0 && records[i-1].isFull() {
			return nil, fail(LogOrder, "it follows a record that says the log is full")
		}
		if (e.Type == EventStart) != (r.Number == 0) {
			return nil, fail(LogOrder, "its event is %q; the first record of a log, and no other, is %q", e.Type, EventStart)
		}
		if e.Type == EventStart {
			said, err := e.Start.Digests()
			if err != nil {
				return nil, fail(LogContent, "%w", err)
			}
			if e.Start.PCR != r.PCR {
				return nil, fail(LogPCR, "it starts a log of PCR %d and extends PCR %d", e.Start.PCR, r.PCR)
			}
			if !Equal(said, start) {
				return nil, fail(LogBanks, "it says other start values than were given")
			}
		}
		if e.Agent != nil && records[0].Number == 0 && e.Agent.Previous != head {
			return nil, fail(LogPrevious, "it names a log of %d records with digest %s before it, which has %d and %s",
				e.Agent.Previous.Count, e.Agent.Previous.Digest, head.Count, head.Digest)
		}
		if records[0].Number == 0 {
			head = evidence.NextLogHead(head, r.Encode())
		}
		values = next
	}
	return values, nil
}

// fullContent is the only content that an event of type "full" has.
var fullContent = appendTLV(nil, ContentType, []byte(`{"type":"full"}`))

func (r Record) isFull() bool { return bytes.Equal(r.Content, fullContent) }
