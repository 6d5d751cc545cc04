// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/evidence"
)

const (
	cacheEntries = 1 << 17         // digests that are kept
	cacheAge     = 2 * time.Second // least age of a file whose digest is kept, from its last change
	maxLayers    = 1024
)

// A Cache keeps digests of files in the layers of images, so that a container of an image that was
// seen before costs no second read. Several goroutines may use it.
type Cache struct {
	mu      sync.Mutex
	digests map[identity]evidence.Digest
}

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{digests: make(map[identity]evidence.Digest)} }

// Layers are the folders that the kernel shows as one file system (overlayfs), with a cache. Nil
// stands for a file system of which no digests are kept.
//
// overlayfs shows inode, times and size of the file beneath, if all layers are on one file system.
// So they name the same file in each container that has the layer. A file of the upper layer, which
// a container wrote, keeps the inode of the one that it replaced. Two containers could each write
// one within a tick of the clock, and the second would pass for the first. So the cache is used
// only for what the upper layer does not have.
type Layers struct {
	cache *Cache
	dev   uint64
	upper *upper
}

// An Opener opens an absolute path for [unix.O_PATH], where the engine mounted.
type Opener func(path string) (*os.File, error)

// OpenLayers opens the layers of an overlay. Options are those of the mount, as
// /proc/PID/mountinfo shows them after the source, and root is the path at which it is mounted. An
// overlay is refused if it has a layer whose files another program serves, as a store of images that
// the host of the machine shares: overlayfs hides of which kind a layer is. If digests of its files
// cannot be kept, OpenLayers returns nil.
func OpenLayers(cache *Cache, options, root string, open Opener) (*Layers, error) {
	return openLayers(cache, options, root, open, func(f *os.File) (string, error) { return remote(int(f.Fd())) })
}

func openLayers(cache *Cache, options, root string, open Opener, remote func(*os.File) (string, error)) (_ *Layers, err error) {
	o := parseStack(options, root)
	if len(o.layers) > maxLayers {
		return nil, fmt.Errorf("%d layers, want at most %d", len(o.layers), maxLayers)
	}
	if o.numbers {
		if err := o.names(root, open, remote); err != nil {
			return nil, err
		}
	}
	l := &Layers{cache: cache}
	var devices []uint64
	defer func() {
		if err != nil {
			l.Close()
		}
	}()
	for _, layer := range o.layers {
		f, err := o.open(layer, open)
		if err != nil {
			return nil, fmt.Errorf("the layer %q: look of which kind its file system is: %w", layer, err)
		}
		dev, top, err := look(f, layer == o.upper, remote)
		if err != nil {
			return nil, fmt.Errorf("the layer %q: %w", layer, err)
		}
		devices = append(devices, dev)
		if top != nil {
			l.Close() // the options name it twice: the last counts
			l.dev, l.upper = dev, top
		}
	}
	if l.upper == nil || !o.plain || len(slices.Compact(devices)) > 1 {
		l.Close()
		return nil, nil
	}
	return l, nil
}

// look checks the folder of a layer, which it closes, and returns its device, and the folder itself
// if it is the upper one.
func look(f *os.File, isUpper bool, remote func(*os.File) (string, error)) (dev uint64, top *upper, err error) {
	defer f.Close()
	name, err := remote(f)
	if err == nil && name != "" {
		err = fmt.Errorf("it is on %s, whose files another program serves: a digest would say nothing about what runs", name)
	}
	if err != nil {
		return 0, nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return 0, nil, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return 0, nil, errors.New("it is not a folder")
	}
	if isUpper {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return 0, nil, fmt.Errorf("keep it open: %w", err)
		}
		top = &upper{fd: fd}
	}
	return uint64(st.Dev), top, nil
}

// Close closes the layers.
func (l *Layers) Close() {
	if l != nil {
		l.upper.close()
	}
}

// snapshot is the folder of a layer in that of its snapshot, in the store of containerd. If the paths of
// all layers do not fit into one mount, containerd names the lower ones from the store: "12/fs".
const snapshot = "fs"

