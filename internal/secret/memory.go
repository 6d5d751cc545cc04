// SPDX-License-Identifier: Apache-2.0

package secret

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// memory is one anonymous private mapping. Printing a Secret with reflection shows
// its address at most, never what is there.
type memory struct {
	pages  []byte
	size   int
	locked bool
	freed  atomic.Bool
}

func newMemory(n int) (*memory, error) {
	pages, err := unix.Mmap(-1, 0, max(n, 1), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, err
	}
	m := &memory{pages: pages, size: n}
	// None of the three is vital: a kernel that refuses leaves a secret that works.
	m.locked = unix.Mlock(pages) == nil
	_ = unix.Madvise(pages, unix.MADV_DONTDUMP)
	_ = unix.Madvise(pages, unix.MADV_WIPEONFORK)
	return m, nil
}

func (m *memory) bytes() []byte { return m.pages[:m.size:m.size] }

func (m *memory) free() {
	if m.freed.Swap(true) {
		return
	}
	clear(m.pages)
	_ = unix.Munmap(m.pages) // unlocks too
}
