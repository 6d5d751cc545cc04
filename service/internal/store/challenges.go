// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"

	"github.com/cvm-agentd/agentd/relying"
)

// Put keeps a nonce until it expires. It drops none that may still be used.
func (s *Store) Put(ctx context.Context, nonce [relying.NonceSize]byte, given, expires time.Time) error {
	if s.waiting.Add(1) > int64(s.limits.Challenges) {
		s.waiting.Add(-1)
		return relying.ErrFull
	}
	return s.one(ctx, "keep a challenge", func(ctx context.Context, q queries) error {
		_, err := q.exec(ctx, "INSERT INTO challenges (nonce, given, expires) VALUES ($1, $2, $3)", nonce[:], micro(given), micro(expires))
		return err
	})
}

// Take removes a nonce. The row is locked by the DELETE, so that of two transactions the second finds
// none. What counts is reported after the commit.
func (s *Store) Take(ctx context.Context, nonce [relying.NonceSize]byte, now time.Time) (given time.Time, taken bool, err error) {
	var g, expires int64
	err = s.one(ctx, "take a challenge", func(ctx context.Context, q queries) error {
		err := q.row(ctx, "DELETE FROM challenges WHERE nonce = $1 RETURNING given, expires", nonce[:]).Scan(&g, &expires)
		if absent(err) {
			g, expires = 0, 0
			return nil
		}
		return err
	})
	if err != nil || expires == 0 {
		return time.Time{}, false, err
	}
	s.waiting.Add(-1)
	return fromMicro(g), now.Before(fromMicro(expires)), nil
}
