// SPDX-License-Identifier: Apache-2.0

package manifest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/pcr"
)

// scan is one reading of all files of an app.
type scan struct {
	Look
	reader      *Reader
	open        chan struct{} // one for each file that may be open
	walker      *hand         // of the goroutine that walks through names
	ctx         context.Context
	stop        context.CancelFunc // when the first file failed
	declaration *declaration.Declaration
	root        *tree  // at which absolute paths begin; nil is the machine's own
	cache       *cache // of digests; nil in a tree

	hashing sync.WaitGroup
	names   int              // seen in directories
	files   int              // promised to the manifest
	bytes   uint64           // of these
	systems map[uint64]int64 // by device: kind of file system (statfs(2))
	trace   *Trace           // nil in a tree

	mu      sync.Mutex // guards the two below; the hashing goroutines write them
	entries map[string]pcr.ManifestEntry
	err     error // the first
}

// manifest reads every file and returns the entries ascending by path, and the
// bytes that they stand for.
func (s *scan) manifest(ctx context.Context) ([]pcr.ManifestEntry, uint64, error) {
	s.ctx, s.stop = context.WithCancel(ctx)
	defer s.stop()
	s.open = make(chan struct{}, s.reader.files)
	s.walker = s.Progress.hand()
	defer s.walker.end()
	s.systems = make(map[uint64]int64)
	s.entries = make(map[string]pcr.ManifestEntry)
	if err := s.walk(); err != nil {
		s.fail(err)
	}
	s.walker.idle()
	s.hashing.Wait()
	if s.err != nil {
		return nil, 0, s.err
	}
	if len(s.entries) == 0 {
		return nil, 0, &FileError{Path: s.declaration.Directories[0], Problem: "no files in the declared directories"}
	}
	return slices.SortedFunc(maps.Values(s.entries), func(a, b pcr.ManifestEntry) int { return cmp.Compare(a.Path, b.Path) }), s.bytes, nil
}

func (s *scan) walk() error {
	for _, p := range s.declaration.Files {
		if err := s.declared(p, false); err != nil {
			return err
		}
	}
	for _, p := range s.declaration.Directories {
		if err := s.declared(p, true); err != nil {
			return err
		}
	}
	return nil
}

// at notes that names are looked up and files are opened at p from now on.
func (s *scan) at(p string) { s.touch(s.walker, p) }

// touch notes that h calls the file system for p from now on.
func (s *scan) touch(h *hand, p string) {
	h.at(p)
	if s.reader.touch != nil {
		s.reader.touch(p)
	}
}

// see does what [Look.See] says, which looks up dir too.
func (s *scan) see(dir, name string) {
	s.at(path.Join(dir, name))
	if s.See != nil {
		s.See(dir, name)
	}
}

// fail keeps the first error and ends the hashing of other files.
func (s *scan) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.stop()
	}
}

// declared reads a declared file, or a declared directory.
func (s *scan) declared(p string, directory bool) error {
	s.at(p)
	h, name, err := s.resolve(p)
	if err != nil {
		return err
	}
	defer h.close()
	if !directory {
		return s.file(h, name)
	}
	if h.kind() != unix.S_IFDIR {
		return &FileError{Path: p, Problem: "not a directory: declare it under files"}
	}
	return s.directory(h, name, 1)
}

