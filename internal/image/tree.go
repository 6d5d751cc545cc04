// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/rootfs"
	"github.com/cvm-agentd/agentd/pcr"
)

// Types of st_mode (inode(7)).
const (
	modeLink    = 0o120777 // Linux knows no other mode of a link
	modeFile    = 0o100000
	modeBlock   = 0o060000
	modeChar    = 0o020000
	modeFIFO    = 0o010000
	permissions = 0o7777
)

// Names in a layer that take away what lower layers have (image-spec, layer.md).
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// maxName is the longest name in a folder that Linux knows (NAME_MAX), in bytes.
const maxName = 255

// tree is the file system that layers make, one over the other, as overlayfs shows it: each layer
// is unpacked into a folder of its own.
type tree struct {
	root  node
	layer int // that is applied now, from 1
	made  int // folders on the way to an entry, which no entry is about
}

// node is a name in the tree.
type node struct {
	layer    int              // that brought it; of a folder, the last that named it
	children map[string]*node // of a folder; nil for everything else
	mode     uint32           // with its type, of what is not a folder
	size     uint64
	digest   evidence.Digest
	target   string // of a link
}

func newTree() *tree { return &tree{root: node{children: map[string]*node{}}} }

// split returns the names on the way to an entry. None may lead out of the root.
func split(name string) ([]string, error) {
	if len(name) > evidence.MaxPath {
		return nil, fmt.Errorf("name of %d bytes, want at most %d", len(name), evidence.MaxPath)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			return nil, errors.New(`".." in a name`)
		default:
			if len(part) > maxName {
				return nil, fmt.Errorf("a name of %d bytes in it, want at most %d", len(part), maxName)
			}
			parts = append(parts, part)
		}
	}
	if len(parts) > rootfs.MaxDepth {
		return nil, fmt.Errorf("%d folders deep, want at most %d", len(parts), rootfs.MaxDepth)
	}
	return parts, nil
}

// folder returns the folder that a way leads to, made if it is not there. What a lower layer has in
// its place is hidden by it.
func (t *tree) folder(way []string) (*node, error) {
	at := &t.root
	for i, name := range way {
		next := at.children[name]
		switch {
		case next == nil || next.children == nil && next.layer < t.layer:
			if t.made++; t.made > maxEntries { // an entry makes up to rootfs.MaxDepth
				return nil, fmt.Errorf("more than %d folders without an entry in all layers", maxEntries)
			}
			next = &node{layer: t.layer, children: map[string]*node{}}
			at.children[name] = next
		case next.children == nil:
			return nil, fmt.Errorf("%q is not a folder, by an entry of the same layer", "/"+strings.Join(way[:i+1], "/"))
		}
		at = next
	}
	return at, nil
}

// entry applies one entry of a layer, whose content comes from r.
func (t *tree) entry(h *tar.Header, r io.Reader) error {
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	parts, err := split(h.Name)
	if err != nil {
		return err
	}
	if len(parts) == 0 {
		if h.Typeflag != tar.TypeDir {
			return errors.New("the root is not a folder")
		}
		return nil
	}
	name := parts[len(parts)-1]
	dir, err := t.folder(parts[:len(parts)-1])
	if err != nil {
		return err
	}
	if hidden, ok := strings.CutPrefix(name, whiteout); ok {
		return t.hide(dir, name, hidden)
	}
	if h.Typeflag == tar.TypeDir {
		dir.replace(name).layer = t.layer
		return nil
	}
	n := &node{layer: t.layer}
	if err := n.fill(h, r); err != nil {
		return err
	}
	if h.Typeflag == tar.TypeLink {
		target, err := t.linked(h.Linkname)
		if err != nil {
			return err
		}
		*n = *target
	}
	dir.children[name] = n
	return nil
}

// replace returns the folder of a name, in the place of what is not one.
func (n *node) replace(name string) *node {
	if c := n.children[name]; c != nil && c.children != nil {
		return c
	}
	c := &node{children: map[string]*node{}}
	n.children[name] = c
	return c
}

