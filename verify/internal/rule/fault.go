// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	shown "github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// An Error is a fault of a policy, with its place in the text. Line and column are 0 for
// the policy as a whole and for one that was built in Go.
type Error stricttoml.Error

// Error returns the fault after its place and key.
func (e *Error) Error() string {
	if e.Line == 0 {
		return "policy: " + (*stricttoml.Error)(e).Error()
	}
	return "policy " + (*stricttoml.Error)(e).Error()
}

// faults collects what is wrong with a policy.
type faults struct {
	places *stricttoml.Places // nil for a policy that was built in Go
	all    []*Error
}

func (f *faults) fail(key, format string, a ...any) {
	e := &Error{Key: key, Message: fmt.Sprintf(format, a...)}
	if f.places != nil {
		at := f.places.At(key)
		e.Line, e.Column = at.Line, at.Column
	}
	f.all = append(f.all, e)
}

func (f *faults) failIf(wrong bool, key, format string, a ...any) {
	if wrong {
		f.fail(key, format, a...)
	}
}

// err joins what was found, in the order of the text.
func (f *faults) err() error {
	slices.SortStableFunc(f.all, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	all := make([]error, len(f.all))
	for i, e := range f.all {
		all[i] = e
	}
	return errors.Join(all...)
}

// given reports whether the text gives a key. In Go, a value that is set gives it.
func (f *faults) given(key string, set bool) bool {
	if f.places == nil {
		return set
	}
	return f.places.Given(key)
}

const empty = "it is empty: leave it out if anything is acceptable"

// values checks the values of a struct, by the tags "value" of its fields:
//
//	one A B         one of these words
//	range LOW HIGH  a number
//	hex N M         lower-case hexadecimal of one of these sizes in bytes. A report without
//	                such an identity shows zeros, so zeros would accept everything without one
//	hex0 N M        the same, and zeros are a value
//	name            a name
//	later           checked by the subject
//
// A field whose default is "required" must be given. A table or list that is given must
// contain something, and a list each thing once: its author expects to be protected by it.
func (f *faults) values(prefix string, of reflect.Value) {
	for field, v := range of.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
		key, want := prefix+name, strings.Fields(field.Tag.Get("value"))
		switch {
		case field.Anonymous:
			f.values(prefix, v)
		case name == "":
		case prefix != "" && field.Tag.Get("default") == "required" && !f.given(key, !v.IsZero() || v.CanInt()):
			f.fail(strings.TrimSuffix(prefix, "."), "%s is missing", name)
		case slices.Contains(want, "later"):
		case v.Kind() == reflect.Struct:
			f.failIf(f.given(key, false) && !f.givenIn(key+".", v.Type()), key, empty)
			f.values(key+".", v)
		case v.Kind() == reflect.Map:
			f.failIf(f.given(key, !v.IsNil()) && v.Len() == 0, key, empty)
		case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
			f.failIf(!v.IsNil() && v.Len() == 0, key, empty)
			for i := range v.Len() {
				f.values(fmt.Sprintf("%s[%d].", key, i), v.Index(i))
			}
		case v.Kind() == reflect.Slice:
			f.list(key, v.Interface(), want)
		case v.Kind() == reflect.Pointer && !v.IsNil():
			f.value(key, v.Elem(), want)
		case f.given(key, !v.IsZero()):
			f.value(key, v, want)
		}
	}
}

// givenIn reports whether the text gives a key of a table.
func (f *faults) givenIn(prefix string, table reflect.Type) bool {
	for field := range table.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("toml"), ","); name != "" && f.given(prefix+name, false) {
			return true
		}
	}
	return false
}

func (f *faults) list(key string, list any, want []string) {
	v := reflect.ValueOf(list)
	f.failIf(!v.IsNil() && v.Len() == 0, key, "the list is empty: leave the key out if anything is acceptable")
	f.twice(key+"[%d]", v.Len(), func(i int) string { return fmt.Sprint(v.Index(i)) })
	for i := range v.Len() {
		f.value(fmt.Sprintf("%s[%d]", key, i), v.Index(i), want)
	}
}

// twice refuses what a list contains twice. What is absent was refused before.
func (f *faults) twice(key string, n int, of func(i int) string) {
	seen := make(map[string]bool)
	for i := range n {
		if v := of(i); v != "" && seen[v] {
			f.fail(fmt.Sprintf(key, i), "%q is listed twice", v)
		} else {
			seen[v] = true
		}
	}
}

func (f *faults) value(key string, v reflect.Value, want []string) {
	if len(want) == 0 {
		return
	}
	kind, words := want[0], want[1:]
	numbers := make([]int, len(words))
	for i, w := range words {
		numbers[i], _ = strconv.Atoi(w) // of a tag
	}
	switch text := v.String(); kind {
	case "one":
		if !slices.Contains(words, text) {
			f.fail(key, "%q is not one of %s", text, strings.Join(words, ", "))
		}
	case "range":
		f.number(key, v.Int(), int64(numbers[0]), int64(numbers[1]))
	case "hex", "hex0":
		if b, ok := f.hex(key, text, numbers...); ok && kind == "hex" && check.Zero(b) {
			f.fail(key, "it is zero, which means none: leave it out")
		}
	case "name":
		if err := shown.Check("the name", text, 1, evidence.MaxName); err != nil {
			f.fail(key, "%v", err)
		}
	}
}

func (f *faults) number(key string, v, low, high int64) {
	switch {
	case v == 0 && low == 1: // it reads like a demand and makes none
		f.fail(key, "0 demands nothing: leave it out if any value is acceptable")
	case v < low || v > high:
		f.fail(key, "%d is out of range: want %d to %d", v, low, high)
	}
}

// hex checks lower-case hexadecimal of one of the given sizes in bytes. One spelling for
// each value: grep finds every use of it.
func (f *faults) hex(key, text string, sizes ...int) ([]byte, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || hex.EncodeToString(b) != text {
		f.fail(key, "%q is not lower-case hexadecimal", text)
		return nil, false
	}
	if !slices.Contains(sizes, len(b)) {
		f.fail(key, "%d bytes, want %s", len(b), joined(sizes, " or "))
		return nil, false
	}
	return b, true
}

func joined[T any](list []T, with string) string {
	parts := make([]string, len(list))
	for i, v := range list {
		parts[i] = fmt.Sprint(v)
	}
	return strings.Join(parts, with)
}

// set returns the members of a list. A log is compared with it event by event, and the
// author of the log chooses how many there are.
func set(list []string) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, v := range list {
		out[v] = true
	}
	return out
}

// listOr returns list, or its default if the key is absent.
func listOr[T any](list []T, absent ...T) []T {
	if list == nil {
		return absent
	}
	return list
}

// Choice is the value of a key that says what happens in one case.
type Choice string

// Choices. docs/policy.md lists those of each key.
const (
	Required Choice = "required"
	Optional Choice = "optional"
	Off      Choice = "off"
	Refuse   Choice = "refuse"
	Allow    Choice = "allow"
)
