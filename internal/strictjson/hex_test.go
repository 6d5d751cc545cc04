// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

type (
	byteText  []byte
	fixedText [3]byte
	otherText struct{ of string }
	secretly  []byte
)

func (b byteText) MarshalText() ([]byte, error)   { return EncodeBase64(b), nil }
func (b *byteText) UnmarshalText(t []byte) error  { *b = t; return nil }
func (b fixedText) MarshalText() ([]byte, error)  { return EncodeBase64(b[:]), nil }
func (b *fixedText) UnmarshalText([]byte) error   { return nil }
func (o otherText) MarshalText() ([]byte, error)  { return []byte(o.of), nil }
func (o *otherText) UnmarshalText(t []byte) error { o.of = string(t); return nil }
func (secretly) MarshalText() ([]byte, error)     { return nil, errors.New("no") }

type inHex struct {
	Bytes   byteText            `json:"bytes"`
	Fixed   fixedText           `json:"fixed"`
	Pointer *fixedText          `json:"pointer,omitzero"`
	None    *fixedText          `json:"none,omitzero"`
	List    []fixedText         `json:"list"`
	Map     map[string]byteText `json:"map"`
	Other   otherText           `json:"other"`
}

// TestHex: byte strings are hexadecimal in every place of a value, other texts stay what they
// are, and the same value comes back.
func TestHex(t *testing.T) {
	v := inHex{byteText{1, 0xab}, fixedText{1, 2, 3}, &fixedText{4, 5, 6}, nil, []fixedText{{7, 8, 9}}, map[string]byteText{"a": {0xff}}, otherText{"text"}}
	want := `{"bytes":"01ab","fixed":"010203","pointer":"040506","list":["070809"],"map":{"a":"ff"},"other":"text"}`
	b, err := EncodeHex(v)
	if err != nil || string(b) != want {
		t.Fatalf("%v\n%s, want\n%s", err, b, want)
	}
	if b, err = EncodeHex(&v); err != nil || string(b) != want {
		t.Fatalf("a variable: %v\n%s, want\n%s", err, b, want)
	}
	var back inHex
	if err := DecodeHex(b, len(b), &back); err != nil || !reflect.DeepEqual(back, v) {
		t.Errorf("%v: %v, want %v", err, back, v)
	}
	if _, err := EncodeHex(struct{ A secretly }{secretly{1}}); err == nil {
		t.Error("a type that refuses to be encoded was encoded")
	}
	for _, wrong := range []string{`{"bytes":"AB"}`, `{"bytes":"abc"}`, `{"bytes":"AQID"}`, `{"fixed":"0102"}`, `{"fixed":"01020304"}`, `{"bytes":1}`, `{"bytes":"00","bytes":"00"}`} {
		if err := DecodeHex([]byte(wrong), 100, &back); err == nil || strings.Contains(err.Error(), "jsontext") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
