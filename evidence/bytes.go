// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"encoding/hex"
	"fmt"

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
