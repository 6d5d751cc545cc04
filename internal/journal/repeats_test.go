// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A failure that repeats is a few lines and one with the number of the rest in each minute,
// and what is new in between is not lost.
func TestRepeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(WithoutRepeats(slog.NewTextHandler(&out, nil))).With("part", "attest")
		for n := range 3000 { // 100 seconds
			log.Error("batch failed", "statements", n, "error", errors.New("no report"))
			time.Sleep(time.Second / 30)
		}
		log.Error("batch failed", "statements", 1, "error", errors.New("another reason"))
		time.Sleep(2 * time.Minute)
		log.Error("batch failed", "statements", 1, "error", errors.New("no report"))
		n, ok := CountsOf(log.Handler())
		if !ok || n.Records[slog.LevelError] != 3002 || n.Records[slog.LevelError]-n.Held[slog.LevelError] != 8 || n.Records[slog.LevelInfo] != 0 {
			t.Errorf("counted %+v, want 3002 errors, of which 8 passed one by one", n)
		}
		if _, ok := CountsOf(slog.DiscardHandler); ok {
			t.Error("a handler of another kind counts")
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		repeated := 0
		for _, line := range lines {
			n := 1
			if _, after, ok := strings.Cut(line, "repeated="); ok {
				if _, err := fmt.Sscan(after, &n); err != nil {
					t.Fatal(err)
				}
			}
			repeated += n
		}
		if len(lines) != 3+1+3+1+1+1 || repeated != 3002 {
			t.Errorf("%d lines for %d records, want 10 for 3002:\n%s", len(lines), repeated, out.String())
		}
	})
}

// Records that differ in words are all kept, and what is remembered of them is bounded.
func TestDifferentRecordsAreKept(t *testing.T) {
	var out bytes.Buffer
	h := WithoutRepeats(slog.NewTextHandler(&out, nil))
	log := slog.New(h)
	for n := range 5 * repeatKinds {
		log.Warn("app is not measured", "app", fmt.Sprintf("app-%d", n))
	}
	if n := strings.Count(out.String(), "\n"); n != 5*repeatKinds {
		t.Errorf("%d lines, want %d", n, 5*repeatKinds)
	}
	if n := len(h.(*repeats).seen.last); n > repeatKinds {
		t.Errorf("%d kinds are remembered", n)
	}
}
