// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"bytes"
	"errors"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// MaxInteger is the largest integer of a document. Readers that keep numbers as IEEE 754
// doubles would see another integer beyond it (RFC 8259, section 6).
const MaxInteger = 1<<53 - 1

// ErrNull is returned for a null anywhere in a document.
var ErrNull = errors.New("null: a member that is absent is left out (docs/evidence.md, section 2)")

// ErrInteger is returned for an integer that readers in other languages would misread.
var ErrInteger = errors.New("integer beyond 2^53 - 1")

// checkValues refuses what the decoder accepts for any type: null, which would be a second
// spelling of an absent member and of zero, and integers beyond [MaxInteger]. B is one
// valid JSON value. The error is a [*json.SemanticError] with the place.
func checkValues(b []byte) error {
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			i += endOfString(b[i:])
		case c == 'n':
			return misplaced(b, i, ErrNull)
		case c >= '0' && c <= '9':
			end := i
			for end < len(b) && b[end] >= '0' && b[end] <= '9' {
				end++
			}
			if end-i >= 16 { // 2^53 - 1 has 16 digits
				if n, err := strconv.ParseUint(string(b[i:end]), 10, 64); err != nil || n > MaxInteger {
					return misplaced(b, i, ErrInteger)
				}
			}
			i = end - 1
		}
	}
	return nil
}

// endOfString returns the index of the quotation mark that ends the string at the start of b.
func endOfString(b []byte) int {
	end := 1
	for {
		n := bytes.IndexByte(b[end:], '"')
		if n < 0 {
			return len(b)
		}
		end += n
		escapes := 0
		for b[end-1-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return end
		}
		end++
	}
}

// misplaced returns err with the place of the value at byte i, as a JSON Pointer.
func misplaced(b []byte, i int, err error) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(b))
	for d.InputOffset() <= int64(i) {
		if _, err := d.ReadToken(); err != nil {
			break
		}
	}
	return &json.SemanticError{ByteOffset: int64(i), JSONPointer: cutPointer(d.StackPointer()), Err: err}
}
