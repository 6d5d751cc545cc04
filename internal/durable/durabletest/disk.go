// SPDX-License-Identifier: Apache-2.0

package durabletest

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/cvm-agentd/agentd/internal/durable"
	"golang.org/x/sys/unix"
)

// Disk is one directory.
type Disk struct {
	faults *Faults
	mu     sync.Mutex
	names  map[string]*inode // as processes see it
	synced map[string]*inode // as a power cut leaves it
	holder *process
}

type inode struct {
	data   []byte // as processes see it
	synced []byte // as a power cut leaves it
}

// NewDisk is an empty directory whose steps f counts.
func NewDisk(f *Faults) *Disk {
	return &Disk{faults: f, names: map[string]*inode{}, synced: map[string]*inode{}}
}

// Open is the directory for a process.
func (d *Disk) Open() *durable.Dir { return durable.New(&process{d}) }

// Kill ends whichever process has the lock.
func (d *Disk) Kill() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holder = nil
}

// PowerCut takes what was not synced, and ends whichever process has the lock.
func (d *Disk) PowerCut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holder, d.names = nil, maps.Clone(d.synced)
	for _, i := range d.names {
		i.data = bytes.Clone(i.synced)
	}
}

// Clear empties the directory, as a boot does with one in memory.
func (d *Disk) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.holder, d.names, d.synced = nil, map[string]*inode{}, map[string]*inode{}
}

// Get returns the content of a file, nil if it does not exist.
func (d *Disk) Get(name string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i := d.names[name]; i != nil {
		return bytes.Clone(i.data)
	}
	return nil
}

// Set changes the content of a file without a step; nil removes it.
func (d *Disk) Set(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
	if data != nil {
		d.names[name] = &inode{data: bytes.Clone(data), synced: bytes.Clone(data)}
	}
	d.synced = maps.Clone(d.names)
}

// process is the view of one process: the holder of locks.
type process struct{ d *Disk }

func (p *process) step(name string, do func() error) error {
	return p.d.faults.Step(name, func() error {
		p.d.mu.Lock()
		defer p.d.mu.Unlock()
		return do()
	}, nil)
}

func (p *process) Open(name string, flags int, _ uint32) (f durable.File, err error) {
	err = p.step("open "+name, func() error {
		i := p.d.names[name]
		switch {
		case i == nil && flags&unix.O_CREAT == 0:
			return unix.ENOENT
		case i != nil && flags&unix.O_EXCL != 0:
			return unix.EEXIST
		case i == nil:
			i = &inode{}
			p.d.names[name] = i
		}
		if flags&unix.O_TRUNC != 0 {
			i.data = nil
		}
		f = &file{p: p, name: name, i: i}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (p *process) Rename(from, to string) error {
	return p.step("rename "+to, func() error {
		i := p.d.names[from]
		if i == nil {
			return unix.ENOENT
		}
		delete(p.d.names, from)
		p.d.names[to] = i
		return nil
	})
}

func (p *process) Remove(name string) error {
	return p.step("unlink "+name, func() error {
		if p.d.names[name] == nil {
			return unix.ENOENT
		}
		delete(p.d.names, name)
		return nil
	})
}

func (p *process) Names() (names []string, err error) {
	err = p.step("list", func() error {
		names = slices.Collect(maps.Keys(p.d.names))
		return nil
	})
	return names, err
}

func (p *process) Sync() error {
	return p.step("sync directory", func() error {
		p.d.synced = maps.Clone(p.d.names)
		return nil
	})
}

func (p *process) Lock() error {
	return p.step("lock", func() error {
		if p.d.holder != nil && p.d.holder != p {
			return unix.EWOULDBLOCK
		}
		p.d.holder = p
		return nil
	})
}

func (p *process) FileSystem() (kind int64, err error) {
	err = p.step("file system", func() error { kind = unix.TMPFS_MAGIC; return nil })
	return kind, err
}

// Close is not a step: nothing depends on it.
func (p *process) Close() error {
	p.d.mu.Lock()
	defer p.d.mu.Unlock()
	if p.d.holder == p {
		p.d.holder = nil
	}
	return nil
}

type file struct {
	p    *process
	name string
	i    *inode
	off  int
}

func (f *file) Stat() (s durable.Stat, err error) {
	err = f.p.step("stat "+f.name, func() error {
		s = durable.Stat{Mode: unix.S_IFREG | 0o600, UID: uint32(os.Geteuid()), Size: int64(len(f.i.data))}
		return nil
	})
	return s, err
}

func (f *file) Read(b []byte) (n int, err error) {
	err = f.p.step("read "+f.name, func() error {
		n = copy(b, f.i.data[min(f.off, len(f.i.data)):])
		f.off += n
		return nil
	})
	return n, err
}

func (f *file) Write(b []byte) (n int, err error) {
	err = f.p.d.faults.Step("write "+f.name,
		func() error {
			f.append(b)
			n = len(b)
			return nil
		},
		func() { f.append(b[:len(b)/2]) },
	)
	return n, err
}

func (f *file) append(b []byte) {
	f.p.d.mu.Lock()
	defer f.p.d.mu.Unlock()
	f.i.data = append(f.i.data[:len(f.i.data):len(f.i.data)], b...)
}

func (f *file) Truncate(size int64) error {
	return f.p.step("truncate "+f.name, func() error {
		f.i.data = bytes.Clone(f.i.data[:size])
		return nil
	})
}

func (f *file) Sync() error {
	return f.p.step("sync "+f.name, func() error {
		f.i.synced = bytes.Clone(f.i.data)
		return nil
	})
}

func (f *file) Close() error {
	return f.p.step("close "+f.name, func() error { return nil })
}
