// SPDX-License-Identifier: Apache-2.0

// Package tsmfs serves the folder /sys/kernel/config/tsm/report with entries of the software
// configfs-tsm, as a file system in user space: for tests on machines whose kernel has no
// SEV-SNP. Root makes and removes entries with mkdir and rmdir, and gives attributes away with
// chown, as in configfs.
package tsmfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"syscall"

	node "github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform/soft/tsm"
)

// most is the largest attribute that is served.
const most = 1 << 20

// Mount serves at the folder path, in the mount namespace of this process, until the returned
// function is called. It takes root. No process that serves may use the file system.
func Mount(path string, o tsm.Options) (end func() error, err error) {
	s, err := node.Mount(path, &reports{o: o}, &node.Options{
		MountOptions: fuse.MountOptions{
			AllowOther: true, FsName: "tsm", Name: "tsmfs", DirectMountStrict: true, Options: []string{"default_permissions"},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("mount configfs-tsm in software: %w", err)
	}
	return func() error {
		err := s.Unmount()
		s.Wait()
		return err
	}, nil
}

// reports is the folder of all entries.
type reports struct {
	node.Inode
	o tsm.Options
}

// owned is what can be given away.
type owned struct {
	mu       sync.Mutex // guards both
	uid, gid uint32
}

func (o *owned) fill(out *fuse.Attr, mode uint32) {
	o.mu.Lock()
	defer o.mu.Unlock()
	out.Mode, out.Uid, out.Gid = mode, o.uid, o.gid
}

func (o *owned) set(in *fuse.SetAttrIn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if uid, ok := in.GetUID(); ok {
		o.uid = uid
	}
	if gid, ok := in.GetGID(); ok {
		o.gid = gid
	}
}

// entry is the folder of one entry.
type entry struct {
	node.Inode
	owned
	of *tsm.Entry
}

// attribute is one attribute of an entry.
type attribute struct {
	node.Inode
	owned
	of   *tsm.Entry
	name string
	mode fs.FileMode
}

// handle is an open attribute. As in configfs, what is written takes effect when it is closed, and
// what is read is made at the first read.
type handle struct {
	of *attribute

	mu      sync.Mutex // guards all below
	written []byte
	read    []byte
	made    bool
}

func (*reports) Getattr(_ context.Context, _ node.FileHandle, out *fuse.AttrOut) syscall.Errno {
	out.Mode = 0o755
	return 0
}

// Mkdir makes an entry with its attributes.
func (r *reports) Mkdir(ctx context.Context, name string, _ uint32, out *fuse.EntryOut) (*node.Inode, syscall.Errno) {
	if r.GetChild(name) != nil {
		return nil, syscall.EEXIST
	}
	e := &entry{of: tsm.New(r.o)}
	i := r.NewInode(ctx, e, node.StableAttr{Mode: syscall.S_IFDIR})
	for name, mode := range e.of.Attributes() {
		a := &attribute{of: e.of, name: name, mode: mode}
		i.AddChild(name, i.NewPersistentInode(ctx, a, node.StableAttr{Mode: syscall.S_IFREG}), false)
	}
	out.Mode = 0o755
	return i, 0
}

// Rmdir removes an entry with its attributes.
func (r *reports) Rmdir(_ context.Context, name string) syscall.Errno {
	c := r.GetChild(name)
	if c == nil {
		return syscall.ENOENT
	}
	c.RmAllChildren()
	return 0
}

// Unlink refuses to remove an attribute.
func (*entry) Unlink(context.Context, string) syscall.Errno { return syscall.EPERM }

// Mkdir refuses to make something in an entry.
func (*entry) Mkdir(context.Context, string, uint32, *fuse.EntryOut) (*node.Inode, syscall.Errno) {
	return nil, syscall.EPERM
}

func (e *entry) Getattr(_ context.Context, _ node.FileHandle, out *fuse.AttrOut) syscall.Errno {
	e.fill(&out.Attr, 0o755)
	return 0
}

func (e *entry) Setattr(_ context.Context, _ node.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	e.set(in)
	e.fill(&out.Attr, 0o755)
	return 0
}

func (a *attribute) Getattr(_ context.Context, _ node.FileHandle, out *fuse.AttrOut) syscall.Errno {
	a.fill(&out.Attr, uint32(a.mode))
	out.Size = 4096
	return 0
}

func (a *attribute) Setattr(_ context.Context, _ node.FileHandle, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	a.set(in)
	a.fill(&out.Attr, uint32(a.mode))
	return 0
}

func (a *attribute) Open(context.Context, uint32) (node.FileHandle, uint32, syscall.Errno) {
	return &handle{of: a}, fuse.FOPEN_DIRECT_IO, 0
}

// Write takes what becomes the value.
func (h *handle) Write(_ context.Context, b []byte, offset int64) (uint32, syscall.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if offset != int64(len(h.written)) || len(h.written)+len(b) > most {
		return 0, syscall.EFBIG
	}
	h.written = append(h.written, b...)
	return uint32(len(b)), 0
}

// Flush makes what was written the value.
func (h *handle) Flush(context.Context) syscall.Errno {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.written == nil {
		return 0
	}
	err := h.of.of.Write(h.of.name, h.written)
	h.written = nil
	return errno(err)
}

// Read returns a part of the value as it was at the first read.
func (h *handle) Read(_ context.Context, dest []byte, offset int64) (fuse.ReadResult, syscall.Errno) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.made {
		b, err := h.of.of.Read(h.of.name, most)
		if err != nil {
			return nil, errno(err)
		}
		h.read, h.made = b, true
	}
	b := h.read[min(int(offset), len(h.read)):]
	return fuse.ReadResultData(b[:min(len(b), len(dest))]), 0
}

// errno returns what the kernel would answer.
func errno(err error) syscall.Errno {
	var e unix.Errno
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e
	case errors.Is(err, fs.ErrNotExist):
		return syscall.ENOENT
	}
	return syscall.EIO
}

var (
	_ node.NodeMkdirer   = (*reports)(nil)
	_ node.NodeRmdirer   = (*reports)(nil)
	_ node.NodeUnlinker  = (*entry)(nil)
	_ node.NodeSetattrer = (*entry)(nil)
	_ node.NodeSetattrer = (*attribute)(nil)
	_ node.FileFlusher   = (*handle)(nil)
	_ node.FileWriter    = (*handle)(nil)
	_ node.FileReader    = (*handle)(nil)
)
