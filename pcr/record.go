// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Fields of a record in CEL-TLV (TCG Canonical Event Log Format, section 5.1): a type
// of one byte, a length of four bytes big-endian, and the value. A record is the four
// fields in this order.
const (
	tlvNumber  = 0 // recnum, 8 bytes big-endian
	tlvPCR     = 1 // pcr, 1 byte
	tlvDigests = 3 // digests: one TLV for each bank, whose type is the low byte of its TPM_ALG_ID
	tlvHeader  = 5 // bytes of type and length
)

// ContentType is the type byte of the content of our records. The specification
// assigns 4 to 8; this one is private, and no other known log uses it.
const ContentType = 0xAD

// A Record is one entry of the measurement log.
type Record struct {
	Number  uint64   // position in the log, from 0
	PCR     uint32   // PCR that was extended, 0 to 15
	Digests []Digest // one for every active bank, ascending by TPM_ALG_ID
	Content []byte   // content TLV, whole: type 1 byte, length 4 bytes big-endian, value
}

// NewRecord returns the record of event e, with the digest of its content in each bank.
// Banks must be ascending by TPM_ALG_ID, and Go must be able to hash them.
func NewRecord(number uint64, index uint32, banks []Algorithm, e *Event) (Record, error) {
	value, err := e.Encode()
	if err != nil {
		return Record{}, err
	}
	for _, a := range banks {
		if a.Size() == 0 {
			return Record{}, fmt.Errorf("record %d: bank %s cannot be hashed", number, a)
		}
	}
	content := appendTLV(nil, ContentType, value)
	return Record{Number: number, PCR: index, Digests: Digests(banks, content), Content: content}, nil
}

// Encode returns the record as CEL-TLV, the bytes that enter the log head. It is the
// inverse of [DecodeLog] for every record that DecodeLog accepts.
func (r Record) Encode() []byte {
	var digests []byte
	for _, d := range r.Digests {
		digests = appendTLV(digests, byte(d.Algorithm), d.Value)
	}
	b := make([]byte, 0, 8+1+len(digests)+3*tlvHeader+len(r.Content))
	b = appendTLV(b, tlvNumber, binary.BigEndian.AppendUint64(nil, r.Number))
	b = appendTLV(b, tlvPCR, []byte{byte(r.PCR)})
	b = appendTLV(b, tlvDigests, digests)
	return append(b, r.Content...)
}

// Event decodes the content. It does not check the digests: see [Replay].
func (r Record) Event() (*Event, error) {
	if len(r.Content) < tlvHeader || r.Content[0] != ContentType {
		return nil, fmt.Errorf("content is not an event of this log: want type 0x%02x", ContentType)
	}
	value := r.Content[tlvHeader:]
	if n := binary.BigEndian.Uint32(r.Content[1:]); uint64(n) != uint64(len(value)) {
		return nil, fmt.Errorf("content says %d bytes and has %d", n, len(value))
	}
	return ParseEvent(value)
}

// Equal reports whether two lists have the same digests of the same banks in the same order.
func Equal(a, b []Digest) bool {
	return slices.EqualFunc(a, b, func(x, y Digest) bool { return x.Algorithm == y.Algorithm && bytes.Equal(x.Value, y.Value) })
}

// Head returns the log head after records, the first of which follows head h.
func Head(h evidence.LogHead, records []Record) evidence.LogHead {
	for _, r := range records {
		h = evidence.NextLogHead(h, r.Encode())
	}
	return h
}

func appendTLV(b []byte, typ byte, value []byte) []byte {
	b = append(b, typ)
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(b, value...)
}

// LogCode says what is wrong with a measurement log.
type LogCode string

const (
	LogTooLarge  LogCode = "log-too-large" // more bytes than a log may have
	LogTruncated LogCode = "log-truncated" // ends within a record
	LogMalformed LogCode = "log-malformed" // not CEL-TLV in its canonical form
	LogNumber    LogCode = "log-number"    // a record dropped, inserted, duplicated or swapped
	LogPCR       LogCode = "log-pcr"       // a record for another PCR
	LogBanks     LogCode = "log-banks"     // not exactly one digest for each active bank
	LogDigest    LogCode = "log-digest"    // the digest is not that of the content
	LogContent   LogCode = "log-content"   // the content is not an event of this log
	LogOrder     LogCode = "log-order"     // log-start is not first, something follows full, or something other than a start follows a stop
	LogTime      LogCode = "log-time"      // a record is older than the one before it
	LogPrevious  LogCode = "log-previous"  // an agent event names another log before it
)

// LogError says which record of a log is wrong, and why.
type LogError struct {
	Code   LogCode
	Index  uint64 // number that the record should have
	Offset int    // offset of the record in bytes from the start of the input; -1 if not known
	Err    error  // finding
}

