// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/cvm-agentd/agentd/keys"
)

// Enrolment returns the enrolment of an attestation key as a line of JSON, nil if there is none.
func (s *Store) Enrolment(ctx context.Context, ak keys.Name) (line []byte, err error) {
	err = s.read(ctx, "read an enrolment", func(ctx context.Context, q queries) error {
		err := q.row(ctx, "SELECT line FROM enrolments WHERE ak = $1", []byte(ak)).Scan(&line)
		if absent(err) {
			line = nil
			return nil
		}
		return err
	})
	return line, err
}

// Enrolments returns up to MaxPage enrolments after an attestation key, in the order of these keys. An
// empty state means all of them.
func (s *Store) Enrolments(ctx context.Context, state keys.State, after keys.Name) (all []*keys.Listed, err error) {
	err = s.read(ctx, "read enrolments", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			var line []byte
			if err := rows.Scan(&line); err != nil {
				return err
			}
			l, err := keys.ParseListed(line)
			if err != nil {
				return fault{fmt.Errorf("store: an enrolment: %w", err)}
			}
			all = append(all, l)
			return nil
		}, "SELECT line FROM enrolments WHERE ($1 = '' OR state = $1) AND ak > $2 ORDER BY ak LIMIT $3", string(state), append([]byte{}, after...), MaxPage)
	})
	return all, err
}

// Enrol adds an enrolment that is pending. The error is ErrExists if its attestation key has one.
func (s *Store) Enrol(ctx context.Context, e *keys.Enrolment, by string, now time.Time) error {
	l, err := keys.NewListed(e, "", now)
	if err != nil {
		return err
	}
	return s.change(ctx, "add an enrolment", func(ctx context.Context, tx *transaction) (*Entry, error) {
		line, err := l.Encode()
		if err != nil {
			return nil, fault{err}
		}
		n, err := tx.exec(ctx, "INSERT INTO enrolments (ak, state, line) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", []byte(e.AK), string(l.State), bytes.TrimSpace(line))
		if err == nil && n == 0 {
			err = fault{ErrExists}
		}
		return enrolment(e.AK, "add", by, now), err
	})
}

// Approve has an enrolment count. The error is ErrNone if there is none.
func (s *Store) Approve(ctx context.Context, ak keys.Name, by string, now time.Time) error {
	return s.change(ctx, "approve an enrolment", func(ctx context.Context, tx *transaction) (*Entry, error) {
		var line []byte
		err := tx.row(ctx, "SELECT line FROM enrolments WHERE ak = $1"+tx.d.lock, []byte(ak)).Scan(&line)
		if absent(err) {
			return nil, fault{ErrNone}
		}
		if err != nil {
			return nil, err
		}
		l, err := keys.ParseListed(line)
		if err == nil {
			l, err = keys.NewListed(&l.Enrolment, by, now)
		}
		if err != nil {
			return nil, fault{fmt.Errorf("store: the enrolment of %v: %w", ak, err)}
		}
		if line, err = l.Encode(); err != nil {
			return nil, fault{err}
		}
		_, err = tx.exec(ctx, "UPDATE enrolments SET state = $1, line = $2 WHERE ak = $3", string(l.State), bytes.TrimSpace(line), []byte(ak))
		return enrolment(ak, "approve", by, now), err
	})
}

// Unenrol removes an enrolment. The error is ErrNone if there is none.
func (s *Store) Unenrol(ctx context.Context, ak keys.Name, by string, now time.Time) error {
	return s.change(ctx, "remove an enrolment", func(ctx context.Context, tx *transaction) (*Entry, error) {
		n, err := tx.exec(ctx, "DELETE FROM enrolments WHERE ak = $1", []byte(ak))
		if err == nil && n == 0 {
			err = fault{ErrNone}
		}
		return enrolment(ak, "remove", by, now), err
	})
}

func enrolment(ak keys.Name, action, by string, now time.Time) *Entry {
	return &Entry{Time: now.UTC(), Kind: KindEnrolment, AK: ak, Action: action, By: by}
}
