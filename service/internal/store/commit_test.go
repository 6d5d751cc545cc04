// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/verify"
)

// testDurable: a commit waits for the disk, whatever the database has as its default, and no other user
// reads the file of SQLite.
func testDurable(t *testing.T, d *database) {
	if d.server != nil {
		execAll(t, d.worker(t, Limits{}), "ALTER ROLE tester SET synchronous_commit = off")
	}
	s := d.worker(t, Limits{})
	asked := map[string]string{"SHOW synchronous_commit": "on"}
	if d.server == nil {
		asked = map[string]string{"PRAGMA synchronous": "2", "PRAGMA journal_mode": "wal"}
	}
	for question, want := range asked {
		var is string
		err := s.read(t.Context(), "ask", func(ctx context.Context, q queries) error { return q.row(ctx, question).Scan(&is) })
		if err != nil || is != want {
			t.Errorf("%s: %q, %v, want %q", question, is, err, want)
		}
	}
	if d.server != nil {
		return
	}
	var file string
	err := s.read(t.Context(), "ask", func(ctx context.Context, q queries) error {
		return q.row(ctx, "SELECT file FROM pragma_database_list").Scan(&file)
	})
	if err != nil {
		t.Fatal(err)
	}
	if at, err := os.Stat(file); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", at.Mode(), err)
	}
}

// testCommitFails: what is not committed is not reported. Each transaction here fails at its commit alone,
// after all of its statements succeeded.
func testCommitFails(t *testing.T, d *database) {
	if d.server == nil {
		t.Skip("SQLite has no trigger that runs at the commit")
	}
	ctx, s := t.Context(), d.worker(t, Limits{})
	if err := s.Put(ctx, nonce(1), now, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 1, verify.Pass)
	execAll(t, s, "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''refused''; END'",
		"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON records DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()",
		"CREATE CONSTRAINT TRIGGER refuse AFTER INSERT OR DELETE ON challenges DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")
	if err := s.Put(ctx, nonce(2), now, now.Add(time.Minute)); err == nil {
		t.Error("a challenge was reported as kept")
	}
	if _, taken, err := s.Take(ctx, nonce(1), now); err == nil || taken {
		t.Errorf("a challenge: %v, %v", taken, err)
	}
	appendOne := func() error { return s.Records(policy).Append(ctx, record(name(7), nil, history(1))) }
	if err := appendOne(); err == nil {
		t.Error("a record was reported as kept")
	}
	if p, err := s.PutPolicy(ctx, Policy{Name: "web", Text: "a", Digest: "d", By: "alice", Changed: now}, nil); err == nil {
		t.Errorf("a policy was reported as in force: %+v", p)
	}
	if c, err := s.Check(ctx); err != nil || c.Head.Sequence != 1 {
		t.Errorf("%+v, %v", c, err)
	}
	if h, err := s.Known(ctx, name(7)); h != nil || err != nil {
		t.Errorf("a log is known without its record: %+v, %v", h, err)
	}
	execAll(t, s, "DROP TRIGGER refuse ON records", "DROP TRIGGER refuse ON challenges")
	if _, taken, err := s.Take(ctx, nonce(1), now); err != nil || !taken {
		t.Errorf("afterwards: %v, %v", taken, err)
	}
	if err := appendOne(); err != nil {
		t.Error(err)
	}
}

// testOneAppends: while one worker appends, another one waits. It appends to what it finds afterwards.
func testOneAppends(t *testing.T, d *database) {
	if d.server == nil {
		t.Skip("a transaction of SQLite has the whole file")
	}
	one, two := d.worker(t, Limits{}), d.worker(t, Limits{})
	if err := two.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	appended := make(chan error, 1)
	err := one.write(t.Context(), "append", func(ctx context.Context, tx *transaction) error {
		c, err := lockHead(ctx, tx)
		if err != nil {
			return err
		}
		go func() { appended <- two.Records(policy).Append(t.Context(), record(name(2), nil, nil)) }()
		for waits := 0; waits == 0; {
			select {
			case err := <-appended:
				t.Errorf("another worker did not wait: %v", err)
				appended <- err
				return nil
			case <-ctx.Done():
				return ctx.Err()
			default:
			}
			if err := tx.row(ctx, "SELECT count(*) FROM pg_locks WHERE granted = false").Scan(&waits); err != nil {
				return err
			}
		}
		if err := c.append(Entry{Time: now, Kind: KindPolicy}, nil); err != nil {
			return err
		}
		return c.write(ctx, tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-appended; err != nil {
		t.Error(err)
	}
	if c, err := one.Check(t.Context()); err != nil || c.Head.Sequence != 2 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestUnpackIsBounded: a party that writes the database cannot fill the memory of a worker.
func TestUnpackIsBounded(t *testing.T) {
	for size, fits := range map[int]bool{maxBody: true, maxBody + 1: false} {
		packed, err := pack(make([]byte, size))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := unpack(packed); (err == nil) != fits || fits && len(b) != size {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}
