// SPDX-License-Identifier: Apache-2.0

// Package tsm is configfs-tsm of Linux in software, for development and tests: entries with
// attributes that behave as drivers/virt/coco/tsm.c of Linux 6.12 has them, in front of the
// software platform. It protects nothing and vouches for nothing.
package tsm

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

// Options say what kind of guest it is.
type Options struct {
	// Firmware makes plain reports.
	Firmware snp.Transport
	// Provider is the content of that attribute; empty is [configfs.ProviderSNP].
	Provider string
	// Floor is the lowest VMPL that the guest may name.
	Floor uint32
	// SVSM makes a report of a service, and its manifest. It is nil if the guest runs at VMPL 0:
	// then the attributes of services do not exist. Errors are those that a reader gets.
	SVSM func(nonce [64]byte, guid string, version uint32) (report, manifest []byte, err error)

	// Before, unless nil, is called before each read and write, without a lock: what it writes
	// to the entry is the work of another program. Its error is returned.
	Before func(e *Entry, write bool, attribute string) error
	// Content, unless nil, replaces what is read.
	Content func(attribute string, b []byte) []byte
}

// Entry is one entry. It is safe for use by many goroutines.
type Entry struct {
	o Options

	mu            sync.Mutex // guards all below
	writes, reads uint64     // generations of what was written, and of the blobs
	in            []byte
	level         uint32
	provider      *string // of the service
	guid          string
	version       uint32
	blobs         map[string][]byte // nil if there are none
	made          int               // reports
}

// New makes an entry.
func New(o Options) *Entry {
	if o.Provider == "" {
		o.Provider = configfs.ProviderSNP
	}
	return &Entry{o: o}
}

// modes are the attributes, with the permissions that the kernel gives them.
var modes = map[string]fs.FileMode{
	configfs.InBlob: 0o200, configfs.OutBlob: 0o400, configfs.AuxBlob: 0o400, configfs.ManifestBlob: 0o400,
	configfs.Provider: 0o444, configfs.Generation: 0o444, configfs.Privlevel: 0o200, configfs.PrivlevelFloor: 0o444,
	configfs.ServiceProvider: 0o200, configfs.ServiceGUID: 0o200, configfs.ServiceVersion: 0o200,
}

// services are the attributes that only a guest above VMPL 0 has.
var services = []string{configfs.ManifestBlob, configfs.ServiceProvider, configfs.ServiceGUID, configfs.ServiceVersion}

// Attributes returns the attributes of the entry with their permissions.
func (e *Entry) Attributes() map[string]fs.FileMode {
	all := maps.Clone(modes)
	if e.o.SVSM == nil {
		for _, name := range services {
			delete(all, name)
		}
	}
	return all
}

// Has follows [configfs.Attributes].
func (e *Entry) Has(name string) (bool, error) {
	_, has := e.Attributes()[name]
	return has, nil
}

// Made returns how many reports were made.
func (e *Entry) Made() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.made
}

// Read follows [configfs.Attributes].
func (e *Entry) Read(name string, most int) ([]byte, error) {
	if has, _ := e.Has(name); !has {
		return nil, fs.ErrNotExist
	}
	if modes[name]&0o400 == 0 {
		return nil, unix.EACCES
	}
	if e.o.Before != nil {
		if err := e.o.Before(e, false, name); err != nil {
			return nil, err
		}
	}
	b, err := e.read(name)
	if err == nil && e.o.Content != nil {
		b = e.o.Content(name, b)
	}
	if err == nil && len(b) > most {
		return nil, configfs.ErrTooLarge
	}
	return b, err
}

func (e *Entry) read(name string) ([]byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch name {
	case configfs.Provider:
		return []byte(e.o.Provider + "\n"), nil
	case configfs.Generation:
		return fmt.Appendf(nil, "%d\n", e.writes), nil
	case configfs.PrivlevelFloor:
		return fmt.Appendf(nil, "%d\n", e.o.Floor), nil
	}
	if len(e.in) == 0 {
		return nil, unix.EINVAL
	}
	if e.blobs == nil || e.reads != e.writes {
		e.blobs = nil
		blobs, err := e.make()
		if err != nil {
			return nil, err
		}
		e.made++
		e.blobs, e.reads = blobs, e.writes
	}
	return slices.Clone(e.blobs[name]), nil
}

// make makes the blobs. The caller has mu.
func (e *Entry) make() (map[string][]byte, error) {
	if len(e.in) != 64 {
		return nil, unix.EINVAL
	}
	if e.provider != nil {
		if *e.provider != configfs.ProviderSVSM || e.o.SVSM == nil {
			return nil, unix.EINVAL
		}
		r, manifest, err := e.o.SVSM([64]byte(e.in), e.guid, e.version)
		return map[string][]byte{configfs.OutBlob: r, configfs.ManifestBlob: manifest}, err
	}
	request := binary.LittleEndian.AppendUint32(slices.Clone(e.in), e.level)
	m := &snp.Message{Command: snp.GetExtendedReport, Request: append(request, make([]byte, 96-len(request))...), Response: make([]byte, 4000), Table: make([]byte, 16<<10)}
	if _, err := e.o.Firmware.Exchange(m); err != nil {
		return nil, err
	}
	if binary.LittleEndian.Uint32(m.Response) != 0 {
		return nil, unix.EIO
	}
	return map[string][]byte{configfs.OutBlob: m.Response[32 : 32+report.ReportSize], configfs.AuxBlob: m.Table[:m.TableSize]}, nil
}

// Write follows [configfs.Attributes].
func (e *Entry) Write(name string, b []byte) error {
	if has, _ := e.Has(name); !has {
		return fs.ErrNotExist
	}
	if modes[name]&0o200 == 0 {
		return unix.EACCES
	}
	if e.o.Before != nil {
		if err := e.o.Before(e, true, name); err != nil {
			return err
		}
	}
	return e.WriteBeside(name, b)
}

// WriteBeside writes an attribute as another program does, without a call of Before.
func (e *Entry) WriteBeside(name string, b []byte) error {
	text := strings.TrimSuffix(string(b), "\n")
	number := func(most uint64) (uint32, error) {
		n, err := strconv.ParseUint(text, 0, 32)
		if err != nil || n > most {
			return 0, unix.EINVAL
		}
		return uint32(n), nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch name {
	case configfs.InBlob:
		if len(b) > 64 { // the buffer that the kernel gives
			return unix.EFBIG
		}
		e.in = slices.Clone(b)
	case configfs.Privlevel:
		n, err := number(3)
		if err != nil || n < e.o.Floor {
			return unix.EINVAL
		}
		e.level = n
	case configfs.ServiceProvider:
		e.provider = &text
	case configfs.ServiceGUID:
		e.guid = text
	case configfs.ServiceVersion:
		n, err := number(1<<32 - 1)
		if err != nil {
			return err
		}
		e.version = n
	}
	e.writes++
	return nil
}
