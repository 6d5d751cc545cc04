// SPDX-License-Identifier: Apache-2.0

// Package secret keeps key bytes so that they do not leak by accident.
//
// A [Secret] has no String, no encoding and no ==; whatever verb it is printed with,
// a placeholder comes out. Its bytes live in a memory mapping of their own, outside
// the Go heap: locked against swapping (mlock), left out of core dumps
// (MADV_DONTDUMP), absent from forked children (MADV_WIPEONFORK), and overwritten by
// [Secret.Wipe].
//
// What Go does not allow: key schedules of crypto/aes, states of crypto/hkdf, values
// that are encoded for a socket and stacks that grew pass through the ordinary heap,
// which the garbage collector copies nowhere but also never overwrites. An attacker who
// reads the memory of the process finds such copies. [HideProcess] keeps other processes of
// the same user from doing so, and all of this memory out of core dumps, heap and
// stacks included; root in the guest can read it.
package secret

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// MaxSize is the largest secret in bytes.
const MaxSize = 1 << 20

// Errors of secrets.
var (
	// ErrWiped means that the secret was wiped before.
	ErrWiped = errors.New("secret was wiped")
	// ErrNoEncoding means that a secret was to be encoded.
	ErrNoEncoding = errors.New("a secret has no encoding")
)

// placeholder is what a secret prints as.
const placeholder = "[secret]"

// A Secret is a fixed number of bytes. It is handled by pointer and must not be
// copied. Methods may be called from any goroutine.
type Secret struct {
	_ [0]func() // no ==, which would not compare in constant time

	// mu is held for reading while the bytes are in use, so that they are not unmapped.
	mu  sync.RWMutex
	mem *memory // nil after Wipe
}

// New returns a secret of n zero bytes (0 to MaxSize), to be written by [Secret.Use].
func New(n int) (*Secret, error) {
	if n < 0 || n > MaxSize {
		return nil, fmt.Errorf("secret of %d bytes, at most %d", n, MaxSize)
	}
	m, err := newMemory(n)
	if err != nil {
		return nil, fmt.Errorf("allocate memory for a secret: %w", err)
	}
	s := &Secret{mem: m}
	runtime.AddCleanup(s, (*memory).free, m) // for one that was forgotten
	return s, nil
}

// Take moves b into a secret and overwrites b.
func Take(b []byte) (*Secret, error) {
	defer clear(b)
	s, err := New(len(b))
	if err != nil {
		return nil, err
	}
	copy(s.mem.bytes(), b)
	return s, nil
}

// Random returns a secret of n random bytes.
func Random(n int) (*Secret, error) {
	s, err := New(n)
	if err == nil {
		rand.Read(s.mem.bytes()) // never fails
	}
	return s, err
}

// Use hands the bytes to f. They must not be kept, and f must not wipe the secret.
func (s *Secret) Use(f func(b []byte) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mem == nil {
		return ErrWiped
	}
	return f(s.mem.bytes())
}

// Len returns the size in bytes, 0 after Wipe.
func (s *Secret) Len() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.mem == nil {
		return 0
	}
	return s.mem.size
}

// Clone returns a second secret with the same bytes.
func (s *Secret) Clone() (*Secret, error) {
	var c *Secret
	err := s.Use(func(b []byte) (err error) {
		if c, err = New(len(b)); err == nil {
			copy(c.mem.bytes(), b)
		}
		return err
	})
	return c, err
}

// Equal compares in constant time. A wiped secret equals nothing.
func (s *Secret) Equal(o *Secret) bool {
	if s == o {
		return s.Len() > 0
	}
	// A clone, so that two locks are never held at once.
	c, err := s.Clone()
	if err != nil {
		return false
	}
	defer c.Wipe()
	equal := false
	_ = o.Use(func(b []byte) error {
		equal = subtle.ConstantTimeCompare(c.mem.bytes(), b) == 1
		return nil
	})
	return equal
}

// IsZero reports, in constant time, whether every byte is zero.
func (s *Secret) IsZero() bool {
	var or byte
	_ = s.Use(func(b []byte) error {
		for _, x := range b {
			or |= x
		}
		return nil
	})
	return or == 0
}

// Locked reports whether the bytes cannot be swapped out. They can if the limit
// of locked memory (RLIMIT_MEMLOCK) is too low.
func (s *Secret) Locked() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mem != nil && s.mem.locked
}

// Wipe overwrites the bytes and gives the memory back. It waits for users.
func (s *Secret) Wipe() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mem != nil {
		s.mem.free()
		s.mem = nil
	}
}

// Format prints a placeholder under every verb.
func (s *Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, placeholder) }

// LogValue returns a placeholder.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(placeholder) }

// MarshalText refuses with [ErrNoEncoding].
func (s *Secret) MarshalText() ([]byte, error) { return nil, ErrNoEncoding }

// MarshalJSON refuses with [ErrNoEncoding].
func (s *Secret) MarshalJSON() ([]byte, error) { return nil, ErrNoEncoding }

// MarshalBinary refuses with [ErrNoEncoding]; encoding/gob asks for it.
func (s *Secret) MarshalBinary() ([]byte, error) { return nil, ErrNoEncoding }

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
