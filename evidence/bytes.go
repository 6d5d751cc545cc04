// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
)

// Digest is a SHA-256 digest of 32 bytes. In JSON it is standard base64.
type Digest [32]byte

// ErrBase64 is returned for text that is not the one canonical encoding of its bytes.
var ErrBase64 = errors.New("not canonical standard base64 (RFC 4648, section 4, padded, no line breaks)")

// Bytes is a byte string that is standard base64 with padding in JSON (RFC 4648,
// section 4). Only the canonical encoding is decoded: no line breaks, no missing
// padding, no set bits behind the last byte. Otherwise one document would have
// many spellings, and a log of what was accepted could be evaded by respelling it.
type Bytes []byte

// MarshalText encodes b as base64.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText decodes the canonical base64 text, or fails with [ErrBase64].
func (b *Bytes) UnmarshalText(text []byte) error {
	out, err := decodeBase64(text)
	if err != nil {
		return err
	}
	*b = out
	return nil
}

// MarshalText encodes d as base64.
func (d Digest) MarshalText() ([]byte, error) { return Bytes(d[:]).MarshalText() }

// UnmarshalText decodes canonical base64 of exactly 32 bytes.
func (d *Digest) UnmarshalText(text []byte) error {
	out, err := decodeBase64(text)
	if err != nil {
		return err
	}
	if len(out) != len(d) {
		return fmt.Errorf("digest of %d bytes, want %d", len(out), len(d))
	}
	copy(d[:], out)
	return nil
}

// String is d in lower-case hexadecimal, as people and other tools print it.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// IsZero reports whether d was never set.
func (d Digest) IsZero() bool { return d == Digest{} }

func decodeBase64(text []byte) ([]byte, error) {
	// Strict refuses set bits behind the last byte; line breaks it skips all the same.
	if bytes.IndexByte(text, '\n') >= 0 || bytes.IndexByte(text, '\r') >= 0 {
		return nil, ErrBase64
	}
	out := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Strict().Decode(out, text)
	if err != nil {
		return nil, ErrBase64
	}
	return out[:n], nil
}
