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
	"cmp"
	"context"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/pcr"
)

// EveryName stands for all names in a directory, see [Reader.Read].
const EveryName = ""

// A Reader reads the files of apps, of several at once, and remembers the digests of files
// that have not changed since.
type Reader struct {
	cache   *cache
	turns   *turn.Queue   // of hashing: as many pieces of files at a time as there are workers
	files   int           // of one app that are open at a time
	longest time.Duration // that a piece keeps its turn: longestTurn, but in tests
	settle  time.Duration // how old the last change of a file has to be, see SettleTime
	buffers sync.Pool     // of *buffer
	touch   func(string)  // called before each call of the file system, by a test; nil otherwise
}

type buffer [readBuffer]byte

// NewReader returns a Reader that hashes that many files at once. Apps take turns, in the
// order of package turn, after each piece of a file: a large file of one app delays another
// app by no more than a piece, and one whose calls are slow by no more than half a second. Work of
// the lowest class, which a change of a file causes, gets half of the workers at most. Settle is
// [SettleTime]; tests that change no file while it is read may pass less.
func NewReader(workers int, settle time.Duration) *Reader {
	return &Reader{
		cache: newCache(), files: workers, longest: longestTurn, settle: settle,
		turns:   turn.New(turn.Options{Capacity: int64(workers), Reserve: int64(workers) / 2}),
		buffers: sync.Pool{New: func() any { return new(buffer) }},
	}
}

// Turn waits for the turn of ctx to hash another piece of a file.
func (r *Reader) Turn(ctx context.Context) (leave func(), err error) { return r.turns.Enter(ctx, 1) }

// Turns returns what the queue of hashing counts.
func (r *Reader) Turns() turn.Stats { return r.turns.Stats() }

// A Look says how to read an app. The zero value hashes everything, and waits for ever.
type Look struct {
	Cached   bool                   // reuse the digest of an unchanged file
	See      func(dir, name string) // called with each name before it is looked up, and with EveryName for a directory that is listed
	Who      func() turn.Who        // whose turn of hashing it is; asked before each piece
	Progress *Progress              // of this reading
	Answer   time.Duration          // given up if a call of the file system has no answer for so long; 0 is never
	Whole    time.Duration          // given up if it is not read within that; 0 is never
}

// A Reading is what was found of an app.
type Reading struct {
	Manifest []pcr.ManifestEntry // ascending by path
	Bytes    uint64              // that the entries stand for
	Trace    *Trace
}

// Read returns the files that d declares. The error is a [*FileError], a [*ChangedError], a
// [*HungError] or that of ctx. Read does not wait for a file system that hangs: it gives up
// when l says so, and returns at once if ctx ends. Goroutines that hang go on until they have
// an answer, which then counts for nothing; l.See is still called by them.
func (r *Reader) Read(ctx context.Context, d *declaration.Declaration, l Look) (Reading, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if l.Progress == nil {
		l.Progress = NewProgress()
	}
	type result struct {
		Reading
		err error
	}
	read := make(chan result, 1)
	go func() {
		trace := newTrace()
		s := scan{reader: r, declaration: d, cache: r.cache, trace: trace, Look: l}
		entries, bytes, err := s.manifest(ctx)
		read <- result{Reading{entries, bytes, trace}, err}
		close(l.Progress.ended)
	}()
	tick := time.NewTicker(cmp.Or(min(l.Answer/8, r.longest), r.longest))
	defer tick.Stop()
	var end <-chan time.Time
	if l.Whole > 0 {
		end = time.After(l.Whole)
	}
	for {
		select {
		case x := <-read:
			return x.Reading, x.err
		case <-ctx.Done():
			l.Progress.giveUp()
			return Reading{}, ctx.Err()
		case <-end:
			l.Progress.giveUp()
			_, _, path := l.Progress.Now()
			return Reading{}, &HungError{Path: path, Within: l.Whole}
		case <-tick.C:
			l.Progress.giveBackLate(r.longest)
			if path, hung := l.Progress.hung(l.Answer); hung && l.Answer > 0 {
				l.Progress.giveUp()
				return Reading{}, &HungError{Path: path}
			}
		}
	}
}

