// SPDX-License-Identifier: Apache-2.0

package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
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
	maxLayers    = 512
)

// A Cache keeps digests of files in the layers of images, so that a container of an image that was
// seen before costs no second read. Several goroutines may use it.
type Cache struct {
	mu      sync.Mutex
	digests map[identity]evidence.Digest
}

// NewCache returns an empty cache.
func NewCache() *Cache { return &Cache{digests: make(map[identity]evidence.Digest)} }

// Layers are the folders that the kernel shows as one file system (overlayfs), with a cache.
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

// OpenLayers opens the layers that the options of a mount of overlayfs name, as
// /proc/PID/mountinfo shows them after the source. It fails if no digest may be kept for such a
// mount: the files are then to be read.
func OpenLayers(cache *Cache, options string) (*Layers, error) {
	lower, top, err := parseOverlay(options)
	if err != nil {
		return nil, err
	}
	l := &Layers{cache: cache}
	for i, dir := range append([]string{top}, lower...) {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("open the layer %q: %w", dir, err)
		}
		var st unix.Stat_t
		err = unix.Fstat(fd, &st)
		if i == 0 {
			l.dev, l.upper = uint64(st.Dev), &upper{fd: fd}
		} else {
			unix.Close(fd)
		}
		if err == nil && uint64(st.Dev) != l.dev {
			err = errors.New("it is on another file system than the others, so that inodes do not name files")
		}
		if err != nil {
			l.Close()
			return nil, fmt.Errorf("layer %q: %w", dir, err)
		}
	}
	return l, nil
}

// CheckLayers refuses an overlay with a layer whose files another program serves, as a store of
// images that the host of the machine shares: overlayfs hides of which kind a layer is. Options are
// those of the mount, as /proc/PID/mountinfo shows them after the source, and root is the path at
// which it is mounted. Open opens an absolute path for [unix.O_PATH], where the engine mounted.
func CheckLayers(options, root string, open func(path string) (*os.File, error)) error {
	return checkLayers(options, root, open, func(f *os.File) (string, error) { return remote(int(f.Fd())) })
}

func checkLayers(options, root string, open func(string) (*os.File, error), remote func(*os.File) (string, error)) error {
	bases := []string{path.Dir(path.Dir(root))} // of docker and podman: STORE/ID/merged
	var layers []string
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "upperdir":
			layers = append(layers, value)
			if path.IsAbs(value) { // of containerd: STORE/ID/fs
				bases = append(bases, path.Dir(path.Dir(value)))
			}
		case "lowerdir":
			layers = append(layers, strings.Split(value, ":")...) // "::" is before layers of data
		case "lowerdir+", "datadir+":
			layers = append(layers, value)
		}
	}
	if len(layers) > 2*maxLayers {
		return fmt.Errorf("%d layers, want at most %d", len(layers), 2*maxLayers)
	}
	for _, layer := range layers {
		if layer == "" {
			continue
		}
		if err := checkLayer(layer, bases, open, remote); err != nil {
			return fmt.Errorf("the layer %q: %w", layer, err)
		}
	}
	return nil
}

// checkLayer checks one layer. An engine with many layers names them below the folder of its store.
func checkLayer(layer string, bases []string, open func(string) (*os.File, error), remote func(*os.File) (string, error)) error {
	places := []string{layer}
	if !path.IsAbs(layer) {
		places = nil
		for _, base := range bases {
			places = append(places, path.Join(base, layer))
		}
	}
	var missing error
	for _, at := range places {
		f, err := open(at)
		if err != nil {
			missing = err
			continue
		}
		name, err := remote(f)
		f.Close()
		if err == nil && name != "" {
			err = fmt.Errorf("it is on %s, whose files another program serves: a digest would say nothing about what runs", name)
		}
		return err
	}
	return fmt.Errorf("look of which kind its file system is: %w", missing)
}

// Close closes the layers.
func (l *Layers) Close() {
	if l != nil {
		l.upper.close()
	}
}

// parseOverlay returns the lower layers and the upper one that options name.
func parseOverlay(options string) (lower []string, upper string, err error) {
	for o := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		switch key {
		case "lowerdir":
			lower = append(lower, strings.Split(value, ":")...)
		case "lowerdir+":
			lower = append(lower, value)
		case "upperdir":
			upper = value
		case "metacopy": // the content is in another file than inode and change time are of
			if value != "off" {
				return nil, "", errors.New("the overlay has metacopy, so that inodes do not name contents")
			}
		}
	}
	if len(lower) > maxLayers {
		return nil, "", fmt.Errorf("%d layers, want at most %d", len(lower), maxLayers)
	}
	for _, dir := range append(slices.Clone(lower), upper) {
		if !strings.HasPrefix(dir, "/") || strings.Contains(dir, `\`) {
			return nil, "", fmt.Errorf("the layer %q is not an absolute path without escapes", dir)
		}
	}
	return lower, upper, nil
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