// fill sets what an entry is that is neither a folder nor a hard link.
func (n *node) fill(h *tar.Header, r io.Reader) error {
	mode := uint32(h.Mode) & permissions
	n.digest = sha256.Sum256(nil)
	switch h.Typeflag {
	case tar.TypeReg, '\x00', tar.TypeGNUSparse:
		sum := sha256.New()
		size, err := io.Copy(sum, r)
		if err != nil {
			return err
		}
		n.mode, n.size, n.digest = modeFile|mode, uint64(size), evidence.Digest(sum.Sum(nil))
	case tar.TypeLink: // its target says what it is
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > evidence.MaxPath {
			return fmt.Errorf("link to %d bytes, want 1 to %d", len(h.Linkname), evidence.MaxPath)
		}
		n.mode, n.size, n.digest, n.target = modeLink, uint64(len(h.Linkname)), sha256.Sum256([]byte(h.Linkname)), h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		if h.Devmajor == 0 && h.Devminor == 0 {
			return errors.New("a device with the number 0:0, which file systems take for a whiteout")
		}
		if h.Devmajor < 0 || h.Devminor < 0 {
			return errors.New("a device with a negative number")
		}
		n.mode = modeChar | mode
		if h.Typeflag == tar.TypeBlock {
			n.mode = modeBlock | mode
		}
		n.digest = rootfs.DeviceDigest(uint64(h.Devmajor), uint64(h.Devminor))
	case tar.TypeFifo:
		n.mode = modeFIFO | mode
	default:
		return fmt.Errorf("an entry of the type %q", h.Typeflag)
	}
	return nil
}

// linked returns what a hard link leads to: an entry of the same layer.
func (t *tree) linked(name string) (*node, error) {
	parts, err := split(name)
	if err != nil {
		return nil, fmt.Errorf("hard link: %w", err)
	}
	at := &t.root
	for _, part := range parts {
		if at = at.children[part]; at == nil { // of what is not a folder, too
			break
		}
	}
	if at == nil || at.children != nil || at.layer != t.layer {
		return nil, fmt.Errorf("hard link to %q, which is not a file of the same layer", name)
	}
	return at, nil
}

// hide takes away what lower layers have under a name, or, for the name of an opaque folder, in the
// folder. What this layer has stays, whatever the order.
func (t *tree) hide(dir *node, name, hidden string) error {
	if name == opaque {
		t.prune(dir)
		return nil
	}
	if hidden == "" || hidden == "." || hidden == ".." || strings.HasPrefix(hidden, whiteout) {
		return errors.New("a whiteout without a name")
	}
	n := dir.children[hidden]
	if n == nil {
		return nil
	}
	if t.prune(n); n.layer < t.layer && len(n.children) == 0 {
		delete(dir.children, hidden)
	}
	return nil
}

// prune takes away everything below n that lower layers brought.
func (t *tree) prune(n *node) {
	for name, c := range n.children {
		if t.prune(c); c.layer < t.layer && len(c.children) == 0 {
			delete(n.children, name)
		}
	}
}

// sum adds everything below n to the digest, in the order of whole paths.
func (n *node) sum(at string, s *rootfs.Sum) error {
	key := func(name string) string {
		if n.children[name].children != nil {
			return name + "/"
		}
		return name
	}
	names := slices.SortedFunc(maps.Keys(n.children), func(a, b string) int { return cmp.Compare(key(a), key(b)) })
	for _, name := range names {
		c, full := n.children[name], at+"/"+name
		var err error
		if c.children != nil {
			err = c.sum(full, s)
		} else {
			err = s.Add(&pcr.ManifestEntry{Path: full, Mode: c.mode, Size: c.size, Digest: c.digest}, c.target)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path.Base(full), err)
		}
	}
	return nil
}
