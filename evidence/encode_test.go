// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"cmp"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// Statements and evidence are encoded as strictjson encodes them: with each member present, absent,
// and of each value that an encoder may get wrong.
func TestEncodedAsJSON(t *testing.T) {
	var s Statement
	encodedAsJSON(t, &s, func() ([]byte, error) {
		var e encoder
		s.encode(&e)
		return e.b, e.err
	})
	var v Evidence
	encodedAsJSON(t, &v, func() ([]byte, error) {
		var head, middle, tail encoder
		v.encodeHead(&head)
		middle.bytes("statement", v.Statement)
		middle.name("inclusion")
		v.Inclusion.encode(&middle)
		v.encodeTail(&tail)
		return slices.Concat(head.b, middle.b, tail.b), cmp.Or(head.err, middle.err, tail.err)
	})
}

func encodedAsJSON(t *testing.T, v any, encode func() ([]byte, error)) {
	t.Helper()
	of := reflect.ValueOf(v).Elem()
	fill(of)
	cases := 0
	each(of, of.Type().Name(), func(place string) {
		cases++
		want, wantErr := strictjson.Encode(v)
		got, err := encode()
		switch {
		case (wantErr != nil) != (err != nil):
			t.Errorf("%s: error %v, want %v", place, err, wantErr)
		case wantErr == nil && !bytes.Equal(got, want):
			t.Errorf("%s: encoded as\n%.2000s, want\n%.2000s", place, got, want)
		}
	})
	if cases < 100 {
		t.Errorf("%d cases of %T", cases, v)
	}
}

// fill gives each member a value that is not zero.
func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Array, reflect.Slice:
		if v.Kind() == reflect.Slice {
			v.Set(reflect.MakeSlice(v.Type(), 3, 3))
		}
		for i := range v.Len() {
			fill(v.Index(i))
		}
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	default:
		v.SetUint(171)
	}
}

// each gives each member of v each value that may be encoded wrongly, and calls f for it.
func each(v reflect.Value, place string, f func(place string)) {
	try := func(to any) {
		before := reflect.ValueOf(v.Interface())
		v.Set(reflect.ValueOf(to).Convert(v.Type()))
		f(place)
		v.Set(before)
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			each(v.Field(i), place+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Pointer:
		try(reflect.Zero(v.Type()).Interface())
		each(v.Elem(), place, f)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Uint8 {
			try(reflect.Zero(v.Type()).Interface())
			try(v.Slice(0, 0).Interface())
			try(v.Slice(0, 1).Interface())
			each(v.Index(v.Len()-1), place, f)
			return
		}
		for _, value := range [][]byte{nil, {}, {0}, {0xfb, 0xff}, bytes.Repeat([]byte{7}, 1000)} {
			try(value)
		}
	case reflect.Array:
		try(reflect.Zero(v.Type()).Interface())
	case reflect.String:
		for _, value := range []string{"", `"\/<>&'`, "\x00\x1f\x7f\n\r\t\b\f", "\u2028\u2029é€𝄞\ufffd", "\xff", "\xed\xa0\x80", "null", strings.Repeat("é", 1000)} {
			try(value)
		}
	case reflect.Bool:
		try(false)
	default:
		for _, value := range []uint64{0, 1, 1<<32 - 1, strictjson.MaxInteger, strictjson.MaxInteger + 1, 1<<64 - 1} {
			if !v.OverflowUint(value) {
				try(value)
			}
		}
	}
}

// BenchmarkEncodeStatement compares the encoding of a statement with that by reflection.
func BenchmarkEncodeStatement(b *testing.B) {
	var s Statement
	fill(reflect.ValueOf(&s).Elem())
	b.Run("own", func(b *testing.B) {
		for b.Loop() {
			e := encoder{b: make([]byte, 0, usualStatement)}
			s.encode(&e)
		}
	})
	b.Run("reflection", func(b *testing.B) {
		for b.Loop() {
			if _, err := strictjson.Encode(&s); err != nil {
				b.Fatal(err)
			}
		}
	})
}
