// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"
)

// Records of one kind that pass in one window before the rest are counted, and how many
// kinds are remembered at once.
const (
	repeatWindow = time.Minute
	repeatBurst  = 3
	repeatKinds  = 1024
)

// WithoutRepeats returns a handler that passes on the first records of a kind in each
// minute, and then one record with their number instead of the rest. A kind is level,
// message and the attributes in words; numbers and times may differ. Records for debugging
// all pass. Without it, a client could fill the journal with a failure that it causes again
// and again.
func WithoutRepeats(to slog.Handler) slog.Handler {
	return &repeats{Handler: to, seen: &kinds{
		last: make(map[string]*kind), window: repeatWindow,
		counts: Counts{Records: make(map[slog.Level]uint64), Held: make(map[slog.Level]uint64)},
	}}
}

type repeats struct {
	slog.Handler
	prefix string // attributes and groups that records get
	seen   *kinds
}

// kinds is shared by a handler and those derived from it.
type kinds struct {
	window time.Duration

	mu     sync.Mutex // guards the two below
	last   map[string]*kind
	counts Counts
}

// Counts are the records of each level since the handler was made.
type Counts struct {
	Records map[slog.Level]uint64 // all
	Held    map[slog.Level]uint64 // of these, repetitions that were not passed on one by one
}

// CountsOf returns what a handler of [WithoutRepeats], or one derived from it, counts, and false
// for another one.
func CountsOf(h slog.Handler) (Counts, bool) {
	r, ok := h.(*repeats)
	if !ok {
		return Counts{}, false
	}
	r.seen.mu.Lock()
	defer r.seen.mu.Unlock()
	return Counts{Records: maps.Clone(r.seen.counts.Records), Held: maps.Clone(r.seen.counts.Held)}, true
}

// count counts a record, which is held back or not.
func (k *kinds) count(level slog.Level, held bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts.Records[level]++
	if held {
		k.counts.Held[level]++
	}
}

// kind is what happened to records of one kind in the present window.
type kind struct {
	began  time.Time
	passed int
	held   int // not passed on
}

// Handle passes on r, or counts it.
func (h *repeats) Handle(ctx context.Context, r slog.Record) error {
	held := r.Level >= slog.LevelInfo && h.seen.holds(h.kindOf(r), r.Time, func(n int) { h.tell(r, n) })
	h.seen.count(r.Level, held)
	if held {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

// tell passes on one record for n records of the kind of r. An error has no other place to
// go to than the log that just failed.
func (h *repeats) tell(r slog.Record, n int) {
	r = r.Clone()
	r.Time = time.Now()
	r.AddAttrs(slog.Int("repeated", n))
	_ = h.Handler.Handle(context.Background(), r)
}

// kindOf returns what records of one kind have in common.
func (h *repeats) kindOf(r slog.Record) string {
	var b strings.Builder
	b.WriteString(r.Level.String() + "\x00" + r.Message + "\x00" + h.prefix)
	r.Attrs(func(a slog.Attr) bool {
		b.WriteString(words(a))
		return true
	})
	return b.String()
}

// words returns an attribute, without its value if that is a number or a time.
func words(a slog.Attr) string {
	switch v := a.Value.Resolve(); v.Kind() {
	case slog.KindString, slog.KindAny, slog.KindGroup, slog.KindBool:
		return a.Key + "=" + v.String() + "\x00"
	}
	return a.Key + "\x00"
}

// holds counts a record and reports whether it is held back. At the end of a window in which
// some were, it calls tell with their number.
func (k *kinds) holds(name string, now time.Time, tell func(n int)) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	x := k.last[name]
	if x == nil || now.Sub(x.began) >= k.window && x.held == 0 {
		if len(k.last) >= repeatKinds {
			maps.DeleteFunc(k.last, func(_ string, x *kind) bool { return now.Sub(x.began) >= k.window && x.held == 0 })
		}
		if len(k.last) >= repeatKinds {
			return false // so many different records are not a repetition
		}
		x = &kind{began: now}
		k.last[name] = x
	}
	if x.passed < repeatBurst {
		x.passed++
		return false
	}
	if x.held++; x.held == 1 {
		time.AfterFunc(k.window-min(max(now.Sub(x.began), 0), k.window), func() {
			k.mu.Lock()
			n := x.held
			x.held = 0
			delete(k.last, name)
			k.mu.Unlock()
			tell(n)
		})
	}
	return true
}

// WithAttrs returns a handler that adds attributes to every record.
func (h *repeats) WithAttrs(attrs []slog.Attr) slog.Handler {
	prefix := h.prefix
	for _, a := range attrs {
		prefix += words(a)
	}
	return &repeats{h.Handler.WithAttrs(attrs), prefix, h.seen}
}

// WithGroup returns a handler that puts further attributes under a name.
func (h *repeats) WithGroup(name string) slog.Handler {
	return &repeats{h.Handler.WithGroup(name), h.prefix + name + ".", h.seen}
}
