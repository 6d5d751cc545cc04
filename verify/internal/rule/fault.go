// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/stricttoml"
	"github.com/cvm-agentd/agentd/pcr"
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

// emptyTables refuses tables, and lists of tables, that contain no key: their author
// expects to be protected by them.
func (f *faults) emptyTables(p *Policy) {
	filled := make(map[string]bool)
	for _, k := range Keys() {
		table, _, _ := strings.Cut(k.Name, ".")
		filled[table] = filled[table] || f.given(k.Name, false) || f.given(table+"[0]", false)
	}
	fields(reflect.ValueOf(p).Elem(), func(key string, v reflect.Value) {
		empty := false
		switch v.Kind() {
		case reflect.Struct:
			empty = f.given(key, false) && !filled[key]
		case reflect.Map:
			empty = f.given(key, !v.IsNil()) && v.Len() == 0
		case reflect.Slice:
			empty = v.Type().Elem().Kind() == reflect.Struct && !v.IsNil() && v.Len() == 0
		}
		if empty {
			f.fail(key, "it is empty: leave it out if anything is acceptable")
		}
	})
}

// fields calls each for every root key and table of a policy.
func fields(p reflect.Value, each func(key string, v reflect.Value)) {
	for f, v := range p.Fields() {
		key, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
		switch {
		case f.Anonymous:
			fields(v, each)
		case key != "":
			each(key, v)
		}
	}
}

// number checks a number that is given.
func (f *faults) number(key string, v, low, high int64) {
	if f.given(key, v != 0) && (v < low || v > high) {
		f.fail(key, "%d is out of range: want %d to %d", v, low, high)
	}
}

// floor checks a number from 1: a rule that says 0 reads like a demand and makes none.
func (f *faults) floor(key string, v, high int64) {
	if v == 0 && f.given(key, false) {
		f.fail(key, "0 demands nothing: leave it out if any value is acceptable")
		return
	}
	f.number(key, v, 1, high)
}

func oneOf[T ~string](f *faults, key string, v T, allowed ...T) {
	if f.given(key, v != "") && !slices.Contains(allowed, v) {
		f.fail(key, "%q is not one of %s", v, joined(allowed, ", "))
	}
}

// name checks a name: not empty, no control characters.
func (f *faults) name(key, v string) {
	if f.given(key, v != "") && (v == "" || len(v) > evidence.MaxName || !utf8.ValidString(v) ||
		strings.ContainsFunc(v, func(c rune) bool { return c < 0x20 || c == 0x7f })) {
		f.fail(key, "%q is not a name of 1 to %d bytes without control characters", v, evidence.MaxName)
	}
}

// list checks a list that, if given, must contain something, and each thing once.
func list[T comparable](f *faults, key string, v []T, each func(at string, v T)) {
	if v != nil && len(v) == 0 {
		f.fail(key, "the list is empty: leave the key out if anything is acceptable")
	}
	seen := make(map[T]bool)
	for i, x := range v {
		at := fmt.Sprintf("%s[%d]", key, i)
		if seen[x] {
			f.fail(at, "%q is listed twice", fmt.Sprint(x))
			continue
		}
		seen[x] = true
		each(at, x)
	}
}

// names checks a list of names that are all known.
func (f *faults) names(key string, v, allowed []string) {
	list(f, key, v, func(at, text string) {
		if !slices.Contains(allowed, text) {
			f.fail(at, "%q is not one of %s", text, strings.Join(allowed, ", "))
		}
	})
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

// identity checks a value for a list of what is acceptable. A report without one shows
// zeros, so a list that contained zeros would accept everything without an identity.
func (f *faults) identity(key, text string, sizes ...int) ([]byte, bool) {
	b, ok := f.hex(key, text, sizes...)
	if ok && isZero(b) {
		f.fail(key, "it is zero, which means none: leave it out")
		return nil, false
	}
	return b, ok
}

func (f *faults) identities(key string, v []string, sizes ...int) {
	list(f, key, v, func(at, text string) { f.identity(at, text, sizes...) })
}

// bank checks a PCR bank. Collisions of SHA-1 can be made, so a SHA-1 value says little
// about what was extended.
func (f *faults) bank(key, v string) (pcr.Algorithm, bool) {
	if !f.given(key, v != "") {
		f.fail(key, `missing: want "sha256", "sha384" or "sha512"`)
		return 0, false
	}
	a, err := pcr.ParseAlgorithm(v)
	if err != nil || a == pcr.SHA1 {
		f.fail(key, `%q is not one of sha256, sha384, sha512`, v)
		return 0, false
	}
	return a, true
}

func isZero(b []byte) bool { return !slices.ContainsFunc(b, func(c byte) bool { return c != 0 }) }

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
