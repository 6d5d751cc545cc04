// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

// TestMayShow: the list contains everything that the library calls a control or format
// character, or a separator of lines, and nothing that a reader sees.
func TestMayShow(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		unseen := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
		switch shown := MayShow(r); {
		case unseen && shown:
			t.Errorf("%U may be shown: it belongs to a later Unicode than %s, and to a later version of the format", r, unicode.Version)
		case !shown && unicode.IsPrint(r) && !unicode.Is(unicode.Mn, r) && r != '\ufffb'+1:
			t.Errorf("%U prints, and may not be shown", r)
		}
	}
}

// TestCheck: what is refused is named by its place, and not repeated.
func TestCheck(t *testing.T) {
	for s, want := range map[string]string{
		"":                     "",
		"billing.example":      "",
		"bücher 漢字 \u00a0 é":   "", // letters of any script, and spaces that are seen
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

// TestPlain: the list of spaces is that of the library.
func TestPlain(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		if want := utf8.ValidRune(r) && MayShow(r) && (r == ' ' || !unicode.Is(unicode.Zs, r)); Plain("a"+string(r)) != want && utf8.ValidRune(r) {
			t.Errorf("%U is plain: %v", r, !want)
		}
	}
	if !Plain("") || !Plain("/srv/é 漢字") || Plain("a\xff") {
		t.Error("want plain text to be valid UTF-8")
	}
}

func TestExcerpt(t *testing.T) {
	for in, want := range map[string]string{
		"":                             `""`,
		"a\nb":                         `"a\nb"`,
		"a\u202eb":                     `"a\u202eb"`,
		"a\U000e0100b":                 `"a\U000e0100b"`, // prints by the tables of the library
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

// TestFit: whatever is fitted passes the check, and fitting it again changes nothing.
func TestFit(t *testing.T) {
	const most = 1024
	for _, s := range []string{"", "plain", "a\nb\x00\x7f", "a\u202eb\u2028\u009b", "\xff\xfe", strings.Repeat("é", most), strings.Repeat("\xff", 5000)} {
		fit := Fit(s, most)
		if err := Check("text", fit, 1, most); err != nil || Fit(fit, most) != fit {
			t.Errorf("%q: %q, %v", s, fit, err)
		}
	}
}
