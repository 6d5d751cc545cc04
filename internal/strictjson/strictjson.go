// SPDX-License-Identifier: Apache-2.0

// Package strictjson reads and writes the JSON documents of this project. What two readers
// could understand differently is an error. White space, the order of members and escapes
// are free: a document that is hashed needs the exact bytes (docs/evidence.md, section 2).
package strictjson

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/text"
)

// Decode decodes one JSON value of at most limit bytes into v, strictly. It refuses
// unknown and duplicate members, members in another case, null, integers beyond
// [MaxInteger], invalid UTF-8 and anything after the value. An error about a place in the
// text is an [*Error].
func Decode(b []byte, limit int, v any) error {
	if err := decode(b, limit, v, json.RejectUnknownMembers(true)); err != nil {
		return err
	}
	return inWords(checkValues(b))
}

// DecodeForeign decodes one JSON value that another program wrote, of at most limit bytes.
// It passes over unknown members, and over null and large integers in them. It refuses
// duplicate members, invalid UTF-8 and anything after the value.
func DecodeForeign(b []byte, limit int, v any) error { return decode(b, limit, v) }

func decode(b []byte, limit int, v any, options ...json.Options) error {
	if len(b) > limit {
		return fmt.Errorf("document of %d bytes, at most %d are read", len(b), limit)
	}
	if !utf8.Valid(b) {
		return errors.New("document is not valid UTF-8")
	}
	options = append(options, json.MatchCaseInsensitiveNames(false), jsontext.AllowDuplicateNames(false))
	err := json.Unmarshal(b, v, options...)
	cutPointers(err)
	return inWords(err)
}

// Encode encodes v on one line, with its members in the order of the type. If the exact
// bytes matter, as those of a statement do, encode once and keep them. It refuses null and
// integers beyond [MaxInteger], which [Decode] would refuse: an error is better than a number
// that a reader in another language takes for another one.
func Encode(v any) ([]byte, error) { return encode(v) }

func encode(v any, options ...json.Options) ([]byte, error) {
	b, err := json.Marshal(v, append(options, json.Deterministic(true))...)
	if err != nil {
		return nil, err
	}
	if err := checkValues(b); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b, nil
}

// Indent returns b, one JSON value, with each member on a line of its own, for people.
func Indent(b []byte) ([]byte, error) {
	v := jsontext.Value(b).Clone()
	if err := v.Indent(jsontext.WithIndent("  ")); err != nil {
		return nil, err
	}
	return v, nil
}

// DecodeList reads an array of at most limit elements into l. It is for a method
// UnmarshalJSONFrom: a list stops reading at its cap, since an element of three bytes, as in
// "[{},{},...", takes many times as many in memory. Each element is a copy of blank before
// it is read. The error for one element more is a [*text.SizeError], wrapped with its place.
func DecodeList[L ~[]E, E any](d *jsontext.Decoder, l *L, limit int, blank E) error {
	if d.PeekKind() != '[' {
		return errors.ErrUnsupported // the decoder says what it is instead
	}
	if _, err := d.ReadToken(); err != nil {
		return err
	}
	out := L{}
	for d.PeekKind() != ']' {
		if len(out) == limit {
			return &text.SizeError{Part: "list", Got: limit + 1, Max: limit}
		}
		out = append(out, blank)
		if err := json.UnmarshalDecode(d, &out[len(out)-1]); err != nil {
			return err
		}
	}
	*l = out
	_, err := d.ReadToken()
	return err
}

// maxPointer is how much of the place of an error is kept, in bytes.
const maxPointer = 256

// cutPointers cuts the places that an error names, and marks the cut. A name in them may be
// as long as the document, and each text made of the error would be as long again.
func cutPointers(err error) {
	for ; err != nil; err = errors.Unwrap(err) {
		switch x := err.(type) {
		case *json.SemanticError:
			x.JSONPointer = cutPointer(x.JSONPointer)
		case *jsontext.SyntacticError:
			x.JSONPointer = cutPointer(x.JSONPointer)
		}
	}
}

func cutPointer(p jsontext.Pointer) jsontext.Pointer {
	if len(p) <= maxPointer {
		return p
	}
	return jsontext.Pointer(strings.ToValidUTF8(string(p[:maxPointer]), "") + "…")
}

// ErrBase64 is returned for text that is not the one canonical encoding of its bytes.
var ErrBase64 = errors.New("not canonical standard base64 (RFC 4648, section 4, padded, no line breaks)")

// EncodeBase64 returns b as standard base64 with padding (RFC 4648, section 4).
func EncodeBase64(b []byte) []byte { return base64.StdEncoding.AppendEncode(nil, b) }

// DecodeBase64 decodes the canonical base64 text of [EncodeBase64], or fails with
// [ErrBase64]. It refuses line breaks, missing padding, and set bits after the last byte:
// readers differ in what they make of those. So equal bytes are equal text.
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
