// SPDX-License-Identifier: Apache-2.0

package text

import (
	"slices"
	"strings"
	"testing"
	"unicode"
)

// blank are the characters that no table of Unicode calls invisible, and whose picture is
// empty: the Braille pattern without dots, two Egyptian blanks, the Khitan filler, and the
// musical null notehead.
var blank = []rune{0x2800, 0x13441, 0x13442, 0x16fe4, 0x1d159}

// reserved are the ranges that Unicode keeps free for more characters that are not seen.
var reserved = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x2065, Hi: 0x2065, Stride: 1}, {Lo: 0xfff0, Hi: 0xfff8, Stride: 1}},
	R32: []unicode.Range32{{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1}},
}

// TestMayShow: the list contains every character that the library's tables call a control, a
// format character, a default-ignorable code point or white space, but U+0020. It contains
// the blanks, and nothing that a reader sees.
func TestMayShow(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		unseen := unicode.In(r, unicode.Cc, unicode.Cf, // format characters: most are default-ignorable
			unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector,
			unicode.White_Space, unicode.Zs, unicode.Zl, unicode.Zp) && r != ' '
		switch shown := MayShow(r); {
		case unseen && shown:
			t.Errorf("%U may be shown: it belongs to a later Unicode than %s, and to a later version of the format", r, unicode.Version)
		case !unseen && !shown && !slices.Contains(blank, r) && !unicode.Is(reserved, r):
			t.Errorf("%U may not be shown, and is not one that Unicode or this test calls unseen", r)
		}
	}
	for _, r := range blank {
		if MayShow(r) {
			t.Errorf("%U may be shown", r)
		}
	}
}

// TestCheck: what is refused is named by its place, and not repeated.
func TestCheck(t *testing.T) {
	for s, want := range map[string]string{
		"":                     "",
		"billing.example":      "",
		"bücher 漢字 é":          "", // letters of any script
		"a\ufffdb":             "", // the replacement character itself is valid
		"👍":                    "",
		"a\x1b[2J":             "U+001B at byte 1",
		"a\nb":                 "U+000A at byte 1",
		"a\u009b2J":            "U+009B at byte 1",
		"\u202egpj.exe":        "U+202E at byte 0",
		"é\u2066x":             "U+2066 at byte 2",
		"a\u2028b":             "U+2028 at byte 1",
		"a\u2029b":             "U+2029 at byte 1",
		"pay\u200bpal":         "U+200B at byte 3",
		"\ufeffa":              "U+FEFF at byte 0",
		"a\u00adb":             "U+00AD at byte 1",
		"a\U000e0041":          "U+E0041 at byte 1",
		"billing\u00a0":        "U+00A0 at byte 7",
		"billing\u3000":        "U+3000 at byte 7",
		"billing\ufe0f":        "U+FE0F at byte 7",
		"billing\u3164":        "U+3164 at byte 7",
		"billing\u2800":        "U+2800 at byte 7",
		"a\xff":                "invalid UTF-8 at byte 1",
		"a\xed\xa0\x80":        "invalid UTF-8 at byte 1", // a surrogate
		strings.Repeat("a", 9): "",
		strings.Repeat("é", 5): "size 10, want 0 to 9",
	} {
		limit := max(len(s), 9)
		if strings.HasPrefix(s, "éé") {
			limit = 9
		}
		err := Check("audience", s, 0, limit)
		if want == "" {
			if err != nil {
				t.Errorf("%q: %v", s, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "audience") {
			t.Errorf("%q: error %v, want one of %q", s, err, want)
		}
	}
	if err := Check("reason", "", 1, 9); err == nil {
		t.Error("an empty text passes although one is wanted")
	}
}

// TestShown: a text is shown if each of its characters is, and it is UTF-8.
func TestShown(t *testing.T) {
	for s, want := range map[string]bool{"": true, "/srv/é 漢字": true, "a\xff": false, "a\u00a0": false, "\u2800": false} {
		if Shown(s) != want {
			t.Errorf("%q is shown: %v", s, !want)
		}
	}
}

func TestExcerpt(t *testing.T) {
	for in, want := range map[string]string{
		"":                             `""`,
		"a\nb":                         `"a\nb"`,
		"a\u202eb":                     `"a\u202eb"`,
		"a\U000e0100b":                 `"a\U000e0100b"`,   // prints by the tables of the library
		"a\u2800b\u3164":               `"a\u2800b\u3164"`, // so do these
		"bücher":                       `"bücher"`,
		strings.Repeat("x", 64):        `"` + strings.Repeat("x", 64) + `"`,
		strings.Repeat("x", 65):        `"` + strings.Repeat("x", 64) + `"... (65 bytes)`,
		strings.Repeat("x", 63) + "éé": `"` + strings.Repeat("x", 63) + `"... (67 bytes)`,
	} {
		if got := Excerpt(in); got != want {
			t.Errorf("%q becomes %s, want %s", in, got, want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "plain; \t as it is": "plain; \t as it is", "a\nb": "a; b", "\na \r\n\r\n b\n": "a; b", "\n": "",
	} {
		if got := OneLine(s); got != want || OneLine(got) != got {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// TestLine: text of strangers stays on its line, and shows that something was taken out.
func TestLine(t *testing.T) {
	for s, want := range map[string]string{
		"": "", "plain é": "plain é", "a\nb": "a; b", "a\x1b[2Jb": "a\ufffd[2Jb", "a\u202eb": "a\ufffdb", "\xff": "\ufffd",
	} {
		if got := Line(s); got != want || Line(got) != got {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

// TestFit: whatever is fitted passes the check, and fitting it again changes nothing.
func TestFit(t *testing.T) {
	const most = 1024
	for _, s := range []string{"", "plain", "a\nb\x00\x7f", "a\u202eb\u2028\u009b", "a\u2800\u00a0", "\xff\xfe", strings.Repeat("é", most), strings.Repeat("\xff", 5000)} {
		fit := Fit(s, most)
		if err := Check("text", fit, 1, most); err != nil || Fit(fit, most) != fit {
			t.Errorf("%q: %q, %v", s, fit, err)
		}
	}
}
