// SPDX-License-Identifier: Apache-2.0

package gate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/internal/gatewire"
)

// How long folders may take to open. The gate answers nothing else meanwhile, so those that do not
// answer share a time.
const (
	openPatience = 2 * time.Second
	openLeast    = 20 * time.Millisecond
)

// place is a folder that is marked.
type place struct {
	path string // as the kernel shows it
	id   fileID
}

// marks are the folders that are marked, by the path in the rules. Only the link uses them.
type marks map[string]place

// guard puts rules into force. It returns what the gate is ready for, and which apps have a folder
// or a name that was not guarded before, though the app was.
func (g *Gate) guard(ctx context.Context, in *gatewire.Rules, before marks, held func(app string) bool) (now marks, ready gatewire.Ready, late map[string]string) {
	now, late = make(marks), make(map[string]string)
	last := g.rules.Load()
	ready.Generation = in.Generation
	next := &rules{folders: make(map[string][]claim), ids: make(map[string]fileID)}
	end := time.Now().Add(openPatience)
	folders := make(map[string]int) // descriptors by path
	defer func() {
		for _, fd := range folders {
			unix.Close(fd)
		}
	}()
	failed := make(map[string]error)
	for _, a := range in.Apps {
		for _, f := range a.Folders {
			if failed[a.App] != nil { // each further one may take as long to open
				break
			}
			p, err := now.add(ctx, f.Path, folders, end)
			if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
				continue // what is not there starts nothing; the agent says when it is
			}
			if err != nil {
				failed[a.App] = fmt.Errorf("folder %s: %w", shown(f.Path), err)
				continue
			}
			c := claim{owner: owner{app: a.App, enforce: a.Enforce}, all: len(f.Names) == 0, names: make(map[string]bool)}
			for _, name := range f.Names {
				c.names[name] = true
			}
			next.folders[p.path], next.ids[p.path] = append(next.folders[p.path], c), p.id
			if old, known := before[f.Path]; held(a.App) && (!known || old.id != p.id || !last.claim(p.path, c)) {
				late[a.App] = fmt.Sprintf("what started in %s before it was guarded is not known", shown(f.Path))
			}
		}
	}
	g.rules.Store(next) // before the first mark: no program of a marked folder counts as without an app
	for path, fd := range folders {
		if err := g.group.Mark(fd); err != nil {
			for _, a := range in.Apps {
				for _, f := range a.Folders {
					if f.Path == path {
						failed[a.App] = fmt.Errorf("mark %s: %w", shown(path), err)
					}
				}
			}
		}
	}
	g.unmark(ctx, before, now, end)
	for _, a := range in.Apps {
		if err := failed[a.App]; err != nil {
			ready.Failed = append(ready.Failed, gatewire.Failed{App: a.App, Reason: err.Error()})
		} else {
			ready.Apps = append(ready.Apps, a.App)
		}
	}
	return now, ready, late
}

// add opens a folder, once.
func (m marks) add(ctx context.Context, path string, folders map[string]int, end time.Time) (place, error) {
	if p, ok := m[path]; ok {
		return p, nil
	}
	if len(folders) >= gatewire.MaxFolders {
		return place{}, fmt.Errorf("more than %d folders", gatewire.MaxFolders)
	}
	fd, id, err := openFolder(ctx, path, end)
	if err != nil {
		return place{}, err
	}
	if starts(id, executor) {
		unix.Close(fd)
		return place{}, fmt.Errorf("systemd starts all units with %s: it would wait for a gate that is stopped, which only systemd ends", executor)
	}
	folders[path] = fd
	m[path] = place{pathOf(fd), id}
	return m[path], nil
}

// executor is what systemd starts each unit with, since version 255. Systemd itself waits while it
// does, and watches over no service meanwhile. Only tests change it.
var executor = "/usr/lib/systemd/systemd-executor"

// starts reports whether a folder is the one that a program is in.
func starts(folder fileID, program string) bool {
	var st unix.Stat_t
	return unix.Stat(program, &st) == nil && unix.Stat(filepath.Dir(program), &st) == nil && folder == (fileID{uint64(st.Dev), st.Ino})
}

// unmark ends the marks of folders that no rule names any more. One that is gone needs no end.
func (g *Gate) unmark(ctx context.Context, before, now marks, end time.Time) {
	ids := make(map[fileID]bool)
	for p := range maps.Values(now) {
		ids[p.id] = true
	}
	for _, p := range before {
		if ids[p.id] {
			continue
		}
		if fd, id, err := openFolder(ctx, p.path, end); err == nil {
			if id == p.id {
				_ = g.group.Unmark(fd)
			}
			unix.Close(fd)
		}
	}
}

// openFolder opens a folder whose file system keeps content here, until the end or a little later.
func openFolder(ctx context.Context, path string, end time.Time) (fd int, id fileID, err error) {
	type result struct {
		fd  int
		id  fileID
		err error
	}
	opened := make(chan result, 1)
	go func() {
		var r result
		defer func() { opened <- r }()
		if r.fd, r.err = unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); r.err != nil {
			return
		}
		var st unix.Stat_t
		if r.err = unix.Fstat(r.fd, &st); r.err == nil {
			r.id, r.err = fileID{uint64(st.Dev), st.Ino}, manifest.CheckLocal(r.fd)
		}
		if r.err != nil {
			unix.Close(r.fd)
		}
	}()
	late := time.NewTimer(max(time.Until(end), openLeast))
	defer late.Stop()
	select {
	case r := <-opened:
		return r.fd, r.id, r.err
	case <-late.C:
		err = errors.New("its file system does not answer")
	case <-ctx.Done():
		err = ctx.Err()
	}
	go func() {
		if r := <-opened; r.err == nil {
			unix.Close(r.fd)
		}
	}()
	return -1, fileID{}, err
}
