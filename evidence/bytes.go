// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"encoding/hex"
	"fmt"
	"math"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Bytes is a byte string. In JSON it is standard base64 with padding (RFC 4648, section 4).
// Only the canonical encoding is decoded: no line breaks, no missing padding, no set bits
// after the last byte.
type Bytes []byte

// MarshalText returns b as base64. The error is always nil.
func (b Bytes) MarshalText() ([]byte, error) { return strictjson.EncodeBase64(b), nil }

// UnmarshalText decodes canonical base64. Any other text is an error.
func (b *Bytes) UnmarshalText(text []byte) error {
	out, err := strictjson.DecodeBase64(text)
	if err == nil {
		*b = out
	}
	return err
}

// Digest is a SHA-256 digest of 32 bytes (FIPS 180-4). In JSON it is base64, as [Bytes] is.
type Digest [32]byte

// MarshalText returns d as base64. The error is always nil.
func (d Digest) MarshalText() ([]byte, error) { return strictjson.EncodeBase64(d[:]), nil }

// UnmarshalText decodes canonical base64 of exactly 32 bytes.
func (d *Digest) UnmarshalText(text []byte) error {
	out, err := strictjson.DecodeBase64(text)
	if err != nil {
		return err
	}
	if len(out) != len(d) {
		return fmt.Errorf("digest of %d bytes, want %d", len(out), len(d))
	}
	copy(d[:], out)
	return nil
}

// String returns d in lower-case hexadecimal, 64 characters.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether every byte of d is zero, as in a Digest that was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

// Lists of a document. Each stops reading at its cap: a document that is refused must not
// take many times its own length in memory.
type (
	Banks        []Bank   // at most MaxBanks
	Registers    []PCR    // at most MaxPCRs
	Path         []Digest // at most MaxProof
	Certificates []Bytes  // at most MaxCertificates
)

// UnmarshalJSONFrom decodes at most [MaxBanks] banks.
func (l *Banks) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxBanks, Bank{})
}

// UnmarshalJSONFrom decodes at most [MaxPCRs] registers.
func (l *Registers) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxPCRs, PCR{Index: absent32})
}

// UnmarshalJSONFrom decodes at most [MaxProof] digests.
func (l *Path) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxProof, Digest{})
}

// UnmarshalJSONFrom decodes at most [MaxCertificates] certificates.
func (l *Certificates) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	return strictjson.DecodeList(d, l, MaxCertificates, nil)
}

// An integer whose zero means something has one of these values before a document is read. It
// keeps the value if the document lacks the member. Otherwise a caller without a uid would be
// root, and a document would have two spellings. The format allows neither value.
const (
	absent   = math.MaxUint64 // beyond strictjson.MaxInteger
	absent32 = math.MaxUint32
)

// present returns an error if the member of this name was not read.
func present(part string, got uint64) error {
	if got == absent {
		return fmt.Errorf("%s is missing", part)
	}
	return nil
}

// milliseconds returns an error if the member of this name was not read, or is not a time that
// JSON can carry exactly: 0 to 2^53 - 1.
func milliseconds(part string, got uint64) error {
	if err := present(part, got); err != nil {
		return err
	}
	if got > strictjson.MaxInteger {
		return fmt.Errorf("%s %d, want at most %d", part, got, uint64(strictjson.MaxInteger))
	}
	return nil
}

// UnmarshalJSONFrom decodes a snapshot. A time, or a count of the log head, that is absent is
// not zero.
func (s *Snapshot) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members Snapshot
	s.Time, s.LogHead.Count = absent, absent
	return json.UnmarshalDecode(d, (*members)(s))
}

// UnmarshalJSONFrom decodes a log. A start that is absent is not zero.
func (l *Log) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members Log
	l.Start = absent
	return json.UnmarshalDecode(d, (*members)(l))
}

// UnmarshalJSONFrom decodes a list of IMA. A start that is absent is not zero.
func (i *IMA) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	type members IMA
	i.Start = absent
	return json.UnmarshalDecode(d, (*members)(i))
}
