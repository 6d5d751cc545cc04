// SPDX-License-Identifier: Apache-2.0

// Package stricttoml reads TOML 1.0 into a struct, strictly, and reports the line and
// column of each key.
//
// [Decode] refuses what the struct does not declare: unknown keys, keys in another case,
// keys given twice, values of another type. The first such key ends the reading. Each
// refusal is an [*Error] that names line, column and key. The keys of the struct are those
// of its toml tags. A field has one of these types, or is a pointer to one:
//
//   - a string, or a type that implements encoding.TextUnmarshaler: a TOML string
//   - an integer type: a TOML integer
//   - bool: a TOML boolean
//   - a slice: a TOML array, or for a slice of structs also [[tables]]
//   - a struct: a table; the keys of an embedded struct without a tag are keys of the table around it
//   - a map with string keys: a table whose keys the text chooses, of [a-z0-9_]
//
// A key that the text does not give leaves its field as it was before Decode, so defaults
// are set first. [Places.Given] tells an absent key from a zero.
//
// A key has one path: its parts joined by dots, with the index of each array element in
// brackets, such as "app[1].digests[0]". [Places.Errorf] makes an error about the value
// of a path, for checks after the decoding:
//
//	var t struct {
//		App []struct {
//			Name    string   `toml:"name"`
//			Digests []string `toml:"digests"`
//		} `toml:"app"`
//	}
//	places, err := stricttoml.Decode(text, 64<<10, &t)
//	if err != nil {
//		return err // line 3, column 1: app[0].nam: unknown key: want name, digests
//	}
//	for i, app := range t.App {
//		if app.Name == "" {
//			return places.Errorf(fmt.Sprintf("app[%d].name", i), "a name is missing")
//		}
//	}
//
// The time and memory of Decode grow in proportion to the length of the text, for any text:
// the size, the keys of one table and the length of a key are capped.
package stricttoml

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"
)

// Caps on the text. The decoder compares a key with all others of its table, and the path
// of a key contains the names of all tables around it.
const (
	MaxTableKeys = 256 // keys of one table
	MaxKey       = 128 // bytes of one part of a key
)

// An Error is a fault of a text.
type Error struct {
	Line    int    // line, from 1; 0 if the fault is that of the whole text
	Column  int    // column in bytes, from 1; 0 if Line is 0
	Key     string // path of the key, such as "app[1].digests[0]"; may be empty
	Message string // what was expected
}

// Error returns the fault after its line, column and key.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.text()
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.text())
}

// In returns the error as compilers print it: "file:line:column: key: message".
func (e *Error) In(file string) string {
	if e.Line == 0 {
		return file + ": " + e.text()
	}
	return fmt.Sprintf("%s:%d:%d: %s", file, e.Line, e.Column, e.text())
}

func (e *Error) text() string {
	if e.Key == "" {
		return e.Message
	}
	return e.Key + ": " + e.Message
}

// A Place is where a key or an array element begins in a text.
type Place struct {
	Line   int // from 1
	Column int // in bytes, from 1
}

// Places are the places of the keys and array elements of one text.
type Places struct {
	at map[string]Place
}

// Empty reports whether the text gives no key.
func (p *Places) Empty() bool { return len(p.at) == 0 }

// Given reports whether the text gives the key or array element of a path.
func (p *Places) Given(path string) bool {
	_, ok := p.at[path]
	return ok
}

// At returns the place of a path, or of the nearest part above it that the text gives.
// It returns the zero Place if the text gives none of them.
func (p *Places) At(path string) Place {
	for path != "" {
		if at, ok := p.at[path]; ok {
			return at
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return Place{}
}

// Errorf returns an error about the value of a path, at the place that [Places.At] gives.
func (p *Places) Errorf(path, format string, a ...any) *Error {
	at := p.At(path)
	return &Error{Line: at.Line, Column: at.Column, Key: path, Message: fmt.Sprintf(format, a...)}
}

// Decode reads text, of at most limit bytes, into the struct that v points to, and returns
// the places of its keys. Every error is an [*Error]; v may then be partly filled. Decode
// panics if the struct has a field of a type that the package comment does not list.
func Decode(text []byte, limit int, v any) (*Places, error) {
	if len(text) > limit {
		return nil, &Error{Message: fmt.Sprintf("%d bytes, at most %d are read", len(text), limit)}
	}
	w := newWalker(text)
	if i := invalidUTF8(text); i >= 0 {
		at := w.place(i)
		return nil, &Error{Line: at.Line, Column: at.Column, Message: "invalid UTF-8"}
	}
	if err := w.walk(schemaOf(reflect.TypeOf(v))); err != nil {
		return nil, err
	}
	// The walk has refused unknown keys by now. The decoder refuses them too: a fault of the
	// walk must not become a rule that is ignored.
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(v); err != nil {
		return nil, decodeError(err)
	}
	return &Places{w.at}, nil
}

// decodeError returns an error of the decoder as one of ours.
func decodeError(err error) error {
	d, ok := errors.AsType[*toml.DecodeError](err)
	if !ok {
		return &Error{Message: err.Error()}
	}
	line, column := d.Position()
	return &Error{Line: line, Column: column, Key: strings.Join(d.Key(), "."), Message: strings.TrimPrefix(d.Error(), "toml: ")}
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(b []byte) int {
	if utf8.Valid(b) {
		return -1
	}
	for i := 0; i < len(b); {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}
