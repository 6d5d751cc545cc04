// SPDX-License-Identifier: Apache-2.0

package declaration

import (
	"strings"
	"testing"
)

// TestPlain: what could be mistaken on a screen is in no declaration and no manifest,
// and the error does not put it there either.
func TestPlain(t *testing.T) {
	for _, s := range []string{"", "/usr/bin/a b", "/srv/é/漢字"} {
		if err := CheckText(s, 256); err != nil {
			t.Errorf("%q: %v", s, err)
		}
	}
	for name, s := range map[string]string{
		"C0":                     "/a\x1b[2J",
		"DEL":                    "/a\x7f",
		"C1":                     "/a\u009b2J",
		"right-to-left override": "/a\u202egpj",
		"isolate":                "/a\u2066b",
		"line separator":         "/a\u2028b",
		"no-break space":         "/a\u00a0b",
		"Hangul filler":          "/a\u3164b",
		"Braille blank":          "/a\u2800b",
		"variation selector":     "/a\ufe0fb",
		"invalid UTF-8":          "/a\xff",
	} {
		err := CheckText(s, 256)
		if err == nil {
			t.Errorf("%s: accepted", name)
		} else if strings.ContainsFunc(err.Error(), func(r rune) bool { return r < 0x20 || r > 0x7e }) {
			t.Errorf("%s: the error is %q", name, err)
		}
	}
}