// resolve finds what a declared path leads to, and the name to record it by: the
// path itself, or, if it is a link, the place that the link leads to. The link is
// then an entry of its own.
func (s *scan) resolve(p string) (*handle, string, error) {
	end := ""
	if s.root == nil {
		// For the watching alone: what is hashed is found below, in one call. What changes where
		// p leads changes one of the names seen: a package manager that renames a file over
		// another, a deployment that turns the link "current", a missing file that appears.
		end, _ = walk(p, s.see, s.passed)
	}
	s.at(p)
	link, err := s.root.find(p, false)
	if err != nil {
		return nil, "", &FileError{Path: p, Problem: "find", Err: err}
	}
	if link.kind() != unix.S_IFLNK {
		s.trace.found(p, end)
		return link, p, s.checkLinks(p, link)
	}
	defer link.close()
	if err := s.link(link, p); err != nil {
		return nil, "", err
	}
	h, err := s.root.find(p, true)
	if err != nil {
		return nil, "", &FileError{Path: p, Problem: "follow link", Err: err}
	}
	if err := s.checkLinks(p, h); err != nil {
		return nil, "", err
	}
	name, err := s.root.path(h)
	if err != nil || !s.root.leads(name, h) || !s.root.leads(p, link) {
		h.close()
		return nil, "", &ChangedError{Path: p}
	}
	s.trace.found(name, end)
	return h, name, nil
}

// passed notes what a declared path leads through.
func (s *scan) passed(at string, h *handle) {
	switch h.kind() {
	case unix.S_IFDIR:
		s.trace.way(at, &h.st)
	case unix.S_IFLNK:
		s.trace.file(at, &h.st)
	default:
		return // at the end: what is hashed is noted, not what was found on the way there
	}
	_, _ = s.system(h, at) // if it cannot be told, the trace says so
}

// checkLinks does what [checkLinks] does on this machine, on which other users make links. It
// closes h if it fails. The links of a tree that is published are published with it.
func (s *scan) checkLinks(p string, h *handle) error {
	if s.root != nil {
		return nil
	}
	name, err := h.path()
	if err == nil {
		err = checkLinks(p, h, name, s.at)
	}
	if err != nil {
		h.close()
	}
	return err
}

// directory reads a directory with everything below it. Nothing below is reached
// through a link, so that no file outside can be slipped in under a name inside.
func (s *scan) directory(h *handle, p string, depth int) error {
	if depth > MaxDepth {
		return &FileError{Path: p, Problem: fmt.Sprintf("directory is nested deeper than %d levels", MaxDepth)}
	}
	if err := s.local(h, p); err != nil {
		return err
	}
	s.see(p, EveryName)
	s.trace.list(p, &h.st)
	d, err := h.open(unix.O_DIRECTORY)
	if err != nil {
		return &FileError{Path: p, Problem: "open directory", Err: err}
	}
	defer d.Close()
	for {
		s.at(p)
		names, err := d.Readdirnames(256)
		for _, name := range names {
			if err := s.child(int(d.Fd()), path.Join(p, name), depth); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return &FileError{Path: p, Problem: "list directory", Err: durable.Cause(err)} // without the name of a descriptor
		}
	}
}

func (s *scan) child(dirfd int, p string, depth int) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	if s.names++; s.names > MaxNames {
		return &FileError{Path: s.declaration.Directories[0], Problem: fmt.Sprintf("more than %d names in the declared directories", MaxNames)}
	}
	if s.declaration.Excludes(p) {
		return nil
	}
	s.at(p)
	h, err := find(dirfd, path.Base(p), false)
	if errors.Is(err, unix.ENOENT) { // removed since it was listed
		return nil
	}
	if err != nil {
		return &FileError{Path: p, Problem: "find", Err: err}
	}
	defer h.close()
	switch h.kind() {
	case unix.S_IFDIR:
		return s.directory(h, p, depth+1)
	case unix.S_IFLNK:
		return s.link(h, p)
	}
	return s.file(h, p)
}

// link records a symbolic link, by the text of its target, as a file by its content.
func (s *scan) link(h *handle, p string) error {
	target, err := h.target()
	if err != nil {
		return &FileError{Path: p, Problem: "read link", Err: err}
	}
	if err := s.promise(p, uint64(len(target))); err != nil {
		return err
	}
	s.Progress.known(uint64(len(target)))
	s.trace.file(p, &h.st)
	return s.add(pcr.ManifestEntry{Path: p, Mode: h.st.Mode, Size: uint64(len(target)), Digest: sha256.Sum256([]byte(target))})
}

