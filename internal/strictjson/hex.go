// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"encoding"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// EncodeHex encodes v as [Encode] does, with byte strings in hexadecimal: those whose type is a
// slice or an array of bytes with a method MarshalText. It is for output that people read and
// compare, and that no signature covers. [DecodeHex] reads it.
func EncodeHex(v any) ([]byte, error) {
	return encode(v, json.WithMarshalers(json.MarshalToFunc(marshalHex)))
}

// DecodeHex reads into v what [EncodeHex] writes, of this version or a later one: it passes over
// unknown members, as [DecodeForeign] does.
func DecodeHex(b []byte, limit int, v any) error {
	return decode(b, limit, v, json.WithUnmarshalers(json.UnmarshalFromFunc(unmarshalHex)))
}

func marshalHex(e *jsontext.Encoder, v encoding.TextMarshaler) error {
	b := reflect.Indirect(reflect.ValueOf(v))
	if !b.IsValid() || !isBytes(b.Type()) {
		return errors.ErrUnsupported
	}
	if _, err := v.MarshalText(); err != nil {
		return err // a type that refuses to be encoded
	}
	if !b.CanAddr() { // such as the element of a map: an array in it has no slice
		variable := reflect.New(b.Type()).Elem()
		variable.Set(b)
		b = variable
	}
	return e.WriteToken(jsontext.String(hex.EncodeToString(b.Bytes())))
}

func unmarshalHex(d *jsontext.Decoder, v encoding.TextUnmarshaler) error {
	to := reflect.ValueOf(v)
	if to.Kind() != reflect.Pointer || !isBytes(to.Type().Elem()) {
		return errors.ErrUnsupported
	}
	to = to.Elem()
	var text string
	if err := json.UnmarshalDecode(d, &text); err != nil {
		return err
	}
	b, err := hex.DecodeString(text)
	switch {
	case err != nil || hex.EncodeToString(b) != text:
		return ErrHex
	case to.Kind() == reflect.Slice:
		to.SetBytes(b)
	case len(b) != to.Len():
		return fmt.Errorf("%d bytes, want %d", len(b), to.Len())
	default:
		reflect.Copy(to, reflect.ValueOf(b))
	}
	return nil
}

func isBytes(t reflect.Type) bool {
	return (t.Kind() == reflect.Slice || t.Kind() == reflect.Array) && t.Elem().Kind() == reflect.Uint8
}

// ErrHex is returned for text that is not what [EncodeHex] writes for bytes.
var ErrHex = errors.New("not hexadecimal in small letters, two digits for each byte")
