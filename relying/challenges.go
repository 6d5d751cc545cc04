// SPDX-License-Identifier: Apache-2.0

package relying

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// Challenges keeps nonces that were given out. Several processes may share one, as a table of a
// database.
type Challenges interface {
	// Put keeps a nonce with the time at which it is given out, until it expires. The error is
	// ErrFull if too many wait. A store that lost what it kept refuses evidence, and accepts none
	// twice.
	Put(ctx context.Context, nonce [NonceSize]byte, given, expires time.Time) error
	// Take removes a nonce, and reports whether it was there and had not expired, and when it was
	// given out. Of several calls for one nonce, at the same time and in several processes, at most
	// one reports true.
	Take(ctx context.Context, nonce [NonceSize]byte, now time.Time) (given time.Time, taken bool, err error)
}

// ErrFull is returned by a store of challenges that can keep no more.
var ErrFull = errors.New("relying: too many challenges wait for evidence")

// times are those of a nonce.
type times struct{ given, expires time.Time }

// MemoryChallenges is Challenges of one process, in memory.
type MemoryChallenges struct {
	most int

	mu    sync.Mutex
	waits map[[NonceSize]byte]times // with mu
	order [][NonceSize]byte         // in which they were given out, used ones included; with mu
}

// NewMemoryChallenges returns MemoryChallenges for up to a number of nonces that wait, of about 250
// bytes each.
func NewMemoryChallenges(most int) *MemoryChallenges {
	return &MemoryChallenges{most: most, waits: make(map[[NonceSize]byte]times)}
}

// Put keeps a nonce. It drops none that may still be used: otherwise a client that asks often could
// take the challenges of others from them.
func (m *MemoryChallenges) Put(_ context.Context, nonce [NonceSize]byte, given, expires time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.order) > 0 {
		t, waits := m.waits[m.order[0]]
		if waits && given.Before(t.expires) {
			break
		}
		delete(m.waits, m.order[0])
		m.order = m.order[1:]
	}
	if len(m.order) >= 2*m.most { // many that were used, after one that was not
		m.order = slices.DeleteFunc(slices.Clone(m.order), func(n [NonceSize]byte) bool { _, waits := m.waits[n]; return !waits })
	}
	if len(m.waits) >= m.most {
		return ErrFull
	}
	m.waits[nonce], m.order = times{given, expires}, append(m.order, nonce)
	return nil
}

// Take removes a nonce.
func (m *MemoryChallenges) Take(_ context.Context, nonce [NonceSize]byte, now time.Time) (time.Time, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t, waits := m.waits[nonce]
	delete(m.waits, nonce)
	return t.given, waits && now.Before(t.expires), nil
}
