// SPDX-License-Identifier: Apache-2.0

package apps

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
			w.settle = settleTime
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
			var changed *ChangedError
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

// meddler is a context that does something whenever it is asked whether it ended:
// hashing asks before every read.
type meddler struct {
	context.Context
	asked int
	do    func(asked int) error
}

func (m *meddler) Err() error {
	m.asked++
	return m.do(m.asked)
}

// TestChangeAtEveryRead: a change before any one of the reads is noticed, the last one
// of which finds the end of the file; and the hashing ends with its context before any
// of them.
func TestChangeAtEveryRead(t *testing.T) {
	w := newWorld(t)
	const reads = fileSize/readBuffer + 1
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			for _, at := range []int{1, 2, reads / 2, reads - 1, reads} {
				f, err := os.OpenFile(w.write("bin", strings.Repeat("x", fileSize), 0o755), os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				hash := func(do func(asked int) error) (int, error) {
					if _, err := f.Seek(0, 0); err != nil {
						t.Fatal(err)
					}
					var st unix.Stat_t
					if err := unix.Fstat(int(f.Fd()), &st); err != nil {
						t.Fatal(err)
					}
					ctx := &meddler{Context: t.Context(), do: do}
					_, err := hashFile(ctx, f, "bin", identify(&st), settleTime, make([]byte, readBuffer))
					return ctx.asked, err
				}
				if n, err := hash(func(int) error { return nil }); err != nil || n != reads {
					t.Fatalf("at rest: %d reads, %v", n, err)
				}
				_, err = hash(func(asked int) error {
					if asked == at {
						return change(f, 0)
					}
					return nil
				})
				var changed *ChangedError
				if !errors.As(err, &changed) {
					t.Errorf("changed before read %d: got %v, want a changed error", at, err)
				}
				n, err := hash(func(asked int) error {
					if asked == at {
						return context.Canceled
					}
					return nil
				})
				if !errors.Is(err, context.Canceled) || n != at {
					t.Errorf("cancelled before read %d: got %v after %d", at, err, n)
				}
			}
		})
	}
}
