// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/service/internal/traces"
)

// Limits are how much a store keeps. 0 is the number of Defaults.
type Limits struct {
	Challenges int // that wait, of all processes; each may add as many as it gets within a second
	Machines   int // attestation keys of which a log is known
}

// Defaults of Limits.
var Defaults = Limits{Challenges: 100_000, Machines: 100_000}

// patience is how long an operation may take. A database that does not answer must not take all places
// of a service until its clients give up.
const patience = 10 * time.Second

// Store is the state of a service. Many goroutines may use one.
type Store struct {
	db      *sql.DB
	dialect *dialect
	limits  Limits
	writer  chan struct{} // has an element while a transaction of SQLite writes; nil for others
	waiting atomic.Int64  // challenges that wait, counted by tidy and added to by Put

	schema sync.Mutex
	whole  bool // the tables are there; with schema

	appends chan *item
	takes   *gatherer[random, taken]
	knows   *gatherer[string, knownLog] // by the bytes of the name of an attestation key
	forces  *gatherer[string, uint64]   // version in force by the name of a policy, 0: none
	ctx     context.Context             // ends with Close
	stop    context.CancelFunc
	ended   sync.WaitGroup
}

// start returns a store over an open database.
func start(db *sql.DB, d *dialect, limits Limits) *Store {
	if limits.Challenges == 0 {
		limits.Challenges = Defaults.Challenges
	}
	if limits.Machines == 0 {
		limits.Machines = Defaults.Machines
	}
	s := &Store{db: db, dialect: d, limits: limits, appends: make(chan *item)}
	if d.oneWriter {
		s.writer = make(chan struct{}, 1)
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.ended.Go(func() { takeAll(s.ctx, s.appends, maxAppends, s.appendItems) })
	s.takes = gather(s, "take a challenge", s.takeNonces)
	s.knows = gather(s, "read a known log", s.knownLogs)
	s.forces = gather(s, "ask which policy is in force", s.inForce)
	s.ended.Go(s.tidyAll)
	return s
}

// Close ends the store. What is under way is completed or comes to nothing, as after a crash.
func (s *Store) Close() error {
	s.stop()
	s.ended.Wait()
	return s.db.Close()
}

// Ready returns nil if the database answers and has the tables. It makes them in an empty database.
func (s *Store) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if err := s.tables(ctx); err != nil {
		return err
	}
	return s.explain("ask the database", s.db.PingContext(ctx))
}

// tables makes or changes the tables, once for a process. The database may be away when it starts.
func (s *Store) tables(ctx context.Context) error {
	s.schema.Lock()
	defer s.schema.Unlock()
	if s.whole {
		return nil
	}
	if err := s.dialect.migrate(ctx, s.db); err != nil {
		return s.explain("make the tables", err)
	}
	s.whole = true
	return nil
}

// explain adds what was attempted to an error of the database, and whether it may pass by itself.
func (s *Store) explain(attempt string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, relying.ErrMoved), errors.Is(err, relying.ErrUnavailable):
		return err
	case errors.Is(err, context.Canceled), s.dialect.passes(err):
		return fmt.Errorf("store: %s: %w: %w", attempt, relying.ErrUnavailable, err)
	}
	return fmt.Errorf("store: %s: %w", attempt, err)
}

// fault is an error that is not one of the database, and that the caller of a transaction wants as it
// is.
type fault struct{ error }

// bounded returns a context that ends after the patience of an operation, and not when a client leaves:
// to interrupt a statement costs the connection, and a client could have all of them made anew.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), patience)
}

// write runs f in a transaction. It returns nil once that is committed. Otherwise nothing of it may be
// relied on: if the connection ends during the commit, it may be committed or not.
func (s *Store) write(ctx context.Context, attempt string, f func(context.Context, *transaction) error) (err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	ctx, part := traces.Begin(ctx, attempt)
	defer func() { part.End(err) }()
	if err := s.tables(ctx); err != nil {
		return err
	}
	if s.writer != nil {
		select {
		case s.writer <- struct{}{}:
			defer func() { <-s.writer }()
		case <-ctx.Done():
			return s.explain(attempt, ctx.Err())
		}
	}
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return s.explain(attempt, err)
	}
	defer tx.Rollback() // does nothing after the commit
	if err := f(ctx, &transaction{tx, s.dialect}); err != nil {
		if own, ok := errors.AsType[fault](err); ok {
			return own.error
		}
		return s.explain(attempt, err)
	}
	return s.explain(attempt, tx.Commit())
}

// one runs f, which is one statement that writes, in a transaction of its own. PostgreSQL makes that by
// itself, and says how it ended after the statement: so it is asked once and not three times.
func (s *Store) one(ctx context.Context, attempt string, f func(context.Context, queries) error) error {
	if s.dialect.oneWriter {
		return s.write(ctx, attempt, func(ctx context.Context, tx *transaction) error { return f(ctx, tx.queries()) })
	}
	return s.read(ctx, attempt, f)
}

// read runs f without a transaction.
func (s *Store) read(ctx context.Context, attempt string, f func(context.Context, queries) error) (err error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	ctx, part := traces.Begin(ctx, attempt)
	defer func() { part.End(err) }()
	if err := s.tables(ctx); err != nil {
		return err
	}
	err = f(ctx, queries{s.db, s.dialect})
	if own, ok := errors.AsType[fault](err); ok {
		return own.error
	}
	return s.explain(attempt, err)
}

// tidyAll removes challenges that expired, and counts the others, each second.
func (s *Store) tidyAll() {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case now := <-tick.C:
			_ = s.tidy(s.ctx, now) // the next request learns what is wrong with the database
		}
	}
}

func (s *Store) tidy(ctx context.Context, now time.Time) error {
	return s.write(ctx, "remove expired challenges", func(ctx context.Context, tx *transaction) error {
		// A clock that is ahead must not take challenges that others still count on.
		if _, err := tx.exec(ctx, "DELETE FROM challenges WHERE expires < $1", micro(now.Add(-time.Minute))); err != nil {
			return err
		}
		var n int64
		if err := tx.row(ctx, "SELECT count(*) FROM challenges WHERE expires >= $1", micro(now)).Scan(&n); err != nil {
			return err
		}
		s.waiting.Store(n)
		return nil
	})
}

func micro(t time.Time) int64     { return t.UnixMicro() }
func fromMicro(n int64) time.Time { return time.UnixMicro(n).UTC() }
