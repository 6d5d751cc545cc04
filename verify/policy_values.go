// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// policyReader converts values of a policy and collects what is wrong with them.
type policyReader struct {
	where  positions
	errors []*PolicyError
}

func (r *policyReader) fail(key, format string, a ...any) {
	at := r.where.at(key)
	r.errors = append(r.errors, &PolicyError{Line: at.Line, Column: at.Column, Key: key, Message: fmt.Sprintf(format, a...)})
}

// err joins what was found, in the order of the text.
func (r *policyReader) err() error {
	slices.SortStableFunc(r.errors, func(a, b *PolicyError) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column), cmp.Compare(a.Message, b.Message))
	})
	all := make([]error, len(r.errors))
	for i, e := range r.errors {
		all[i] = e
	}
	return errors.Join(all...)
}

func given(v *bool, otherwise bool) bool {
	if v == nil {
		return otherwise
	}
	return *v
}

func (r *policyReader) number(key string, v *int64, otherwise, low, high int64) int64 {
	if v == nil {
		return otherwise
	}
	if *v < low || *v > high {
		r.fail(key, "%d is out of range: want %d to %d", *v, low, high)
		return otherwise
	}
	return *v
}

// floor is a number from 1: a rule that says 0 reads like a demand and makes none.
func (r *policyReader) floor(key string, v *int64, high int64) int64 {
	if v != nil && *v == 0 {
		r.fail(key, "0 demands nothing: leave it out where any value is acceptable")
		return 0
	}
	return r.number(key, v, 0, 1, high)
}

func (r *policyReader) oneOf(key string, v *string, otherwise string, allowed ...string) string {
	if v == nil {
		return otherwise
	}
	if !slices.Contains(allowed, *v) {
		r.fail(key, "%q is not one of %s", *v, strings.Join(allowed, ", "))
		return otherwise
	}
	return *v
}

// text is a name: not empty, no control characters.
func (r *policyReader) text(key string, v *string) string {
	if v == nil {
		return ""
	}
	if *v == "" || len(*v) > evidence.MaxName || !utf8.ValidString(*v) ||
		strings.ContainsFunc(*v, func(c rune) bool { return c < 0x20 || c == 0x7f }) {
		r.fail(key, "%q is not a name of 1 to %d bytes without control characters", *v, evidence.MaxName)
	}
	return *v
}

// empty refuses a table, or a list of tables, that stands in the text and holds nothing:
// who wrote it expects to be protected by it.
func (r *policyReader) empty(key string, is bool) {
	if _, given := r.where[key]; given && is {
		r.fail(key, "it is empty: leave it out where anything is acceptable")
	}
}

// list walks a list that, when given, must hold something, and each thing once.
func list[T any](r *policyReader, key string, v *[]string, convert func(key, text string) (T, bool)) []T {
	if v == nil {
		return nil
	}
	if len(*v) == 0 {
		r.fail(key, "the list is empty: leave the key out where anything is acceptable")
	}
	var out []T
	seen := make(map[string]bool)
	for i, text := range *v {
		at := fmt.Sprintf("%s[%d]", key, i)
		if seen[text] {
			r.fail(at, "%q is listed twice", text)
			continue
		}
		seen[text] = true
		if value, ok := convert(at, text); ok {
			out = append(out, value)
		}
	}
	return out
}

func (r *policyReader) names(key string, v *[]string, otherwise, allowed []string) []string {
	if v == nil {
		return otherwise
	}
	return list(r, key, v, func(at, text string) (string, bool) {
		if !slices.Contains(allowed, text) {
			r.fail(at, "%q is not one of %s", text, strings.Join(allowed, ", "))
			return "", false
		}
		return text, true
	})
}

func (r *policyReader) texts(key string, v *[]string) map[string]bool {
	return set(list(r, key, v, func(at, text string) (string, bool) { return r.text(at, &text), true }))
}

// hex is lower-case hexadecimal of one of the given sizes in bytes. One spelling for
// each value: a list that is searched for duplicates by eye or by grep shows them.
func (r *policyReader) hex(key, text string, sizes ...int) ([]byte, bool) {
	b, err := hex.DecodeString(text)
	if err != nil || hex.EncodeToString(b) != text {
		r.fail(key, "%q is not lower-case hexadecimal", text)
		return nil, false
	}
	if !slices.Contains(sizes, len(b)) {
		r.fail(key, "%d bytes, want %s", len(b), strings.Join(strings.Fields(strings.Trim(fmt.Sprint(sizes), "[]")), " or "))
		return nil, false
	}
	return b, true
}

// listed is a value that may stand in a list of those that are acceptable. Where a
// report has none to show it shows zeros, so that a list which held them would take
// anything without one for listed.
func (r *policyReader) listed(key, text string, sizes ...int) ([]byte, bool) {
	b, ok := r.hex(key, text, sizes...)
	if ok && isZero(b) {
		r.fail(key, "it is zero, which stands for none: leave it out")
		return nil, false
	}
	return b, ok
}

func (r *policyReader) identities(key string, v *[]string, sizes ...int) [][]byte {
	return list(r, key, v, func(at, text string) ([]byte, bool) { return r.listed(at, text, sizes...) })
}

func (r *policyReader) hexList(key string, v *[]string, sizes ...int) [][]byte {
	return list(r, key, v, func(at, text string) ([]byte, bool) { return r.hex(at, text, sizes...) })
}

// keyNames are names of TPM objects (TPM 2.0 Part 1, section 16): the name algorithm, 2
// bytes, and a digest of it. One of another algorithm or size is that of no key.
func (r *policyReader) keyNames(key string, v *[]string) [][]byte {
	return list(r, key, v, func(at, text string) ([]byte, bool) {
		b, ok := r.hex(at, text, 34, 50, 66)
		if !ok {
			return nil, false
		}
		if h, known := tpmwire.SignatureHash(binary.BigEndian.Uint16(b)); !known || h.Size() != len(b)-2 {
			r.fail(at, "it begins with %x and has %d bytes, and no key is named so: want 000b and 32 bytes, 000c and 48, or 000d and 64", b[:2], len(b))
			return nil, false
		}
		return b, true
	})
}

func (r *policyReader) digests(key string, v *[]string) map[evidence.Digest]bool {
	return set(list(r, key, v, func(at, text string) (evidence.Digest, bool) {
		b, ok := r.listed(at, text, 32)
		if !ok {
			return evidence.Digest{}, false
		}
		return evidence.Digest(b), true
	}))
}

// set is what a list holds. A log is held against it event by event, and whoever wrote
// the log chooses how many there are.
func set[T comparable](list []T) map[T]bool {
	out := make(map[T]bool, len(list))
	for _, v := range list {
		out[v] = true
	}
	return out
}

func (r *policyReader) vmpl(v *[]int64) []uint32 {
	if v == nil {
		return []uint32{0}
	}
	if len(*v) == 0 {
		r.fail("vmpl", "the list is empty, so every report would be refused")
	}
	var out []uint32
	seen := make(map[int64]bool)
	for i, n := range *v {
		at := fmt.Sprintf("vmpl[%d]", i)
		if seen[n] {
			r.fail(at, "%d is listed twice", n)
		}
		seen[n] = true
		out = append(out, uint32(r.number(at, &n, 0, 0, 3)))
	}
	return out
}
