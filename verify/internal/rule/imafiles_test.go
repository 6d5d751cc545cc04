// SPDX-License-Identifier: Apache-2.0

package rule

import (
	"regexp"
	"strings"
	"testing"
)

// TestMatches: a * stands for any characters but a slash, ** for any.
func TestMatches(t *testing.T) {
	patterns := []string{"/x", "*", "**", "/usr/*", "/usr/**", "/usr/*/x", "/usr/**/x", "/usr/lib*/**.so.*", "**/x", "*/x", "/u*r/*b*/*x*", "/***", "/****x", "/a*a*a*b", "/**a**b*c", "/usr/\xff*"}
	paths := []string{"", "/", "/x", "/usr", "/usr/", "/usr/x", "/usr/bin/x", "/usr/bin/y/x", "/usr/lib/x.so.1", "/usr/lib64/a/b/x.so.1.2", "/usr/libx", "/aaab", "/a/a/ab", "/aab/cbc", "/acb\n/", "/usr/\xffx", "/usr/\xfex"}
	for _, pattern := range patterns {
		var b strings.Builder
		for i := 0; i < len(pattern); i++ {
			switch {
			case strings.HasPrefix(pattern[i:], "**"):
				b.WriteString("(?s:.*)")
				i++
			case pattern[i] == '*':
				b.WriteString("[^/]*")
			default:
				b.WriteString(regexp.QuoteMeta(strings.ToValidUTF8(string(rune(pattern[i])), "")))
			}
		}
		want := regexp.MustCompile("^(?:" + b.String() + ")$")
		for _, path := range paths {
			latin := make([]rune, len(path)) // a character for each byte
			for i := range len(path) {
				latin[i] = rune(path[i])
			}
			if got := matches(pattern, path); got != want.MatchString(string(latin)) {
				t.Errorf("%q has the pattern %q: %v", path, pattern, got)
			}
		}
	}
}

// TestMatchesHostileNames: a name that an attacker chose costs no more than the product of both
// lengths: this ends at once, and would take years if it went back at each asterisk.
func TestMatchesHostileNames(t *testing.T) {
	if matches(strings.Repeat("*a", 128), strings.Repeat("a", 4095)+"b") || matches(strings.Repeat("**a", 85), strings.Repeat("a", 4095)+"b") {
		t.Error("it matches")
	}
}
