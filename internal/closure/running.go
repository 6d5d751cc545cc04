// SPDX-License-Identifier: Apache-2.0

package closure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/declaration"
	"github.com/cvm-agentd/agentd/internal/caller"
	"github.com/cvm-agentd/agentd/internal/durable"
)

// A Live is what the processes of a running unit have mapped and opened.
type Live struct {
	Processes int
	Code      []string // files mapped with execute permission, and programs
	Opened    []string // other files that are open or mapped, for reading
	Written   []string // files that are open for writing
	Notes     []string // in words: what no declaration covers
}

// A watcher reads /proc.
type watcher struct {
	proc string // "/proc"
	own  string // the mount namespace of this process
	code map[string]bool
	read map[string]bool
	out  map[string]bool
	live *Live
	most int // processes of the machine, and files of one kind, that are looked at
}

// Look returns what the processes of a unit have mapped and opened now. Those of all instances
// belong to a template. What a process loads later, or has closed, does not show.
func Look(ctx context.Context, unit string) (*Live, error) {
	return look(ctx, "/proc", func(u string) bool { return evidence.InUnit(unit, u) || u == unit })
}

func look(ctx context.Context, proc string, ours func(unit string) bool) (*Live, error) {
	w := &watcher{proc: proc, code: map[string]bool{}, read: map[string]bool{}, out: map[string]bool{}, live: &Live{}, most: maxTable}
	w.own, _ = os.Readlink(path.Join(proc, "self/ns/mnt"))
	pids, err := w.processes(ctx, ours)
	if err != nil {
		return nil, err
	}
	w.live.Processes = len(pids)
	if len(pids) > maxProcesses {
		w.note("the unit has %d processes, of which %d were looked at", len(pids), maxProcesses)
		pids = pids[:maxProcesses]
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		w.process(pid)
	}
	for p := range w.code {
		delete(w.read, p)
	}
	w.live.Code, w.live.Opened, w.live.Written = slices.Sorted(maps.Keys(w.code)), slices.Sorted(maps.Keys(w.read)), slices.Sorted(maps.Keys(w.out))
	return w.live, nil
}

func (w *watcher) note(format string, args ...any) { say(&w.live.Notes, fmt.Sprintf(format, args...)) }

// processes returns the processes whose cgroup is one of the unit, and says which children of these
// are in others.
func (w *watcher) processes(ctx context.Context, ours func(string) bool) ([]int, error) {
	d, err := os.Open(w.proc)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(w.most + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(names) > w.most {
		w.note("%s has more than %d names, so not all processes of the machine were looked at", w.proc, w.most)
		names = names[:w.most]
	}
	var pids []int
	parents, units := map[int]int{}, map[int]string{}
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil || pid <= 0 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if units[pid] = w.unit(pid); ours(units[pid]) {
			pids = append(pids, pid)
		}
		parents[pid] = w.parent(pid)
	}
	slices.Sort(pids)
	for _, pid := range slices.Sorted(maps.Keys(parents)) {
		if _, of := slices.BinarySearch(pids, parents[pid]); of && !ours(units[pid]) {
			w.note("process %d is a child of process %d of the unit, but runs outside the unit, and is not the application", pid, parents[pid])
		}
	}
	return pids, nil
}

// unit returns the unit of a process; "" if it has none.
func (w *watcher) unit(pid int) string {
	b, err := durable.ReadFile(w.file(pid, "cgroup"), caller.MaxCgroup)
	if err != nil {
		return ""
	}
	for _, h := range []caller.Hierarchy{caller.Unified, caller.Legacy} {
		if p, err := h.Path(b); err == nil {
			if unit, err := caller.UnitOf(p); err == nil {
				return unit
			}
		}
	}
	return ""
}

func (w *watcher) parent(pid int) int {
	b, err := durable.ReadFile(w.file(pid, "stat"), 4096)
	if err != nil {
		return 0
	}
	rest := string(b[strings.LastIndexByte(string(b), ')')+1:]) // a name can have any bytes
	if fields := strings.Fields(rest); len(fields) > 1 {
		n, _ := strconv.Atoi(fields[1])
		return n
	}
	return 0
}

