// SPDX-License-Identifier: Apache-2.0

package page

import (
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/cvm-agentd/agentd/internal/text"
)

// Caps on what the author of evidence, of a log or of a policy can make a page contain.
const (
	maxSentence = 1 << 10 // bytes of a sentence, of what was found, and of what was expected
	maxName     = 160     // bytes of a name or a reason in a list
	maxBytes    = 64      // bytes of a byte string that are shown
	maxList     = 40      // entries of a list: applications, agents, reasons to refuse
	maxEvents   = 240     // entries of the timeline
	maxBars     = 120     // times in which an application was covered, of one application
	maxPCRs     = 128     // quoted values
)

// line returns text of strangers as one line of at most most bytes that may be shown. It says if it
// was cut.
func line(s string, most int) string {
	whole := len(s)
	if whole > most {
		s = strings.ToValidUTF8(s[:most], "")
	}
	s = strings.Map(func(r rune) rune {
		if r&0xfffe == 0xfffe || r >= 0xfdd0 && r <= 0xfdef { // no character: documents may not contain it
			return '\ufffd'
		}
		return r
	}, text.Line(strings.ToValidUTF8(s, "\ufffd")))
	if whole > most {
		return fmt.Sprintf("%s… (cut, %d bytes)", s, whole)
	}
	return s
}

// name returns a name or a reason for a list.
func name[S ~string | ~[]byte](s S) string { return line(string(s), maxName) }

// sentence returns a sentence of an appraisal.
func sentence(s string) string { return line(s, maxSentence) }

// digits returns bytes in hexadecimal, cut if they are many.
func digits[B ~[]byte](b B) string {
	if len(b) > maxBytes {
		return fmt.Sprintf("%x… (%d bytes)", []byte(b[:maxBytes]), len(b))
	}
	return hex.EncodeToString(b)
}

// brief returns the beginning of a text that fits a box of the drawing with this many columns.
// Characters from U+1100 on may be two columns wide.
func brief(s string, columns int) string {
	s = line(s, maxName)
	used := 0
	for i, r := range s {
		if used++; r >= 0x1100 {
			used++
		}
		if used > columns {
			at := strings.LastIndexFunc(s[:i], func(rune) bool { return true })
			return s[:max(at, 0)] + "…"
		}
	}
	return s
}

// sinceBoot returns a time of the guest's clock, in milliseconds since boot.
func sinceBoot(ms uint64) string {
	if ms > math.MaxInt64/uint64(time.Millisecond) {
		return fmt.Sprintf("%d ms", ms)
	}
	return (time.Duration(ms) * time.Millisecond).String()
}

// atUTC returns a time for people; empty if there is none.
func atUTC(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// some returns the first entries of a list, at most most, and how many are left out.
func some[T any](list []T, most int) ([]T, int) {
	if len(list) <= most {
		return list, 0
	}
	return list[:most], len(list) - most
}
