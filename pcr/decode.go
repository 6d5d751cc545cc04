// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

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