// stack is what the options of a mount of overlayfs say.
type stack struct {
	upper  string   // empty if there is none
	layers []string // all, with the upper one
	bases  []string // folders that a layer may be named from
	plain  bool     // inodes name contents, if all layers are on one file system

	numbers bool // layers are named by the numbers of descriptors
}

func parseStack(options, root string) stack {
	o := stack{plain: true, bases: []string{path.Dir(path.Dir(root))}} // of docker and podman: STORE/ID/merged
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		switch key {
		case "upperdir":
			o.upper = value
			o.layers = append(o.layers, value)
			if path.IsAbs(value) { // of containerd: STORE/ID/fs
				o.bases = append(o.bases, path.Dir(path.Dir(value)))
			}
		case "lowerdir":
			o.layers = append(o.layers, strings.Split(value, ":")...)
		case "lowerdir+":
			o.layers = append(o.layers, value)
		case "datadir+": // the content is in another file than inode and change time are of
			o.layers, o.plain = append(o.layers, value), false
		case "metacopy": // likewise
			o.plain = o.plain && value == "off"
		}
	}
	o.numbers = o.upper == path.Join(path.Dir(root), "diff") && areNumbers(o.layers, o.upper)
	// An engine with many layers names all of them from its store, and the upper one beside root.
	own := o.numbers || o.upper == path.Join(path.Base(path.Dir(root)), "diff")
	snapshots := path.IsAbs(o.upper) && path.Base(o.upper) == snapshot
	for _, layer := range o.layers { // an empty one, of "::", is before layers of data
		named := own || path.IsAbs(layer) || snapshots && filepath.IsLocal(layer) && path.Base(layer) == snapshot
		o.plain = o.plain && layer != "" && named && !strings.Contains(layer, `\`)
	}
	o.layers = slices.DeleteFunc(o.layers, func(layer string) bool { return layer == "" })
	return o
}

// open opens one layer. An engine with many layers names them below the folder of its store.
func (o *stack) open(layer string, open Opener) (f *os.File, err error) {
	if path.IsAbs(layer) {
		return open(layer)
	}
	for _, base := range o.bases {
		if f, err = open(path.Join(base, layer)); err == nil {
			return f, nil
		}
	}
	return nil, err
}

// upper is a folder of the upper layer. Nil stands for one that is not there: everything below it
// is of a lower layer.
type upper struct{ fd int }

// top returns the folder in the upper layer that the root is in.
func (l *Layers) top() *upper {
	if l == nil {
		return nil
	}
	return &upper{fd: l.upper.fd}
}

// broken is a folder of which it is not known what the upper layer has.
const broken = -1

// down returns the folder below u.
func (u *upper) down(name string) *upper {
	if u == nil || u.fd == broken {
		return u
	}
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS}
	fd, err := unix.Openat2(u.fd, name, &how)
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return &upper{fd: broken}
	}
	return &upper{fd: fd}
}

// lacks reports whether the upper layer does not have a name here.
func (u *upper) lacks(name string) bool {
	if u == nil {
		return true
	}
	var st unix.Stat_t
	return u.fd != broken && errors.Is(unix.Fstatat(u.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW), unix.ENOENT)
}

func (u *upper) close() {
	if u != nil && u.fd != broken {
		unix.Close(u.fd)
	}
}

// get returns the digest of a file of a lower layer, if it is known.
func (l *Layers) get(u *upper, name string, id identity) (evidence.Digest, bool) {
	if l == nil || !u.lacks(name) {
		return evidence.Digest{}, false
	}
	id.dev = l.dev
	l.cache.mu.Lock()
	defer l.cache.mu.Unlock()
	d, ok := l.cache.digests[id]
	return d, ok
}

// put keeps the digest of a file of a lower layer, whose reading began at a time. A younger file
// could change again without another change time.
func (l *Layers) put(u *upper, name string, id identity, d evidence.Digest, began time.Time) {
	if l == nil || began.Sub(time.Unix(id.ctime.Unix())) < cacheAge || !u.lacks(name) {
		return
	}
	id.dev = l.dev
	l.cache.mu.Lock()
	defer l.cache.mu.Unlock()
	if len(l.cache.digests) >= cacheEntries {
		clear(l.cache.digests)
	}
	l.cache.digests[id] = d
}
