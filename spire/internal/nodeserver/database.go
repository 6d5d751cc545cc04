// SPDX-License-Identifier: Apache-2.0

package nodeserver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
)

// database is a state that several servers share: one table of PostgreSQL, with a row for each attestation
// key. Each step is one statement, so that two servers that attest the same machine do not both go on.
type database struct {
	of   string // the configuration
	pool *pgxpool.Pool
}

const (
	table = `CREATE TABLE agentd_spire_machines (
		ak bytea PRIMARY KEY,
		version bigint NOT NULL,   -- how often history was replaced; 0 if there is none
		history bytea,             -- relying.History
		disputed timestamptz       -- since when it is known that two machines use the key
	)`
	// tableLock is held while the table is made, so that of two servers only one makes it.
	tableLock = 0x6167656e74645350

	connections = 8
	answerTime  = 10 * time.Second // for one statement, with the wait for a connection
)

// databaseConfig reads a connection string of PostgreSQL. Its error does not repeat a password.
func databaseConfig(text string) (*pgxpool.Config, error) {
	c, err := pgxpool.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("configuration: database: %w", err)
	}
	c.MaxConns = connections
	c.ConnConfig.ConnectTimeout = answerTime
	return c, nil
}

// openDatabase connects, and makes the table if it is not there.
func openDatabase(ctx context.Context, text string) (*database, error) {
	c, err := databaseConfig(text)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), c)
	if err != nil {
		return nil, fmt.Errorf("state: %w", err)
	}
	d := &database{of: text, pool: pool}
	if err := d.prepare(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("state: %w", err)
	}
	return d, nil
}

func (d *database) prepare(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return pgx.BeginFunc(ctx, d.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(tableLock)); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('agentd_spire_machines') IS NOT NULL").Scan(&there); err != nil || there {
			return err
		}
		_, err := tx.Exec(ctx, table)
		return err
	})
}

func (d *database) close() { d.pool.Close() }

func (d *database) same(c *config) bool { return d.of == c.Database }

// name names server and database, without user and password.
func (d *database) name() string {
	c := d.pool.Config().ConnConfig
	return fmt.Sprintf("table agentd_spire_machines of database %q on %s", c.Database, c.Host)
}

// Known returns what is known of a machine, nil if nothing is.
func (d *database) Known(ctx context.Context, ak keys.Name) (*relying.History, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	var version int64
	var history []byte
	var disputed bool
	err := d.pool.QueryRow(ctx, "SELECT version, history, disputed IS NOT NULL FROM agentd_spire_machines WHERE ak = $1", []byte(ak)).Scan(&version, &history, &disputed)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("what is known of the log of key %s: %w", ak, err)
	case disputed:
		return nil, fmt.Errorf("%w (key %s)", errDisputed, ak)
	case history == nil:
		return nil, nil
	}
	h := &relying.History{Version: uint64(version)}
	if err := strictjson.Decode(history, maxHistory, h); err != nil {
		return nil, fmt.Errorf("what is known of the log of key %s: %w", ak, err)
	}
	return h, nil
}

// Advance replaces what is known.
func (d *database) Advance(ctx context.Context, ak keys.Name, before, next *relying.History) error {
	b, err := encode(ak, next)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if before != nil {
		tag, err := d.pool.Exec(ctx, "UPDATE agentd_spire_machines SET version = version + 1, history = $1 WHERE ak = $2 AND version = $3 AND disputed IS NULL", b, []byte(ak), int64(before.Version))
		if err == nil && tag.RowsAffected() == 0 {
			err = relying.ErrMoved
		}
		return err
	}
	tag, err := d.pool.Exec(ctx, `INSERT INTO agentd_spire_machines AS m (ak, version, history)
		SELECT $1, 1, $2 WHERE (SELECT count(*) FROM agentd_spire_machines) < $3
		ON CONFLICT (ak) DO UPDATE SET version = 1, history = $2 WHERE m.history IS NULL AND m.disputed IS NULL`, []byte(ak), b, maxMachines)
	if err != nil || tag.RowsAffected() == 1 {
		return err
	}
	var there bool
	if err := d.pool.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM agentd_spire_machines WHERE ak = $1)", []byte(ak)).Scan(&there); err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("the logs of %d machines are known, and no more are kept: delete the rows of machines that are retired", maxMachines)
	}
	return relying.ErrMoved
}

// dispute keeps that two machines use an attestation key.
func (d *database) dispute(ctx context.Context, ak keys.Name) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	_, err := d.pool.Exec(ctx, `INSERT INTO agentd_spire_machines (ak, version, disputed) VALUES ($1, 0, now())
		ON CONFLICT (ak) DO UPDATE SET disputed = now()`, []byte(ak))
	return err
}
