// SPDX-License-Identifier: Apache-2.0

// Package rootfs measures the root file system of a container: it hashes every file below an open
// directory, and gives the one digest that docs/measurements.md specifies for the event
// "container". An image alone gives the same digest: package image computes it.
//
// What is below the directory may be chosen by an attacker, who cannot write to it while it is
// read: nothing of the container runs. So names are any bytes, no link is followed, nothing but
// regular files is opened, no mount is crossed, and there are caps on all that costs.
package rootfs

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/apps/manifest"
	"github.com/cvm-agentd/agentd/pcr"
)

// Caps on a root file system.
const (
	MaxFiles    = pcr.MaxRootFiles
	MaxBytes    = 64 << 30 // bytes of all files; holes count
	MaxDepth    = 128      // folders below each other
	maxNames    = 4 * MaxFiles
	maxNameSize = 64 << 20         // bytes of all names: those of a folder are kept while it is measured
	maxTarget   = evidence.MaxPath // bytes of the target of a link
	piece       = 4 << 20          // bytes after which another has its turn
	readBuffer  = 128 << 10
	settleTime  = 20 * time.Millisecond // longer than a tick of the kernel's clock: a change after that shows
	linkMode    = unix.S_IFLNK | 0o777
	modeAndType = unix.S_IFMT | 0o7777
)

// Options say how to measure.
type Options struct {
	// Mounted reports whether something is mounted on a path of the container, exactly there. Nil
	// means that nothing is.
	Mounted func(path string) bool
	// Layers know digests of files that were read before; nil if all are to be read.
	Layers *Layers
	// Turn waits until another piece of a file may be hashed. It may be nil.
	Turn func(context.Context) (leave func(), err error)
	// Counts are added to. It may be nil.
	Counts *Counts
}

// Counts are bytes of regular files that were measured.
type Counts struct {
	Read atomic.Uint64 // and hashed
	Kept atomic.Uint64 // whose digest was known from before
}

// Measure returns digest, files and bytes of the root file system below an open directory. A file
// or folder that changes meanwhile is an error. The error says which file it is about.
func Measure(ctx context.Context, root *os.File, o Options) (pcr.ContainerRoot, error) {
	if o.Mounted == nil {
		o.Mounted = func(string) bool { return false }
	}
	if o.Counts == nil {
		o.Counts = new(Counts)
	}
	w := &walk{ctx: ctx, options: o, sum: NewSum(o.Mounted), buffer: make([]byte, readBuffer)}
	if err := local(int(root.Fd())); err != nil {
		return pcr.ContainerRoot{}, err
	}
	if err := w.folder(int(root.Fd()), ".", "", o.Layers.top(), 1); err != nil {
		return pcr.ContainerRoot{}, err
	}
	return w.sum.Root(), nil
}

// walk is one reading of a root file system.
type walk struct {
	ctx     context.Context
	options Options
	sum     *Sum
	names   int
	size    int // bytes of the names
	buffer  []byte
}

// listed is a name in a folder. No more is kept of it: there may be many.
type listed struct {
	name   string
	folder bool
}

// child is a name in a folder that is being measured.
type child struct {
	name string
	st   unix.Stat_t
}

// folder measures a folder that was found as name below at. Its path is without a slash at the
// end. Upper is the same folder in the upper layer.
func (w *walk) folder(at int, name, path string, upper *upper, depth int) error {
	if depth > MaxDepth {
		return fmt.Errorf("%q is %d folders deep, want at most %d", path, depth, MaxDepth)
	}
	fd, err := open(at, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return fmt.Errorf("open the folder %q: %w", shown(path), err)
	}
	dir := os.NewFile(uintptr(fd), "")
	defer dir.Close()
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return fmt.Errorf("stat %q: %w", shown(path), err)
	}
	children, err := w.children(dir, path)
	if err != nil {
		return err
	}
	for _, x := range children {
		c, full := &child{name: x.name}, path+"/"+x.name
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if err := c.look(fd); err != nil {
			return fmt.Errorf("stat %q: %w", full, err)
		}
		if c.folder() != x.folder {
			return &ChangedError{Path: full}
		}
		if !x.folder {
			err = w.file(fd, c, full, upper)
		} else if !w.hidden(full) {
			below := upper.down(c.name)
			err = w.folder(fd, c.name, full, below, depth+1)
			below.close()
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Fstat(fd, &after); err != nil || identityOf(&before) != identityOf(&after) {
		return &ChangedError{Path: shown(path)}
	}
	return nil
}

// local refuses file systems whose files another program serves: it can answer each reader with
// other bytes.
func local(fd int) error {
	name, err := remote(fd)
	if err != nil {
		return fmt.Errorf("find the file system: %w", err)
	}
	if name != "" {
		return fmt.Errorf("the root file system is %s, whose files another program serves: a digest would say nothing about what runs", name)
	}
	return nil
}

// remote returns the name of the file system if another program serves its files.
func remote(fd int) (string, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return "", err
	}
	return manifest.Remote(int64(uint32(st.Type))), nil
}

