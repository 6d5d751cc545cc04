// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

// changes are what can happen to a file of fileSize bytes, again and again: cycle rounds bring it
// back to where it was after as many.
var changes = map[string]func(f *os.File, round int) error{
	// The first byte, then the last one: of three values, so that one of each reading
	// is told from what ever stood there.
	"overwritten": func(f *os.File, round int) error {
		_, err := f.WriteAt([]byte{"aabbcc"[round%cycle]}, int64(round%2)*(fileSize-1))
		return err
	},
	"appended": func(f *os.File, round int) error {
		if round%cycle == cycle-1 {
			return f.Truncate(fileSize)
		}
		_, err := f.WriteAt([]byte{1}, fileSize+int64(round%cycle))
		return err
	},
	"truncated": func(f *os.File, round int) error {
		if round%cycle == cycle-1 {
			_, err := f.WriteAt([]byte("xxxxx"), fileSize-(cycle-1))
			return err
		}
		return f.Truncate(fileSize - 1 - int64(round%cycle))
	},
	"touched": func(f *os.File, round int) error { return f.Chmod(0o700 | os.FileMode(round&1)) },
}

const (
	fileSize = 2 << 20
	cycle    = 6
)

// TestChangesWhileHashed writes without pause: the app is found changing. A digest is
// there at most of a reading in which nothing was written, as when the writer does not
// get the processor: it is that of a state the file was in, never of a mixture (case 13).
func TestChangesWhileHashed(t *testing.T) {
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, func(c *Config) { c.RateBurst = 1 << 30 })
			w.reader = manifest.NewReader(1, manifest.SettleTime)
			p := w.write("bin", strings.Repeat("x", fileSize), 0o755)
			w.declare("app", list("files", p))
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			whole := make(map[pcr.ManifestEntry]bool)
			for round := range 2 * cycle { // the first of them begin with another file
				if err := change(f, round); err != nil {
					t.Fatal(err)
				}
				w.reload()
				if !w.app("app").Measured {
					t.Fatalf("at rest: %+v", w.app("app"))
				}
				whole[w.log.last(t).Manifest[0]] = true
			}

			stop := stir(func(round int) {
				if err := change(f, round); err != nil {
					t.Error(err)
				}
			})
			defer stop()
			end := time.Now().Add(patience)
			var changed *manifest.ChangedError
			for {
				if time.Now().After(end) {
					t.Fatal("no change was noticed")
				}
				var s Status
				if s, err = w.Measure(t.Context(), "app"); errors.As(err, &changed) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				if e := w.log.last(t); e.Digest != s.Digest || !whole[e.Manifest[0]] {
					t.Fatalf("measured %+v, which the file never was", e.Manifest[0])
				}
			}
			if changed.Path != p {
				t.Errorf("got %v, want a changed error for %s", err, p)
			}
			for e := range whole {
				if w.Covers("app", e.Digest) {
					t.Error("content of a file that changes is still covered")
				}
			}
			stop()
			if s, err := w.Measure(t.Context(), "app"); err != nil || !s.Measured {
				t.Errorf("at rest again: %+v, %v", s, err)
			}
		})
	}
}