// Event returns the event that records the entries of the app d. It fails with a
// [*FileError] if no record can contain them.
func Event(d *declaration.Declaration, entries []pcr.ManifestEntry) (*pcr.AppEvent, error) {
	e := &pcr.AppEvent{
		App: d.Name, Unit: d.Unit, User: d.User, Dynamic: d.Dynamic, Users: d.Users, Declaration: d.Digest,
		Manifest: entries, Digest: pcr.ManifestDigest(entries),
	}
	if !d.Dynamic {
		e.UID = new(d.UID)
	}
	event := pcr.Event{Type: pcr.EventApp, App: e}
	if _, err := event.Encode(); err != nil {
		return nil, &FileError{Path: d.File, Problem: fmt.Sprintf("manifest of %d files fits no record (%v): declare less, or several apps", len(entries), err)}
	}
	return e, nil
}

// Reference measures the app that a declaration in file describes, in the tree of
// files below root, and returns the event that the agent would record on a machine
// whose files are these. Nothing is recorded, and no agent is needed: a build
// publishes with it what its users' policies list. An empty root is this machine.
//
// The caller must be able to read every file, and the files must have the modes that
// they will have on the machine: those are part of the manifest. Owners are not.
// Declarations may have any owner, and users need not exist here: the event has a uid only if
// the declaration gives a number, or names root.
// Progress shows how far it is.
func Reference(ctx context.Context, file, root string, progress *Progress) (*pcr.AppEvent, error) {
	d, err := declaration.Read(file)
	if err != nil {
		return nil, err
	}
	if d.IsContainer() {
		return nil, fmt.Errorf("%s declares a container, which has no files here: its digests are those of its image", file)
	}
	var tree *tree
	if root != "" {
		if tree, err = openTree(root); err != nil {
			return nil, err
		}
		defer tree.close()
	}
	ctx = turn.With(ctx, turn.Who{Class: turn.Admin}) // all of the workers
	r := NewReader(runtime.NumCPU(), SettleTime)
	s := scan{reader: r, declaration: d, root: tree, Look: Look{Progress: progress}}
	entries, _, err := s.manifest(ctx)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err == nil {
		var e *pcr.AppEvent
		if e, err = Event(d, entries); err == nil {
			if _, err := strconv.ParseUint(d.User, 10, 32); err != nil && d.User != "root" {
				e.UID = nil
			}
			return e, nil
		}
	}
	return nil, fmt.Errorf("measure %s: %w", d.Name, err)
}

// A FileError says which file of an app could not be measured. Its text contains
// nothing that varies between two attempts, since it goes into the log once for
// each distinct text.
type FileError struct {
	Path    string
	Problem string // what was found and what to do
	Err     error  // from the system, or nil
}

func (e *FileError) Error() string {
	if e.Err != nil {
		return fmt.Sprintf("%s %q: %v", e.Problem, e.Path, e.Err)
	}
	return fmt.Sprintf("%q: %s", e.Path, e.Problem)
}

func (e *FileError) Unwrap() error { return e.Err }

// A ChangedError says that a file changed while it was hashed.
type ChangedError struct{ Path string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%q changed while it was hashed: replace files by renaming new ones over them", e.Path)
}

// Limits on what the files of one app may cost.
const (
	MaxFiles    = 20000    // manifest entries of one app, as in pcr.MaxManifest
	MaxFileSize = 4 << 30  // bytes of one file; holes count
	MaxAppSize  = 16 << 30 // bytes of all files of one app; holes count
	MaxDepth    = 64       // directories from a declared one down, itself included

	MaxNames     = 4 * MaxFiles // names seen in the directories of one app, excluded ones too
	maxLinks     = 40           // symbolic links on one path, as in the kernel (path_resolution(7))
	readBuffer   = 128 << 10    // bytes read at a time by each hashing goroutine
	piece        = 16 << 20     // bytes after which another file has its turn
	cacheEntries = 2 * MaxFiles // digests kept, at least; at most twice as many
)

// Times.
const (
	// SettleTime is longer than one tick of the kernel's coarse clock (10 ms at 100 Hz).
	// Two writes within a tick leave the same change time, so that a file read right after
	// the first could be torn without a trace in its times.
	SettleTime = 20 * time.Millisecond

	// coarseSettleTime is SettleTime for times that are kept in seconds, or in two (FAT).
	coarseSettleTime = 2 * time.Second

	// cacheAge is the least age of a file whose digest is cached, from its last change.
	cacheAge = 2 * time.Second
)
