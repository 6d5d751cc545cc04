// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// A Progress shows how far a reading is, and for how long a call of the file system has had
// no answer. It is of one call of [Reader.Read]. Its methods may be called by many
// goroutines.
type Progress struct {
	ended chan struct{} // closed when no goroutine works for the reading any more

	mu     sync.Mutex // guards all below, and what the hands contain
	hands  []*hand
	path   string // that was looked at last
	bytes  uint64 // hashed, or known already
	hashed uint64
	of     uint64 // of the files found so far
	gaveUp bool   // its caller does not wait any more
}

// NewProgress returns the progress of a reading that has not begun.
func NewProgress() *Progress { return &Progress{ended: make(chan struct{})} }

// Ended returns a channel that is closed when the reading uses no file any more, which can be
// long after [Reader.Read] has returned.
func (p *Progress) Ended() <-chan struct{} { return p.ended }

// Now returns how many bytes were hashed, of how many that were found so far, and the path
// that was looked at last.
func (p *Progress) Now() (bytes, of uint64, path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes, p.of, p.path
}

// A hand is a goroutine that calls the file system for a reading.
type hand struct {
	p     *Progress
	path  string
	since time.Time // when the call under way began; zero while it waits for something else
	leave func()    // gives its turn of hashing back; nil while it has none
}

// hand returns a new one, which does nothing yet.
func (p *Progress) hand() *hand {
	h := &hand{p: p}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hands = append(p.hands, h)
	return h
}

// at notes that h calls the file system for path from now on. The calls between two notes are
// few, so that one that hangs is told from many.
func (h *hand) at(path string) {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.path, h.since, h.p.path = path, time.Now(), path
}

// idle notes that h waits, but not for the file system.
func (h *hand) idle() {
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.since = time.Time{}
}

// end notes that h does nothing more.
func (h *hand) end() {
	h.giveBack()
	h.p.mu.Lock()
	defer h.p.mu.Unlock()
	h.p.hands = slices.DeleteFunc(h.p.hands, func(x *hand) bool { return x == h })
}

// take keeps the turn that leave gives back. If the reading was given up, it goes back at
// once.
func (h *hand) take(leave func()) {
	h.p.mu.Lock()
	if !h.p.gaveUp {
		h.leave, leave = leave, nil
	}
	h.p.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// giveBack gives back the turn of h, if it has one.
func (h *hand) giveBack() {
	h.p.mu.Lock()
	leave := h.leave
	h.leave = nil
	h.p.mu.Unlock()
	if leave != nil {
		leave()
	}
}

// Hashed returns how many bytes were hashed.
func (p *Progress) Hashed() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hashed
}

// found counts bytes of a file that was found.
func (p *Progress) found(bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.of += bytes
}

// known counts bytes whose digest is known without hashing.
func (p *Progress) known(bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += bytes
}

// hash counts bytes that were hashed.
func (p *Progress) hash(bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes += bytes
	p.hashed += bytes
}

// hung returns the path of a call that has had no answer for so long.
func (p *Progress) hung(patience time.Duration) (path string, hung bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.hands {
		if !h.since.IsZero() && time.Since(h.since) >= patience {
			return h.path, true
		}
	}
	return "", false
}

// giveBackLate gives back the turns of calls that have had no answer for so long.
func (p *Progress) giveBackLate(patience time.Duration) {
	p.mu.Lock()
	var late []func()
	for _, h := range p.hands { // with mu, so that no hand has its next turn by then
		if h.leave != nil && !h.since.IsZero() && time.Since(h.since) >= patience {
			late = append(late, h.leave)
			h.leave = nil
		}
	}
	p.mu.Unlock()
	for _, leave := range late {
		leave()
	}
}

// giveUp gives back all turns of the reading, also those that its hands still get.
func (p *Progress) giveUp() {
	p.mu.Lock()
	p.gaveUp = true
	hands := slices.Clone(p.hands)
	p.mu.Unlock()
	for _, h := range hands {
		h.giveBack()
	}
}

// A HungError says that a reading was given up: a call of the file system had no answer, or
// the whole took too long. Calls may still be under way: see [Progress.Ended].
type HungError struct {
	Path   string        // without an answer, or looked at last
	Within time.Duration // in which the whole should have been read; 0 if a call has no answer
}

func (e *HungError) Error() string {
	if e.Within > 0 {
		return fmt.Sprintf("the files are not read within %v: declare less, or raise measurement.timeout", e.Within)
	}
	return fmt.Sprintf("the file system of %q does not answer: the app is measured when it does", e.Path)
}
