// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
)

// maxHistory is the largest history that is read, in bytes: logs of 2 MiB give less.
const maxHistory = 16 << 20

// Known returns what is known of the log of a machine, nil if nothing is.
func (s *Store) Known(ctx context.Context, ak keys.Name) (*relying.History, error) {
	var h *relying.History
	err := s.read(ctx, "read a known log", func(ctx context.Context, q queries) error {
		var version uint64
		var text []byte
		err := q.row(ctx, "SELECT version, history FROM logs WHERE ak = $1", []byte(ak)).Scan(&version, &text)
		if absent(err) {
			return nil
		}
		if err != nil {
			return err
		}
		h = &relying.History{Version: version}
		if err := strictjson.Decode(text, maxHistory, h); err != nil {
			return fault{fmt.Errorf("store: the known log of %v: %w", ak, err)}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Advance replaces what is known of a log.
func (s *Store) Advance(ctx context.Context, ak keys.Name, known, next *relying.History) error {
	return s.write(ctx, "keep a known log", func(ctx context.Context, tx *transaction) error {
		return s.advance(ctx, tx, ak, known, next)
	})
}

// advance does so in a transaction. Its error is relying.ErrMoved if another one did so meanwhile.
func (s *Store) advance(ctx context.Context, tx *transaction, ak keys.Name, known, next *relying.History) error {
	text, err := strictjson.Encode(next)
	if err != nil {
		return fault{err}
	}
	var n int64
	if known == nil {
		n, err = tx.exec(ctx, "INSERT INTO logs (ak, version, history) SELECT $1, 1, $2 WHERE (SELECT count(*) FROM logs) < $3 ON CONFLICT DO NOTHING", []byte(ak), text, s.limits.Machines)
	} else {
		n, err = tx.exec(ctx, "UPDATE logs SET version = version + 1, history = $1 WHERE ak = $2 AND version = $3", text, []byte(ak), known.Version)
	}
	if err != nil || n == 1 {
		return err
	}
	if known == nil {
		var is int
		if err := tx.row(ctx, "SELECT count(*) FROM logs WHERE ak = $1", []byte(ak)).Scan(&is); err != nil {
			return err
		}
		if is == 0 { // to forget a machine would let its log be turned back
			return fault{errFull}
		}
	}
	return relying.ErrMoved
}

var errFull = errors.New("store: the logs of too many machines are known: raise the limit of machines")
