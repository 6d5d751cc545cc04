// SPDX-License-Identifier: Apache-2.0

// Package manifest reads the files of an app: it hashes them through open descriptors, so
// that a digest always is that of bytes that were in one file at one time, and lists them
// as the measurement log records them. A file that changes while it is read is an error
// ([ChangedError]), never a digest.
//
// What is not seen: writes through a memory mapping that was made writable before the file
// was hashed.
package manifest

import (
	"context"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/pcr"
)

// EveryName stands for all names in a directory, see [Reader.Read].
const EveryName = ""

// A Reader reads the files of apps, of several at once, and remembers the digests of files
// that have not changed since.
type Reader struct {
	cache  *cache
	slots  chan []byte   // a buffer for each file that is hashed at a time
	settle time.Duration // how old the last change of a file has to be, see SettleTime
}

// NewReader returns a Reader that hashes that many files at once. Settle is [SettleTime],
// but in tests that change no file while it is read.
func NewReader(workers int, settle time.Duration) *Reader {
	r := &Reader{cache: newCache(), slots: make(chan []byte, workers), settle: settle}
	for range workers {
		r.slots <- nil // made when it is first needed
	}
	return r
}

// Read returns the files that d declares, ascending by path, and the bytes that they stand
// for. With cached, the known digest of a file that has not changed serves. See is called
// with each name before that is looked up, and with [EveryName] for a directory that is
// listed. The error is a [*FileError], a [*ChangedError] or that of ctx.
func (r *Reader) Read(ctx context.Context, d *declaration.Declaration, cached bool, see func(dir, name string)) ([]pcr.ManifestEntry, uint64, error) {
	c := r.cache
	if !cached {
		c = nil
	}
	return r.read(ctx, d, nil, c, see)
}

func (r *Reader) read(ctx context.Context, d *declaration.Declaration, root *tree, c *cache, see func(dir, name string)) ([]pcr.ManifestEntry, uint64, error) {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	s := scan{ctx: inner, stop: stop, declaration: d, root: root, cache: c, slots: r.slots, settle: r.settle, see: see}
	return s.manifest()
}

// Event returns the event that records the entries of the app d. It fails with a
// [*FileError] if no record can contain them.
func Event(d *declaration.Declaration, entries []pcr.ManifestEntry) (*pcr.AppEvent, error) {
	e := &pcr.AppEvent{
		App: d.Name, Unit: d.Unit, User: d.User, Declaration: d.Digest,
		Manifest: entries, Digest: pcr.ManifestDigest(entries),
	}
	event := pcr.Event{Type: pcr.EventApp, App: e}
	if _, err := event.Encode(); err != nil {
		return nil, &FileError{Path: d.File, Problem: fmt.Sprintf("manifest of %d files fits no record (%v): declare less, or several apps", len(entries), err)}
	}
	return e, nil
}