// hidden reports whether nothing of a folder counts: everything in it is under a mount, and would
// not count without one.
func (w *walk) hidden(path string) bool { return isEngineFolder(path) && w.options.Mounted(path) }

func shown(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// look finds out what is below a folder under the name of c.
func (c *child) look(at int) error {
	return unix.Fstatat(at, c.name, &c.st, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT)
}

func (c *child) folder() bool { return c.st.Mode&unix.S_IFMT == unix.S_IFDIR }

// compare orders names by the paths below them: a folder comes at the place of its name with a
// slash, which every path below it has.
func (x listed) compare(y listed) int {
	n := min(len(x.name), len(y.name))
	if order := strings.Compare(x.name[:n], y.name[:n]); order != 0 {
		return order
	}
	return strings.Compare(x.after(n), y.after(n))
}

// after returns the name without its first n bytes, with the slash of a folder.
func (x listed) after(n int) string {
	if x.folder {
		return x.name[n:] + "/"
	}
	return x.name[n:]
}

// children returns the names in a folder in the order of the paths below it.
func (w *walk) children(dir *os.File, path string) ([]listed, error) {
	var all []listed
	for {
		names, err := dir.Readdirnames(512)
		for _, name := range names {
			if w.names++; w.names > maxNames {
				return nil, fmt.Errorf("%q: more than %d names", shown(path), maxNames)
			}
			if w.size += len(name); w.size > maxNameSize {
				return nil, fmt.Errorf("%q: more than %d bytes in all names", shown(path), maxNameSize)
			}
			c := child{name: name}
			if err := c.look(int(dir.Fd())); err != nil {
				return nil, fmt.Errorf("stat %q: %w", path+"/"+name, err)
			}
			all = append(all, listed{name, c.folder()})
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list %q: %w", shown(path), cause(err))
		}
	}
	slices.SortFunc(all, listed.compare)
	return all, nil
}

// file measures what is not a folder.
func (w *walk) file(at int, c *child, path string, upper *upper) error {
	e := pcr.ManifestEntry{Path: path, Mode: c.st.Mode & modeAndType}
	switch c.st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		if c.st.Size == 0 && w.sum.LeavesOut(&e, "") {
			return nil
		}
		return w.regular(at, c, &e, upper)
	case unix.S_IFLNK:
		target, err := readlink(at, c.name)
		if err != nil {
			return fmt.Errorf("read the link %q: %w", path, err)
		}
		e.Mode, e.Size, e.Digest = linkMode, uint64(len(target)), sha256.Sum256([]byte(target))
		return w.sum.Add(&e, target)
	case unix.S_IFBLK, unix.S_IFCHR:
		e.Digest = DeviceDigest(uint64(unix.Major(uint64(c.st.Rdev))), uint64(unix.Minor(uint64(c.st.Rdev))))
	default:
		e.Digest = sha256.Sum256(nil)
	}
	return w.sum.Add(&e, "")
}

// DeviceDigest returns the digest that a device has in the manifest: of its numbers.
func DeviceDigest(major, minor uint64) evidence.Digest {
	return sha256.Sum256([]byte(strconv.FormatUint(major, 10) + ":" + strconv.FormatUint(minor, 10)))
}

// open opens a name below a folder: on the same file system, and not by a link.
func open(at int, name string, flags uint64) (int, error) {
	how := unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	}
	for {
		fd, err := unix.Openat2(at, name, &how)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EXDEV):
			return -1, errors.New("something is mounted there, so that the files of the image cannot be seen")
		}
		return fd, err
	}
}

func readlink(at int, name string) (string, error) {
	b := make([]byte, maxTarget+1)
	n, err := unix.Readlinkat(at, name, b)
	if err != nil {
		return "", err
	}
	if n > maxTarget {
		return "", unix.ENAMETOOLONG
	}
	return string(b[:n]), nil
}

// cause returns an error without the name of a descriptor.
func cause(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}

// A ChangedError says that a file or folder changed while it was read.
type ChangedError struct{ Path string }

func (e *ChangedError) Error() string {
	return fmt.Sprintf("%q changed while it was read: nothing may write to the root file system of a container that is about to run", e.Path)
}