func (w *watcher) file(pid int, name string) string {
	return path.Join(w.proc, strconv.Itoa(pid), name)
}

// process looks at one process. One that ends meanwhile is passed over.
func (w *watcher) process(pid int) {
	exe, err := os.Readlink(w.file(pid, "exe"))
	if errors.Is(err, fs.ErrPermission) {
		w.note("process %d may not be looked at: run the command as root", pid)
		return
	}
	if err != nil {
		return // it has ended, or is one of the kernel
	}
	w.mapped(pid, exe, true)
	if root, err := os.Readlink(w.file(pid, "root")); err == nil && root != "/" {
		w.note("process %d has another root directory (%s), so its paths lead to other files than the agent's", pid, root)
	}
	if ns, err := os.Readlink(w.file(pid, "ns/mnt")); err == nil && w.own != "" && ns != w.own {
		w.note("processes of the unit have mounts of their own (as with PrivateTmp=): a path can lead them to another file than the agent")
	}
	w.maps(pid)
	w.descriptors(pid)
}

// maps reads /proc/PID/maps (proc_pid_maps(5)).
func (w *watcher) maps(pid int) {
	f, err := os.Open(w.file(pid, "maps"))
	if err != nil {
		w.unread(pid, "mappings", err)
		return
	}
	defer f.Close()
	limited := &io.LimitedReader{R: f, N: maxMaps + 1}
	in := bufio.NewScanner(limited)
	in.Buffer(nil, 64<<10)
	for in.Scan() {
		m, ok := mapping(in.Text())
		if !ok {
			continue
		}
		switch {
		case m.path == "" || strings.HasPrefix(m.path, "[anon") || m.path == "[heap]" || strings.HasPrefix(m.path, "[stack"):
			if m.code {
				w.note(madeCode, pid)
			}
		case m.path[0] == '/':
			w.mapped(pid, m.path, m.code)
		}
	}
	if limited.N <= 0 {
		w.note("process %d has more than %d MiB of mappings, and not all were looked at", pid, maxMaps>>20)
	}
	w.unread(pid, "mappings", in.Err())
}

// unread says that not all of a process could be looked at. One that ends meanwhile is passed over.
func (w *watcher) unread(pid int, what string, err error) {
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
		w.note("not all %s of process %d could be read: %v", what, pid, durable.Cause(err))
	}
}

// madeCode says that a process has code that no file contains.
const madeCode = "process %d has executable memory that is not of a file (as compilers at run time make)"

// A mapped is a line of /proc/PID/maps.
type mapped struct {
	code bool
	path string
}

// mapping reads a line: addresses, permissions, offset, device, inode, and the rest is the path, in
// which the kernel escapes line breaks.
func mapping(line string) (m mapped, ok bool) {
	rest := line
	var fields [5]string
	for i := range fields {
		fields[i], rest, _ = strings.Cut(strings.TrimLeft(rest, " "), " ")
	}
	if len(fields[1]) != 4 || fields[4] == "" {
		return m, false
	}
	return mapped{code: fields[1][2] == 'x', path: strings.ReplaceAll(strings.TrimLeft(rest, " "), `\012`, "\n")}, true
}

// mapped notes a mapped file, or the program of a process.
func (w *watcher) mapped(pid int, file string, code bool) {
	name, gone := strings.CutSuffix(file, " (deleted)")
	switch {
	case strings.HasPrefix(name, "/memfd:"):
		if code {
			w.note("process %d runs code in memory that no file has (%s)", pid, caller.Printable(name))
		}
	case gone && (strings.HasPrefix(name, "/SYSV") || name == "/dev/zero"):
		if code {
			w.note(madeCode, pid)
		}
	case strings.HasPrefix(name, "/dev/"):
	case gone && code:
		w.note("process %d runs %s as it was before it was replaced or removed: restart the unit", pid, caller.Printable(name))
	case gone:
	case code:
		w.add(w.code, file)
	default:
		w.add(w.read, file)
	}
}

func (w *watcher) add(to map[string]bool, file string) {
	if len(to) < w.most || to[file] {
		to[file] = true
		return
	}
	w.note("the unit has more than %d files mapped or open: the others were not compared", w.most)
}

