// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// MaxFile is the largest file that is fetched or read, in bytes.
const MaxFile = snp.MaxRevocationList

// A Store keeps files by name: a folder, memory, or a table of a database. Names have at most 160
// letters, digits, dots and dashes. Many goroutines call it.
//
// An attacker who can write to a store can withhold a file, but not forge one: the verifier checks
// what is read from it. A file that cannot be read makes [Fetcher.For] fail.
type Store interface {
	// Get returns a file and when it was put there. The error of a name that the store does not
	// have is [fs.ErrNotExist].
	Get(ctx context.Context, name string) (content []byte, put time.Time, err error)
	// Put keeps a file whole, or keeps nothing of it. It replaces one of the same name.
	Put(ctx context.Context, name string, content []byte) error
}

// Folder is a Store: a folder of files, whose names say what they contain:
//
//	genoa-vcek-CHIP-TCB.der   certificate of a chip's key, CHIP and TCB in hexadecimal
//	genoa-vcek-chain.pem      intermediate and root
//	genoa-vcek.crl            revocation list, DER
//
// "agentctl collateral fetch" fills such a folder. Several processes may use one.
type Folder string

// OpenFolder returns the folder at a path, which must be there.
func OpenFolder(path string) (Folder, error) {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", path)
	}
	return Folder(path), err
}

// Get reads a file.
func (f Folder) Get(_ context.Context, name string) ([]byte, time.Time, error) {
	path := filepath.Join(string(f), name)
	info, err := os.Stat(path)
	if err != nil {
		return nil, time.Time{}, err
	}
	b, err := durable.ReadFile(path, MaxFile)
	return b, info.ModTime(), err
}

// Put writes a file, and makes the folder if it is missing.
func (f Folder) Put(_ context.Context, name string, content []byte) error {
	if err := os.MkdirAll(string(f), 0o755); err != nil {
		return err
	}
	return durable.WriteReadable(filepath.Join(string(f), name), content)
}

// Memory is a Store in memory. It keeps up to a number of files, and drops the one that was not
// read for longest. A file has about 1,500 bytes, and at most MaxFile.
type Memory struct {
	files int

	mu    sync.Mutex
	known map[string]*remembered // with mu
	reads uint64                 // that were made; with mu
}

type remembered struct {
	content []byte
	put     time.Time
	read    uint64 // which of the reads was the last of this file
}

// NewMemory returns a Memory for up to a number of files, at least 1.
func NewMemory(files int) (*Memory, error) {
	if files < 1 {
		return nil, errors.New("collateral: a store of no files")
	}
	return &Memory{files: files, known: make(map[string]*remembered)}, nil
}

// Get returns a copy of a file.
func (m *Memory) Get(_ context.Context, name string) ([]byte, time.Time, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.known[name]
	if f == nil {
		return nil, time.Time{}, fs.ErrNotExist
	}
	m.reads++
	f.read = m.reads
	return bytes.Clone(f.content), f.put, nil
}

// Put keeps a copy of a file.
func (m *Memory) Put(_ context.Context, name string, content []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	m.known[name] = &remembered{bytes.Clone(content), time.Now(), m.reads}
	for len(m.known) > m.files {
		oldest := name
		for n, f := range m.known {
			if f.read < m.known[oldest].read {
				oldest = n
			}
		}
		delete(m.known, oldest)
	}
	return nil
}