// file records a regular file, hashing it in the background unless its digest is known.
func (s *scan) file(h *handle, p string) error {
	switch h.kind() {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		return &FileError{Path: p, Problem: "is a directory: declare it under directories"}
	default:
		return &FileError{Path: p, Problem: "is a " + kindName(h.st.Mode) + ", which has no content to measure: leave it out or exclude it"}
	}
	if h.st.Size > MaxFileSize {
		return &FileError{Path: p, Problem: fmt.Sprintf("file is larger than %d GiB, holes included", MaxFileSize>>30)}
	}
	if err := s.local(h, p); err != nil {
		return err
	}
	id := identify(&h.st)
	if err := s.promise(p, uint64(id.size)); err != nil {
		return err
	}
	s.trace.file(p, &h.st)
	e := pcr.ManifestEntry{Path: p, Mode: id.mode, Size: uint64(id.size)}
	if d, ok := s.cache.get(id); ok && s.Cached {
		e.Digest = d
		s.Progress.known(uint64(id.size))
		return s.add(e)
	}
	s.walker.idle()
	select {
	case s.open <- struct{}{}:
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
	s.at(p)
	f, err := h.open(0)
	if err != nil {
		<-s.open
		return &FileError{Path: p, Problem: "open", Err: err}
	}
	s.hashing.Go(func() {
		w := s.Progress.hand()
		defer func() { s.touch(w, p); f.Close(); w.end(); <-s.open }()
		if err := s.hash(w, f, e, id); err != nil {
			s.fail(err)
		}
	})
	return nil
}

func (s *scan) hash(w *hand, f *os.File, e pcr.ManifestEntry, id identity) error {
	began := time.Now()
	d, err := s.hashFile(w, f, e.Path, id)
	if err != nil {
		return err
	}
	if s.cache != nil {
		s.cache.put(id, d, began)
	}
	e.Digest = d
	return s.add(e)
}

// promise counts an entry before any work is done for it, and checks the limits.
func (s *scan) promise(p string, size uint64) error {
	if err := declaration.CheckText(p, evidence.MaxPath); err != nil {
		return &FileError{Path: strings.ToValidUTF8(p, "?"), Problem: "name cannot be recorded: " + err.Error()}
	}
	if s.files++; s.files > MaxFiles {
		return &FileError{Path: s.declaration.File, Problem: fmt.Sprintf("app of more than %d files: declare less, or several apps", MaxFiles)}
	}
	s.Progress.found(size)
	if s.bytes += size; s.bytes > MaxAppSize {
		return &FileError{Path: s.declaration.File, Problem: fmt.Sprintf("app of more than %d GiB: declare less, or several apps", MaxAppSize>>30)}
	}
	return nil
}

// add puts an entry into the manifest. A path that is reached twice, as a file and
// below a directory, is one entry.
func (s *scan) add(e pcr.ManifestEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, twice := s.entries[e.Path]; twice && other != e {
		return &ChangedError{Path: e.Path}
	}
	s.entries[e.Path] = e
	return nil
}

// local refuses files that another program serves.
func (s *scan) local(h *handle, p string) error {
	kind, err := s.system(h, p)
	if err != nil {
		return &FileError{Path: p, Problem: "ask for the file system of", Err: err}
	}
	if remote := remoteSystems[kind]; remote != "" {
		return &FileError{Path: p, Problem: "is on " + remote + ", whose server can show other bytes to the program that runs the file: copy it to a local disk"}
	}
	return nil
}

// system returns the kind of the file system of h, which was found at p, and notes it. It is 0
// with an error.
func (s *scan) system(h *handle, p string) (kind int64, err error) {
	dev := uint64(h.st.Dev)
	kind, known := s.systems[dev]
	if !known {
		if kind, err = h.system(); err == nil {
			s.systems[dev] = kind
		}
	}
	s.trace.on(p, kind)
	return kind, err
}
