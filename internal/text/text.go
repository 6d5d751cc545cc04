// SPDX-License-Identifier: Apache-2.0

// Package text contains the one rule for text that a person may be shown, and for the size
// of a part of a document.
//
// Text of a document may contain any character but those of a closed list. A reader of a
// screen would be misled by the characters of the list. Terminals obey the controls. The
// marks of direction reverse the text after them. The rest is invisible or an empty space:
// two texts that differ only in those look alike.
package text

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// hidden are the characters that text may not contain: what Unicode 15.0 calls a control, a
// format character, a default-ignorable code point, or white space other than U+0020, the rest
// of the three blocks that are reserved for more of them, and five characters whose picture is
// empty. The list is part of the formats: it does not grow when Unicode, or the Go library, does.
var hidden = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0000, Hi: 0x001f, Stride: 1}, // C0
		{Lo: 0x007f, Hi: 0x00a0, Stride: 1}, // DEL and C1; no-break space
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1},
		{Lo: 0x034f, Hi: 0x034f, Stride: 1}, // combining grapheme joiner
		{Lo: 0x0600, Hi: 0x0605, Stride: 1},
		{Lo: 0x061c, Hi: 0x061c, Stride: 1}, // Arabic letter mark
		{Lo: 0x06dd, Hi: 0x06dd, Stride: 1},
		{Lo: 0x070f, Hi: 0x070f, Stride: 1},
		{Lo: 0x0890, Hi: 0x0891, Stride: 1},
		{Lo: 0x08e2, Hi: 0x08e2, Stride: 1},
		{Lo: 0x115f, Hi: 0x1160, Stride: 1}, // Hangul fillers
		{Lo: 0x1680, Hi: 0x1680, Stride: 1}, // Ogham space
		{Lo: 0x17b4, Hi: 0x17b5, Stride: 1}, // Khmer vowels that are not written
		{Lo: 0x180b, Hi: 0x180f, Stride: 1}, // Mongolian variation selectors and vowel separator
		{Lo: 0x2000, Hi: 0x200f, Stride: 1}, // spaces; zero width; marks of direction
		{Lo: 0x2028, Hi: 0x202f, Stride: 1}, // separators of lines and paragraphs; embeddings and overrides; a space
		{Lo: 0x205f, Hi: 0x206f, Stride: 1}, // a space; invisible operators, isolates; one is not assigned
		{Lo: 0x2800, Hi: 0x2800, Stride: 1}, // Braille pattern without dots
		{Lo: 0x3000, Hi: 0x3000, Stride: 1}, // ideographic space
		{Lo: 0x3164, Hi: 0x3164, Stride: 1}, // Hangul filler
		{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1}, // variation selectors
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1}, // byte order mark
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1}, // halfwidth Hangul filler
		{Lo: 0xfff0, Hi: 0xfffb, Stride: 1}, // specials; nine are not assigned
	},
	R32: []unicode.Range32{
		{Lo: 0x110bd, Hi: 0x110bd, Stride: 1},
		{Lo: 0x110cd, Hi: 0x110cd, Stride: 1},
		{Lo: 0x13430, Hi: 0x1343f, Stride: 1},
		{Lo: 0x13441, Hi: 0x13442, Stride: 1}, // Egyptian blanks
		{Lo: 0x16fe4, Hi: 0x16fe4, Stride: 1}, // Khitan filler
		{Lo: 0x1bca0, Hi: 0x1bca3, Stride: 1},
		{Lo: 0x1d159, Hi: 0x1d159, Stride: 1}, // musical null notehead
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1},
		{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1}, // tags and further variation selectors
	},
	LatinOffset: 3,
}

// MayShow reports whether text may contain r.
func MayShow(r rune) bool {
	return r >= 0x20 && r < 0x7f || !unicode.Is(hidden, r) // most text is ASCII
}

// Shown reports whether s is valid UTF-8 and [MayShow] allows each of its characters.
func Shown(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !MayShow(r) })
}

// Check checks the size of a text in bytes, that it is UTF-8, and that it may be shown. The
// error names part and the byte, never the text itself. An error about the size is a
// [*SizeError].
func Check(part, s string, low, high int) error {
	if err := Size(part, len(s), low, high); err != nil {
		return err
	}
	for i, r := range s {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(s[i:]); n == 1 {
				return fmt.Errorf("%s contains invalid UTF-8 at byte %d", part, i)
			}
		}
		if !MayShow(r) {
			return fmt.Errorf("%s contains %U at byte %d, which a screen does not show as it is: leave it out", part, r, i)
		}
	}
	return nil
}

// OneLine returns s as one line, with "; " between what were lines. An error that joins
// several has a line for each.
func OneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	var lines []string
	for line := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == '\n' || r == '\r' }) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return strings.Join(lines, "; ")
}

// Line returns s as one line that may be shown, with U+FFFD in the place of each character that may
// not: evidence comes from strangers, and its text must not be able to print a verdict.
func Line(s string) string {
	return strings.Map(func(r rune) rune {
		if !MayShow(r) {
			return '\ufffd'
		}
		return r
	}, OneLine(s))
}

// Fit returns s as text that [Check] accepts, of 1 to most bytes: one line, "?" in the place of
// what may not be shown, and an empty text becomes "not given". Error texts and file names may
// contain anything, and a record that refused its reason would be lost.
func Fit(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		if !MayShow(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(OneLine(s), "?"))
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	return cmp.Or(s, "not given")
}

// maxExcerpt is how much of a text [Excerpt] quotes, in bytes.
const maxExcerpt = 64

// Excerpt returns s quoted for an error or a report. It cuts a long text and says so: the
// author of a document must not choose how much of it is shown.
func Excerpt[S ~string](s S) string {
	if len(s) <= maxExcerpt {
		return quote(string(s))
	}
	return fmt.Sprintf("%s... (%d bytes)", quote(strings.ToValidUTF8(string(s[:maxExcerpt]), "")), len(s))
}

// quote returns s in quotation marks. The library escapes what does not print by the Unicode
// tables of the day. Those print many characters of the list.
func quote(s string) string {
	if q := strconv.Quote(s); Shown(q) {
		return q
	}
	return strconv.QuoteToASCII(s)
}

// A SizeError is returned for a part of a document that is longer or shorter than the
// format allows.
type SizeError struct {
	Part     string // the member, in the words of the document
	Got      int    // bytes or elements
	Min, Max int    // inclusive
}

func (e *SizeError) Error() string {
	if e.Min == e.Max {
		return fmt.Sprintf("%s: size %d, want %d", e.Part, e.Got, e.Max)
	}
	return fmt.Sprintf("%s: size %d, want %d to %d", e.Part, e.Got, e.Min, e.Max)
}

// Size returns a [*SizeError] if got is not within low and high, both included.
func Size(part string, got, low, high int) error {
	if got < low || got > high {
		return &SizeError{Part: part, Got: got, Min: low, Max: high}
	}
	return nil
}

// Count returns n things in words: "1 file", "3 files".
func Count[N int | int64 | uint64](n N, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
