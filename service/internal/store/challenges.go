// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/relying"
)

// Put keeps a nonce until it expires. It drops none that may still be used.
func (s *Store) Put(ctx context.Context, n random, given, expires time.Time) error {
	if s.waiting.Add(1) > int64(s.limits.Challenges) {
		s.waiting.Add(-1)
		return relying.ErrFull
	}
	return s.one(ctx, "keep a challenge", func(ctx context.Context, q queries) error {
		_, err := q.exec(ctx, "INSERT INTO challenges (nonce, given, expires) VALUES ($1, $2, $3)", n[:], micro(given), micro(expires))
		return err
	})
}

// random are the bytes of a nonce.
type random = [relying.NonceSize]byte

// taken are the times of a challenge, in microseconds; 0: it was not there.
type taken struct{ given, expires int64 }

// Take removes a nonce. What counts is reported after the commit.
func (s *Store) Take(ctx context.Context, n random, now time.Time) (given time.Time, there bool, err error) {
	t, err := s.takes.ask(ctx, n)
	if err != nil || t.expires == 0 {
		return time.Time{}, false, err
	}
	s.waiting.Add(-1)
	return fromMicro(t.given), now.Before(fromMicro(t.expires)), nil
}

// takeNonces removes nonces. Their rows are locked, in one order so that two workers do not wait for each
// other: of two transactions the second one finds none.
func (s *Store) takeNonces(ctx context.Context, all []random) ([]taken, error) {
	var args []any
	for _, n := range all {
		args = append(args, n[:])
	}
	found := map[random]taken{}
	in := marks(0, len(all))
	if s.dialect.lock != "" {
		in = "SELECT nonce FROM challenges WHERE nonce IN (" + in + ") ORDER BY nonce" + s.dialect.lock
	}
	err := s.one(ctx, "take challenges", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			var n []byte
			var t taken
			if err := rows.Scan(&n, &t.given, &t.expires); err != nil {
				return err
			}
			if len(n) != relying.NonceSize {
				return fault{fmt.Errorf("store: a challenge of %d bytes, want %d", len(n), relying.NonceSize)}
			}
			found[random(n)] = t
			return nil
		}, "DELETE FROM challenges WHERE nonce IN ("+in+") RETURNING nonce, given, expires", args...)
	})
	if err != nil {
		return nil, err
	}
	answers := make([]taken, len(all))
	for i, n := range all {
		answers[i] = found[n]
		delete(found, n) // of two that ask for one, the first gets it
	}
	return answers, nil
}
