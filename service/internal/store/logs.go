// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
)

// maxHistory is the largest history that is read, in bytes: logs of 2 MiB give less.
const maxHistory = 16 << 20

// knownLog is what the table has of a log; of version 0 it has nothing.
type knownLog struct {
	version uint64
	text    []byte
}

// Known returns what is known of the log of a machine, nil if nothing is.
func (s *Store) Known(ctx context.Context, ak keys.Name) (*relying.History, error) {
	k, err := s.knows.ask(ctx, string(ak))
	if err != nil || k.version == 0 {
		return nil, err
	}
	h := &relying.History{Version: k.version}
	// Here and not where questions gather: a long log takes the time of its own request.
	if err := strictjson.Decode(k.text, maxHistory, h); err != nil {
		return nil, fmt.Errorf("store: the known log of %v: %w", ak, err)
	}
	return h, nil
}

func (s *Store) knownLogs(ctx context.Context, all []string) ([]knownLog, error) {
	var args []any
	for _, ak := range all {
		args = append(args, []byte(ak))
	}
	found := map[string]knownLog{}
	err := s.read(ctx, "read known logs", func(ctx context.Context, q queries) error {
		return q.rows(ctx, func(rows *sql.Rows) error {
			var ak []byte
			var k knownLog
			if err := rows.Scan(&ak, &k.version, &k.text); err != nil {
				return err
			}
			found[string(ak)] = k
			return nil
		}, "SELECT ak, version, history FROM logs WHERE ak IN ("+marks(0, len(all))+")", args...)
	})
	if err != nil {
		return nil, err
	}
	answers := make([]knownLog, len(all))
	for i, ak := range all {
		answers[i] = found[ak]
	}
	return answers, nil
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
