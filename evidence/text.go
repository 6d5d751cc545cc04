// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// hidden are the characters that may not stand in text of a document, because whoever
// reads it on a screen would be shown something else than what stands there: terminals
// obey the controls, the marks of direction turn what comes behind them around, and the
// rest is not seen at all. They are the categories Cc, Cf, Zl and Zp of Unicode 15.0, and
// the rest of the three blocks that are set aside for more of them. The table is part of
// the format: it does not grow when Unicode, or the Go library, does.
var hidden = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0000, Hi: 0x001f, Stride: 1}, // C0
		{Lo: 0x007f, Hi: 0x009f, Stride: 1}, // DEL and C1
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1},
		{Lo: 0x0600, Hi: 0x0605, Stride: 1},
		{Lo: 0x061c, Hi: 0x061c, Stride: 1}, // Arabic letter mark
		{Lo: 0x06dd, Hi: 0x06dd, Stride: 1},
		{Lo: 0x070f, Hi: 0x070f, Stride: 1},
		{Lo: 0x0890, Hi: 0x0891, Stride: 1},
		{Lo: 0x08e2, Hi: 0x08e2, Stride: 1},
		{Lo: 0x180e, Hi: 0x180e, Stride: 1},
		{Lo: 0x200b, Hi: 0x200f, Stride: 1}, // zero width; marks of direction
		{Lo: 0x2028, Hi: 0x202e, Stride: 1}, // separators of lines and paragraphs; embeddings and overrides
		{Lo: 0x2060, Hi: 0x206f, Stride: 1}, // invisible operators, isolates; one is not assigned
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1}, // byte order mark
		{Lo: 0xfff0, Hi: 0xfffb, Stride: 1}, // specials; nine are not assigned
	},
	R32: []unicode.Range32{
		{Lo: 0x110bd, Hi: 0x110bd, Stride: 1},
		{Lo: 0x110cd, Hi: 0x110cd, Stride: 1},
		{Lo: 0x13430, Hi: 0x1343f, Stride: 1},
		{Lo: 0x1bca0, Hi: 0x1bca3, Stride: 1},
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1},
		{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1}, // tags and further variation selectors
	},
	LatinOffset: 3,
}

// MayStand reports whether r may stand in text of a document.
func MayStand(r rune) bool {
	return r >= 0x20 && r < 0x7f || !unicode.Is(hidden, r) // most text is ASCII
}

// CheckText holds the text of a member to its size in bytes, to UTF-8, and to characters
// that are what they look like. It is the one rule for every text in statements and
// events: what a caller may ask for, the agent write and the verifier read. The error
// names part, never the text itself.
func CheckText(part, s string, low, high int) error {
	if err := size(part, len(s), low, high); err != nil {
		return err
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return fmt.Errorf("%s holds invalid UTF-8 at byte %d", part, i)
			}
		}
		if !MayStand(r) {
			return fmt.Errorf("%s holds the control or format character %U at byte %d: leave it out", part, r, i)
		}
	}
	return nil
}