func (e *LogError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("log record %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("log record %d at byte %d: %v", e.Index, e.Offset, e.Err)
}

func (e *LogError) Unwrap() error { return e.Err }

// JSONContentType is the content_type of our events in CEL-JSON.
const JSONContentType = "agentd"

// celRecord is a record in CEL-JSON (TCG Canonical Event Log Format, section 5.3):
// numbers as numbers, digests in lower-case hexadecimal.
type celRecord struct {
	Number      uint64         `json:"recnum"`
	PCR         uint32         `json:"pcr"`
	Digests     []celDigest    `json:"digests"`
	ContentType string         `json:"content_type"`
	Content     jsontext.Value `json:"content"` // event in its canonical spelling: the bytes that were hashed, without type and length
}

type celDigest struct {
	Algorithm string `json:"hashAlg"`
	Digest    string `json:"digest"`
}

// EncodeCELJSON returns the log as one CEL-JSON array with one record on each line. The
// same records always give the same bytes, and the member "content" is spelled exactly as
// it was hashed. A record whose content is not an event is an error.
func EncodeCELJSON(records []Record) ([]byte, error) {
	out := []byte("[")
	for i, r := range records {
		if _, err := r.Event(); err != nil {
			return nil, fmt.Errorf("export record %d: %w", r.Number, err)
		}
		c := celRecord{Number: r.Number, PCR: r.PCR, ContentType: JSONContentType, Content: jsontext.Value(r.Content[tlvHeader:])}
		for _, d := range r.Digests {
			c.Digests = append(c.Digests, celDigest{Algorithm: d.Algorithm.String(), Digest: hex.EncodeToString(d.Value)})
		}
		line, err := strictjson.Encode(c)
		if err != nil {
			return nil, fmt.Errorf("export record %d: %w", r.Number, err)
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = append(append(out, '\n'), line...)
	}
	return append(out, "\n]\n"...), nil
}

// DecodeLog decodes concatenated CEL-TLV records, at most evidence.MaxLog bytes. The first
// record must have number start. Only the one canonical encoding is accepted, so that
// [Record.Encode] gives the same bytes again. The records share the memory of b, so the
// length of b bounds what it allocates. It returns the records before an error. Every
// error is a [*LogError]. It does not check digests: see [Replay].
func DecodeLog(b []byte, start uint64) ([]Record, error) {
	if len(b) > evidence.MaxLog {
		return nil, &LogError{Code: LogTooLarge, Index: start, Offset: 0, Err: fmt.Errorf("log of %d bytes, want at most %d", len(b), evidence.MaxLog)}
	}
	var out []Record
	for offset := 0; offset < len(b); {
		want := start + uint64(len(out))
		r, n, err := decodeRecord(b[offset:])
		if err != nil {
			code := LogMalformed
			if errors.Is(err, errTruncated) {
				code = LogTruncated
			}
			return out, &LogError{Code: code, Index: want, Offset: offset, Err: err}
		}
		if r.Number != want {
			return out, &LogError{Code: LogNumber, Index: want, Offset: offset, Err: fmt.Errorf("it is numbered %d, want %d", r.Number, want)}
		}
		out = append(out, r)
		offset += n
	}
	return out, nil
}

var errTruncated = errors.New("it ends early")

// decodeRecord decodes the record at the front of b, and returns its length.
func decodeRecord(b []byte) (Record, int, error) {
	var r Record
	rest := b

	number, rest, err := takeTLV(rest, "number", tlvNumber, 8, 8)
	if err != nil {
		return r, 0, err
	}
	r.Number = binary.BigEndian.Uint64(number)

	index, rest, err := takeTLV(rest, "PCR", tlvPCR, 1, 1)
	if err != nil {
		return r, 0, err
	}
	if r.PCR = uint32(index[0]); r.PCR > LastStatic {
		return r, 0, fmt.Errorf("PCR %d, want 0 to %d", r.PCR, LastStatic)
	}

	digests, rest, err := takeTLV(rest, "digests", tlvDigests, 0, len(algorithms)*(tlvHeader+64))
	if err != nil {
		return r, 0, err
	}
	if r.Digests, err = decodeDigests(digests); err != nil {
		return r, 0, err
	}

	content := rest
	_, rest, err = takeTLV(rest, "content", ContentType, 1, MaxContent)
	if err != nil {
		return r, 0, err
	}
	end := len(content) - len(rest)
	r.Content = content[:end:end]
	return r, len(b) - len(rest), nil
}

// decodeDigests decodes TLVs in ascending order of their algorithm, each once.
func decodeDigests(b []byte) ([]Digest, error) {
	out := make([]Digest, 0, 2)
	for len(b) > 0 {
		a := Algorithm(b[0])
		if a.Size() == 0 {
			return nil, fmt.Errorf("digest of an unknown bank, %s", a)
		}
		if n := len(out); n > 0 && a <= out[n-1].Algorithm {
			return nil, fmt.Errorf("digest of bank %s is not in ascending order", a)
		}
		value, rest, err := takeTLV(b, a.String()+" digest", b[0], a.Size(), a.Size())
		if err != nil {
			if errors.Is(err, errTruncated) { // the list is whole, so the log was not cut off here
				err = fmt.Errorf("%s digest reaches after the end of the list", a)
			}
			return nil, err
		}
		out = append(out, Digest{Algorithm: a, Value: value})
		b = rest
	}
	if len(out) == 0 {
		return nil, errors.New("no digests")
	}
	return out, nil
}

// takeTLV takes the field of the given type from the front of b. It checks the length
// against the caps before it uses the value.
func takeTLV(b []byte, field string, typ byte, low, high int) (value, rest []byte, err error) {
	if len(b) < 1 {
		return nil, nil, fmt.Errorf("%w: no %s", errTruncated, field)
	}
	if b[0] != typ {
		return nil, nil, fmt.Errorf("%s has type 0x%02x, want 0x%02x", field, b[0], typ)
	}
	if len(b) < tlvHeader {
		return nil, nil, fmt.Errorf("%w: in the length of its %s", errTruncated, field)
	}
	n := binary.BigEndian.Uint32(b[1:tlvHeader])
	if uint64(n) < uint64(low) || uint64(n) > uint64(high) {
		return nil, nil, fmt.Errorf("%s of %d bytes, want %d to %d", field, n, low, high)
	}
	if rest = b[tlvHeader:]; uint64(len(rest)) < uint64(n) {
		return nil, nil, fmt.Errorf("%w: %d of %d bytes of its %s", errTruncated, len(rest), n, field)
	}
	return rest[:n:n], rest[n:], nil
}
