// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"bytes"
	"encoding/base64"
	"errors"
)

// ErrBase64 is returned for text that is not the one canonical encoding of its bytes.
var ErrBase64 = errors.New("not canonical standard base64 (RFC 4648, section 4, padded, no line breaks)")

// EncodeBase64 returns b as standard base64 with padding (RFC 4648, section 4).
func EncodeBase64(b []byte) []byte { return base64.StdEncoding.AppendEncode(nil, b) }

// DecodeBase64 decodes the canonical base64 text of [EncodeBase64], or fails with
// [ErrBase64]. It refuses line breaks, missing padding, and set bits after the last byte.
// Otherwise one document would have many spellings, and an attacker could respell it to
// evade a list of the documents that were accepted.
func DecodeBase64(text []byte) ([]byte, error) {
	// Strict refuses set bits after the last byte, but it skips line breaks.
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
