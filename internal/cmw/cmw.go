// SPDX-License-Identifier: Apache-2.0

// Package cmw wraps evidence for carriers that know nothing of it: a record of RATS conceptual messages
// (draft-ietf-rats-msg-wrap, "CMW"), in JSON or CBOR, by itself or in a certificate.
//
// A record is an array of the media type, the document, and optionally the bit of "evidence":
//
//	["application/vnd.agentd.evidence+json","eyJ0eXBlIjoi...",4]     JSON, the document in base64url
//	83 78 24 "application/vnd..." 59 .... {"type":... 04              CBOR, the document as it is
//
// In a certificate the record is in the extension id-pe-cmw, in one of its two forms.
//
// A wrapper protects nothing: a carrier can take the document out and put another one in. The
// readers accept just what they can say exactly: one record of this media type, with the shortest lengths
// of CBOR. Collections, tags and other media types are refused by name.
package cmw

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// MediaType is the type of evidence documents. It is of the vendor's tree and not registered.
const MediaType = "application/vnd.agentd.evidence+json"

// indicator says in a record that the message is evidence: bit 2 (draft, section "CM Type").
const indicator = 4

// Limits, in bytes.
const (
	maxFrame = 256 // of what is around the document in a record
	// Max is the most that a wrapped document takes: as base64 in JSON.
	Max = (evidence.MaxEvidence+2)/3*4 + maxFrame
)

// Form is a form of a record.
type Form string

// Forms.
const (
	JSON Form = "json"
	CBOR Form = "cbor"
)

// Wrap returns a record with the document.
func Wrap(form Form, document []byte) ([]byte, error) {
	if err := text.Size("document", len(document), 1, evidence.MaxEvidence); err != nil {
		return nil, fmt.Errorf("wrap evidence: %w", err)
	}
	switch form {
	case JSON:
		out := append(make([]byte, 0, len(document)/3*4+maxFrame), `["`+MediaType+`","`...)
		out = base64.RawURLEncoding.AppendEncode(out, document)
		return fmt.Appendf(out, `",%d]`, indicator), nil
	case CBOR:
		out := appendHead(make([]byte, 0, len(document)+maxFrame), majorArray, 3)
		out = append(appendHead(out, majorText, uint64(len(MediaType))), MediaType...)
		out = append(appendHead(out, majorBytes, uint64(len(document))), document...)
		return appendHead(out, majorUint, indicator), nil
	}
	return nil, fmt.Errorf("wrap evidence: form %s, want %q or %q", text.Excerpt(form), JSON, CBOR)
}

// FormOf returns the form that b has by its first bytes, or nothing if it is not a record.
func FormOf(b []byte) Form {
	switch start := bytes.TrimLeft(b[:min(len(b), maxFrame)], " \t\r\n"); {
	case len(start) > 0 && start[0] == '[':
		return JSON
	case len(b) > 0 && b[0]>>5 == majorArray:
		return CBOR
	}
	return ""
}

// Unwrap returns the document in a record. Nothing in it is verified.
func Unwrap(form Form, record []byte) ([]byte, error) {
	if len(record) > Max {
		return nil, fmt.Errorf("a CMW of %d bytes, at most %d are read", len(record), Max)
	}
	var document []byte
	var err error
	switch form {
	case JSON:
		document, err = unwrapJSON(record)
	case CBOR:
		document, err = unwrapCBOR(record)
	default:
		err = fmt.Errorf("form %s", text.Excerpt(form))
	}
	if err == nil {
		err = text.Size("the document", len(document), 1, evidence.MaxEvidence)
	}
	if err != nil {
		return nil, fmt.Errorf("read a CMW: %w", err)
	}
	return document, nil
}

// checkType refuses a record of another media type.
func checkType(found string) error {
	if found != MediaType {
		return fmt.Errorf("a message of the type %s, want %q", text.Excerpt(found), MediaType)
	}
	return nil
}

// checkIndicator refuses a record that says it has anything but evidence.
func checkIndicator(found uint64) error {
	if found != indicator {
		return fmt.Errorf("the indicator %d, want %d: evidence, and nothing else", found, indicator)
	}
	return nil
}

// unwrapJSON reads a json-record: an array of the media type, the document in base64url, and the
// indicator, which may be absent.
func unwrapJSON(b []byte) ([]byte, error) {
	if !utf8.Valid(b) {
		return nil, errors.New("not valid UTF-8")
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(b)) // a Buffer is not copied
	next := func(kind jsontext.Kind, what string) (jsontext.Token, error) {
		t, err := d.ReadToken()
		if err == nil && t.Kind() != kind {
			err = fmt.Errorf("found another kind of value than %s", what)
		}
		return t, err
	}
	if _, err := next('[', "an array, which a record is"); err != nil {
		return nil, err
	}
	name, err := next('"', "the media type")
	if err != nil {
		return nil, err
	}
	if err := checkType(name.String()); err != nil {
		return nil, err
	}
	value, err := next('"', "the document in base64url")
	if err != nil {
		return nil, err
	}
	document, err := decodeBase64(value.String())
	if err != nil {
		return nil, err
	}
	if d.PeekKind() == '0' {
		n, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		if n.String() != fmt.Sprint(indicator) { // any other spelling is another value
			return nil, fmt.Errorf("the indicator %s, want %d: evidence, and nothing else", text.Excerpt(n.String()), indicator)
		}
	}
	if _, err := next(']', "the end of the record"); err != nil {
		return nil, err
	}
	if _, err := d.ReadToken(); err != io.EOF {
		return nil, errors.New("something follows the record")
	}
	return document, nil
}

// decodeBase64 decodes base64url without padding (RFC 4648, section 5), in the one spelling that the
// bytes have.
func decodeBase64(s string) ([]byte, error) {
	out, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || base64.RawURLEncoding.EncodedLen(len(out)) != len(s) { // the decoder skips line breaks
		return nil, errors.New("the document is not in canonical base64url without padding (RFC 4648, section 5)")
	}
	return out, nil
}
