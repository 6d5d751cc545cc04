// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/cvm-agentd/agentd/internal/text"
)

type document struct {
	Name  string `json:"name"`
	Count uint64 `json:"count,omitzero"`
	Few   few    `json:"few,omitzero"`
}

type few []uint64

func (l *few) UnmarshalJSONFrom(d *jsontext.Decoder) error { return DecodeList(d, l, 2, 7) }

// TestDecode: [Decode] and [DecodeForeign] refuse what two readers could understand
// differently; a foreign document may contain what we do not know.
func TestDecode(t *testing.T) {
	for _, c := range []struct {
		document        string
		strict, foreign bool
	}{
		{`{"name":"a","count":9007199254740991,"few":[1,2]}`, true, true},
		{` {"name" : "a"} `, true, true},
		{`{"name":"a","x":1}`, false, true},
		{`{"name":"a","x":{"y":null}}`, false, true},
		{`{"name":"a","x":9007199254740992}`, false, true},
		{`{"name":"a","Name":"b"}`, false, true}, // one more unknown member
		{`{"name":"a","count":9007199254740992}`, false, true},
		{`{"name":null}`, false, true},
		{`{"name":"a","name":"a"}`, false, false},
		{`{"x":1,"x":1}`, false, false},
		{`{"name":"a","x":[{"y":1,"\u0079":2}]}`, false, false}, // also in what is passed over
		{`{"name":"a"}{}`, false, false},
		{`{"name":"a"} x`, false, false},
		{`{"name":1}`, false, false},
		{`{"count":1.0}`, false, false},
		{`{"count":-1}`, false, false},
		{`{"few":[1,2,3]}`, false, false},
		{`{"few":{}}`, false, false},
		{"{\"name\":\"\xff\"}", false, false},
		{`{"name":"` + strings.Repeat("a", 1<<10) + `"}`, false, false},
		{``, false, false},
		{`[]`, false, false},
	} {
		var v document
		if err := Decode([]byte(c.document), 1<<10, &v); (err == nil) != c.strict {
			t.Errorf("Decode %s: %v, want accepted %v", c.document, err, c.strict)
		}
		v = document{}
		if err := DecodeForeign([]byte(c.document), 1<<10, &v); (err == nil) != c.foreign {
			t.Errorf("DecodeForeign %s: %v, want accepted %v", c.document, err, c.foreign)
		} else if err == nil && v.Name != "a" && !strings.Contains(c.document, "null") {
			t.Errorf("DecodeForeign %s: got %+v", c.document, v)
		}
	}
	var size *text.SizeError
	if err := Decode([]byte(`{"few":[1,2,3]}`), 1<<10, new(document)); !errors.As(err, &size) || size.Got != 3 || size.Max != 2 {
		t.Errorf("got %v, want a size error of 3", err)
	}
	if b, err := Encode(document{Name: "<a>"}); err != nil || string(b) != `{"name":"<a>"}` {
		t.Errorf("got %s, %v", b, err)
	}
}

// TestEncode: what [Decode] would refuse is not written.
func TestEncode(t *testing.T) {
	for _, v := range []any{
		map[string]uint64{"a": 1 << 53}, []int64{-1 << 53}, struct{ A *int }{}, map[string]any{"a": map[string]any{"b": nil}},
		jsontext.Value(`{"a":1,"a":1}`), jsontext.Value(`{"a":9007199254740992}`), "\xff", func() {},
	} {
		if b, err := Encode(v); err == nil {
			t.Errorf("%#v is written as %s", v, b)
		}
	}
	b, err := Encode(map[string]any{"b": uint64(MaxInteger), "a": []string(nil), "c": `9007199254740992 "null`})
	if want := `{"a":[],"b":9007199254740991,"c":"9007199254740992 \"null"}`; err != nil || string(b) != want {
		t.Errorf("got %s, %v, want %s", b, err, want)
	}
	indented, err := Indent(b)
	if want := "{\n  \"a\": [],\n  \"b\": 9007199254740991,\n  \"c\": \"9007199254740992 \\\"null\"\n}"; err != nil || string(indented) != want {
		t.Errorf("got %s, %v, want %s", indented, err, want)
	}
	if _, err := Indent([]byte("{")); err == nil {
		t.Error("half a value is indented")
	}
}

// TestPlaceOfValue: an error names the place of the value.
func TestPlaceOfValue(t *testing.T) {
	for document, want := range map[string]string{
		`null`:                              "docs/evidence.md",
		`{"a":"null \" null","b":[1,null]}`: `"/b/1"`,
		`["\\",9007199254740992]`:           `"/1"`,
		`{"null":9007199254740991}`:         "",
	} {
		var v any
		err := Decode([]byte(document), 1<<10, &v)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", document, err, want)
		}
	}
}

// TestErrorsInWords: an error says place and reason in words of JSON: no name of a library,
// no type of Go.
func TestErrorsInWords(t *testing.T) {
	for text, want := range map[string]string{
		`{"name":"a","x":1}`:         `unknown member "x"`,
		`{"name":"a","name":"a"}`:    `duplicate member "name"`,
		`{"name":1}`:                 `at "/name", byte 8: want a string, found a number`,
		`{"name":[]}`:                `at "/name", byte 8: want a string, found an array`,
		`{"count":1.5}`:              `want a whole number of at most 64 bits, not negative, found the number 1.5`,
		`{"count":-1}`:               `found the number -1`,
		`{"count":"1"}`:              `found a string`,
		`{"count":{}}`:               `found an object`,
		`{"few":true}`:               `found true or false`,
		`{"few":[1,"x"]}`:            `at "/few/1"`,
		`{"few":[1,2,3]}`:            `want 0 to 2`,
		`{"name":null}`:              `null: a member that is absent is left out`,
		`{"name":"a"`:                `the document ends early`,
		`{"name":"a"} x`:             `not JSON: invalid character 'x'`,
		`{"name" "a"}`:               `not JSON: invalid character`,
		`[]`:                         `at byte 0: want an object, found an array`,
		``:                           `ends early`,
		"\x00":                       `not JSON: invalid character`,
		`{"a/b":{}}`:                 `unknown member "a/b"`,
		`{"count":9007199254740993}`: `integer beyond`,
	} {
		err := Decode([]byte(text), 1<<10, new(document))
		if err == nil {
			t.Errorf("%s: accepted", text)
			continue
		}
		said := err.Error()
		if !strings.Contains(said, want) {
			t.Errorf("%s: %s\nwant %s", text, said, want)
		}
		for _, word := range []string{"json: ", "jsontext", "Go ", "strictjson", "uint", "unmarshal", "strconv", "struct"} {
			if strings.Contains(said, word) {
				t.Errorf("%s: %q contains %q", text, said, word)
			}
		}
	}
}

// TestBase64: bytes have one spelling.
func TestBase64(t *testing.T) {
	for s, want := range map[string][]byte{"": {}, "AA==": {0}, "AQI=": {1, 2}, "AQID": {1, 2, 3}, "+/+/": {0xfb, 0xff, 0xbf}} {
		if got, err := DecodeBase64([]byte(s)); err != nil || !bytes.Equal(got, want) || string(EncodeBase64(want)) != s {
			t.Errorf("%q: %x, %v", s, got, err)
		}
	}
	for _, s := range []string{"A", "AA", "AA=", "AB==", "AQJ=", "AQID\n", "AQ\r\nID", "-_-_", " AQID", "AQID=", "===="} {
		if got, err := DecodeBase64([]byte(s)); !errors.Is(err, ErrBase64) {
			t.Errorf("%q: %x, %v, want ErrBase64", s, got, err)
		}
	}
}
