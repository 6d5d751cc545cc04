// SPDX-License-Identifier: Apache-2.0

package hangfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/sys/unix"
)

// Op is a kind of request (enum fuse_opcode).
type Op uint32

// Kinds of requests.
const (
	Lookup     Op = 1
	Getattr    Op = 3
	Readlink   Op = 5
	Open       Op = 14
	Read       Op = 15
	Statfs     Op = 17
	Flush      Op = 25
	Opendir    Op = 27
	Readdir    Op = 28
	forget     Op = 2
	release    Op = 18
	initialise Op = 26
	releasedir Op = 29
	interrupt  Op = 36
	batch      Op = 42 // of forget
)

// String returns the name of a kind that can hang.
func (o Op) String() string {
	return map[Op]string{
		Lookup: "lookup", Getattr: "getattr", Readlink: "readlink", Open: "open", Read: "read",
		Statfs: "statfs", Flush: "flush", Opendir: "opendir", Readdir: "readdir",
	}[o]
}

// header begins each request (struct fuse_in_header).
type header struct {
	Length        uint32
	Op            Op
	Unique, Node  uint64
	UID, GID, PID uint32
	_             uint32
}

type request struct {
	header
	body []byte
}

// File is the name of a file below the root, Folder that of a folder with a file of that name,
// and Link that of a link to the first file.
const (
	File   = "program"
	Folder = "folder"
	Link   = "link"
)

// content is that of the files.
const content = "#!/bin/true\n"

// A node is a file, by its number.
type node struct {
	mode     uint32
	names    map[string]uint64 // of a folder
	contents string            // of a file, target of a link
}

var nodes = map[uint64]node{
	1: {mode: unix.S_IFDIR | 0o755, names: map[string]uint64{File: 2, Folder: 3, Link: 4}},
	2: {mode: unix.S_IFREG | 0o755, contents: content},
	3: {mode: unix.S_IFDIR | 0o755, names: map[string]uint64{File: 5}},
	4: {mode: unix.S_IFLNK | 0o777, contents: File},
	5: {mode: unix.S_IFREG | 0o755, contents: content},
}

// attributes are those of a node (struct fuse_attr).
type attributes struct {
	Number, Size, Blocks                 uint64
	Accessed, Modified, Changed          uint64
	AccessedNS, ModifiedNS, ChangedNS    uint32
	Mode, Links, UID, GID, Device, Block uint32
	_                                    uint32
}

func attributesOf(number uint64) attributes {
	n := nodes[number]
	return attributes{Number: number, Size: uint64(len(n.contents)), Modified: 1, Changed: 1, Accessed: 1, Mode: n.mode, Links: 1, Block: 4096}
}

// serve reads requests and answers them until the device is closed.
func (f *FS) serve() {
	buffer := make([]byte, 256<<10) // more than max_write and a header
	for {
		n, err := f.dev.Read(buffer)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.EAGAIN) {
			continue // a request that was withdrawn
		}
		var r request
		if err != nil || binary.Read(bytes.NewReader(buffer[:n]), binary.NativeEndian, &r.header) != nil {
			return
		}
		r.body = bytes.Clone(buffer[binary.Size(r.header):n])
		f.mu.Lock()
		silent := f.silent[r.Op]
		if silent {
			f.held = append(f.held, r)
		}
		f.mu.Unlock()
		if !silent {
			f.answer(r)
		}
	}
}

// answer answers one request. An error means that its caller is gone.
func (f *FS) answer(r request) {
	if r.Op == forget || r.Op == batch || r.Op == interrupt {
		return // these have no answer
	}
	body, errno := reply(r)
	var b bytes.Buffer
	// struct fuse_out_header
	for _, x := range []any{uint32(16 + len(body)), -int32(errno), r.Unique} {
		binary.Write(&b, binary.NativeEndian, x)
	}
	b.Write(body)
	_, _ = f.dev.Write(b.Bytes())
}

// reply returns the answer to a request.
func reply(r request) ([]byte, unix.Errno) {
	n, known := nodes[r.Node]
	switch {
	case r.Op == initialise: // struct fuse_init_out: version, then 128 KiB for max_write
		return encode([]uint32{7, 31, 0, 0, 0, 128 << 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0}), 0
	case r.Op == Statfs:
		return make([]byte, 80), 0 // struct fuse_kstatfs
	case !known:
		return nil, unix.ENOENT
	}
	switch r.Op {
	case Lookup: // struct fuse_entry_out: nothing may be remembered
		number := n.names[strings.TrimRight(string(r.body), "\x00")]
		if number == 0 {
			return nil, unix.ENOENT
		}
		return encode([]uint64{number, 0, 0, 0, 0}, attributesOf(number)), 0
	case Getattr: // struct fuse_attr_out
		return encode([]uint64{0, 0}, attributesOf(r.Node)), 0
	case Readlink:
		return []byte(n.contents), 0
	case Open, Opendir: // struct fuse_open_out
		return make([]byte, 16), 0
	case Read, Readdir: // struct fuse_read_in: handle, offset, size
		offset := binary.NativeEndian.Uint64(r.body[8:])
		if r.Op == Readdir {
			return entries(n, offset), 0
		}
		return []byte(n.contents[min(offset, uint64(len(n.contents))):]), 0
	case Flush, release, releasedir:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

// entries lists a folder (struct fuse_dirent), all of it at once.
func entries(n node, offset uint64) (b []byte) {
	if offset > 0 {
		return nil
	}
	for name, number := range n.names {
		kind := nodes[number].mode >> 12
		b = append(b, encode([]uint64{number, 1}, []uint32{uint32(len(name)), kind})...)
		b = append(b, name...)
		b = append(b, make([]byte, -len(name)&7)...)
	}
	return b
}

func encode(parts ...any) []byte {
	var b bytes.Buffer
	for _, x := range parts {
		if err := binary.Write(&b, binary.NativeEndian, x); err != nil {
			panic(err) // a type without a fixed size
		}
	}
	return b.Bytes()
}
