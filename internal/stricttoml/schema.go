// SPDX-License-Identifier: Apache-2.0

package stricttoml

import (
	"encoding"
	"fmt"
	"math"
	"reflect"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// A schema is what a TOML value may contain.
type schema struct {
	kind unstable.Kind      // of the value; an array may be given as [[tables]], a table as [table]
	keys map[string]*schema // keys of a table; nil if the text chooses them
	all  []string           // the same keys, in the order of the struct
	elem *schema            // an element of an array, or a value of a table whose keys the text chooses

	low, high int64 // an integer
	flag      bool  // a string, or true or false in its place
}

// schemaOf returns the schema of a Go type.
func schemaOf(t reflect.Type) *schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return &schema{kind: unstable.String}
	}
	switch t.Kind() {
	case reflect.String:
		return &schema{kind: unstable.String}
	case reflect.Interface:
		return &schema{kind: unstable.String, flag: true}
	case reflect.Bool:
		return &schema{kind: unstable.Bool}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s := &schema{kind: unstable.Integer}
		s.low, s.high = integers(t)
		return s
	case reflect.Slice:
		return &schema{kind: unstable.Array, elem: schemaOf(t.Elem())}
	case reflect.Map:
		return &schema{kind: unstable.InlineTable, elem: schemaOf(t.Elem())}
	case reflect.Struct:
		s := &schema{kind: unstable.InlineTable, keys: map[string]*schema{}}
		s.add(t)
		return s
	}
	panic(fmt.Sprintf("stricttoml: no TOML value is read into a %v", t))
}

// integers returns the least and the greatest integer that a Go type and TOML can both express.
func integers(t reflect.Type) (low, high int64) {
	switch t.Kind() {
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return 0, int64(uint64(math.MaxUint64) >> (64 - min(t.Bits(), 63)))
	}
	high = math.MaxInt64 >> (64 - t.Bits())
	return -high - 1, high
}

// add adds the keys of a struct, and those of the structs that it embeds.
func (s *schema) add(t reflect.Type) {
	for f := range t.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		switch {
		case key != "":
			s.keys[key] = schemaOf(f.Type)
			s.all = append(s.all, key)
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			s.add(f.Type)
		}
	}
}

// child returns the schema of a key of a table, or an error text.
func (s *schema) child(name string) (*schema, string) {
	switch {
	case s.kind != unstable.InlineTable:
		return nil, "unknown key: the value above it is not a table"
	case strings.ToLower(name) != name:
		return nil, "unknown key: keys are lower case"
	case !plain(name) || s.keys == nil && s.elem == nil:
		return nil, "unknown key"
	case s.keys == nil:
		return s.elem, ""
	}
	if c, ok := s.keys[name]; ok {
		return c, ""
	}
	if len(s.all) > maxHint {
		return nil, "unknown key"
	}
	return nil, "unknown key: want " + strings.Join(s.all, ", ")
}

// maxHint is the largest table whose keys an error lists.
const maxHint = 12

// plain reports whether a key needs no quotes and cannot be mistaken for a path.
func plain(name string) bool {
	return name != "" && len(name) <= MaxKey && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// want returns what a value must be, in words.
func (s *schema) want() string {
	switch {
	case s.flag:
		return "want true, false or a string in quotes"
	case s.kind == unstable.String:
		return "want a string in quotes"
	case s.kind == unstable.Bool:
		return "want true or false"
	case s.kind == unstable.Integer && s.high < math.MaxInt64:
		return fmt.Sprintf("want a whole number from %d to %d", s.low, s.high)
	case s.kind == unstable.Integer:
		return "want a whole number"
	case s.kind == unstable.InlineTable:
		return "want a table"
	case s.elem.kind == unstable.String:
		return "want a list of strings"
	case s.elem.kind == unstable.Integer:
		return "want a list of whole numbers"
	}
	return "want a list"
}
