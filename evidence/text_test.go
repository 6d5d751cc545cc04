// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"strings"
	"testing"
	"unicode"
)

// TestMayStand: the table leaves out nothing that the library calls a control or format
// character, or a separator of lines, and takes nothing that is seen.
func TestMayStand(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		unseen := unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp)
		switch stands := MayStand(r); {
		case unseen && stands:
			t.Errorf("%U may stand: it belongs to a later Unicode than %s, and to a later version of the format", r, unicode.Version)
		case !stands && unicode.IsPrint(r) && !unicode.Is(unicode.Mn, r) && r != '\ufffb'+1:
			t.Errorf("%U prints, and may not stand", r)
		}
	}
}

// TestCheckText: what is refused is named by its place, and not repeated.
func TestCheckText(t *testing.T) {
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
		err := CheckText("audience", s, 0, limit)
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
	if err := CheckText("reason", "", 1, 9); err == nil {
		t.Error("an empty text passes where one is wanted")
	}
}
