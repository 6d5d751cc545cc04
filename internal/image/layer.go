// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/rootfs"
)

// Caps on layers. A small archive can unpack to any size.
const (
	maxUnpacked = rootfs.MaxBytes // bytes of all layers
	maxEntries  = 4 * rootfs.MaxFiles
	maxWindow   = 128 << 20 // bytes that a zstd stream may refer back
)

// budget is what may still be unpacked.
type budget struct {
	ctx     context.Context
	bytes   int64
	entries int
}

// metered hashes and counts what is read through it.
type metered struct {
	r      io.Reader
	sum    hash.Hash
	budget *budget
}

func (m *metered) Read(b []byte) (int, error) {
	if err := m.budget.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(b)
	m.sum.Write(b[:n])
	if m.budget.bytes -= int64(n); m.budget.bytes < 0 {
		return n, fmt.Errorf("it unpacks to more than %d bytes", int64(maxUnpacked))
	}
	return n, err
}

// unpack returns a reader of the archive in a layer, whose first bytes tell how it is compressed.
func unpack(r io.Reader) (io.Reader, func(), error) {
	b := bufio.NewReaderSize(r, 64<<10)
	head, err := b.Peek(4)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return nil, nil, err
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		return z, func() {}, err
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderMaxMemory(maxUnpacked))
		if err != nil {
			return nil, nil, err
		}
		return z, z.Close, nil
	}
	return b, func() {}, nil
}

// apply applies a layer to the tree, and checks that what it unpacks to has the digest.
func (t *tree) apply(r io.Reader, want evidence.Digest, left *budget) error {
	archive, end, err := unpack(r)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	defer end()
	m := &metered{r: archive, sum: sha256.New(), budget: left}
	t.layer++
	a := tar.NewReader(m)
	for {
		h, err := a.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", durable.Cause(err))
		}
		if left.entries--; left.entries < 0 {
			return fmt.Errorf("more than %d entries in all layers", maxEntries)
		}
		if err := t.entry(h, a); err != nil {
			return fmt.Errorf("entry %q: %w", h.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, m); err != nil {
		return fmt.Errorf("read the archive: %w", err)
	}
	if got := evidence.Digest(m.sum.Sum(nil)); got != want {
		return fmt.Errorf("it unpacks to sha256:%s, and the configuration of the image has sha256:%s", got, want)
	}
	return nil
}