// descriptors looks at the open files of a process.
func (w *watcher) descriptors(pid int) {
	d, err := os.Open(w.file(pid, "fd"))
	if err != nil {
		w.unread(pid, "open files", err)
		return
	}
	defer d.Close()
	names, err := d.Readdirnames(maxOpen + 1)
	if !errors.Is(err, io.EOF) {
		w.unread(pid, "open files", err)
	}
	if len(names) > maxOpen {
		w.note("process %d has more than %d open files, of which not all were looked at", pid, maxOpen)
	}
	for _, n := range names {
		at, err := os.Readlink(w.file(pid, "fd/"+n))
		if err != nil || !path.IsAbs(at) || strings.HasPrefix(at, "/dev/") || strings.HasPrefix(at, "/proc/") || strings.HasPrefix(at, "/memfd:") || strings.HasSuffix(at, " (deleted)") {
			continue
		}
		info, err := os.Stat(w.file(pid, "fd/"+n))
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if w.writes(pid, n) {
			w.add(w.out, at)
		} else {
			w.add(w.read, at)
		}
	}
}

// writes reports whether a descriptor is open for writing.
func (w *watcher) writes(pid int, n string) bool {
	b, err := durable.ReadFile(w.file(pid, "fdinfo/"+n), 64<<10)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "flags:"); ok {
			flags, err := strconv.ParseUint(strings.TrimSpace(value), 8, 64)
			return err == nil && flags&unix.O_ACCMODE != unix.O_RDONLY
		}
	}
	return false
}

// A Covering says which files a declaration covers.
type Covering interface{ covers(real string) bool }

// Declared returns what a declaration of this machine covers.
func Declared(d *declaration.Declaration) Covering {
	t := &tree{links: map[string]string{}}
	c := &declared{excludes: d.Excludes}
	for _, f := range d.Files {
		if at, err := t.find(f); err == nil {
			c.Files = append(c.Files, File{Path: f, real: at.real})
		}
	}
	for _, f := range d.Directories {
		if at, err := t.find(f); err == nil {
			c.Directories = append(c.Directories, Folder{Path: f, real: at.real})
		}
	}
	return c
}

type declared struct {
	Proposal
	excludes func(string) bool
}

func (d *declared) covers(real string) bool {
	if slices.ContainsFunc(d.Files, func(f File) bool { return f.real == real }) {
		return true
	}
	for _, dir := range d.Directories {
		if !below(real, dir.real) {
			continue
		}
		for p := dir.Path + strings.TrimPrefix(real, dir.real); ; p = path.Dir(p) {
			if p == dir.Path {
				return true
			}
			if d.excludes(p) {
				break
			}
		}
	}
	return false
}

// Compare says in words what the processes have mapped and opened that is not covered.
func (l *Live) Compare(by Covering) []string {
	if l.Processes == 0 {
		return []string{"the unit does not run, so nothing was compared"}
	}
	out := slices.Clone(l.Notes)
	for _, kind := range []struct {
		list []string
		says string
	}{
		{l.Code, "code that the running unit has mapped"},
		{l.Opened, "files that the running unit reads"},
		{l.Written, "files that the running unit writes, which are data or logs"},
	} {
		var left []string
		for _, f := range kind.list {
			if !by.covers(f) {
				left = append(left, caller.Printable(f))
			}
		}
		if len(left) > 0 {
			out = append(out, kind.says+": "+some(left, maxOthers))
		}
	}
	return out
}

// Running adds the code that the processes have mapped and that only root can change, and says what
// else they use that is not covered. The error is that of ctx.
func (p *Proposal) Running(ctx context.Context, l *Live) error {
	t := &tree{links: map[string]string{}, given: ctx.Err}
	c := &collector{tree: t, ctx: ctx, out: p, files: map[string]bool{}, folders: map[string]bool{}}
	for _, f := range l.Code {
		if at, err := c.find(f); err == nil && !p.covers(f) && at.real == f && c.writers(f) == "" && len(c.files) < maxLinked {
			c.file(f, groupRunning, "the running unit has mapped it")
		}
	}
	for _, words := range l.Compare(p) {
		c.uncovered("%s", words)
	}
	c.measure()
	return c.ctx.Err()
}
