// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
	"github.com/cvm-agentd/agentd/verify"
)

// database opens stores of one database: each is that of a worker.
type database struct {
	open   func(Limits) (*Store, error)
	server *servers.Postgres // nil for SQLite
}

func (d *database) worker(t *testing.T, limits Limits) *Store {
	t.Helper()
	s, err := d.open(limits)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// newPostgres starts a server with an empty database. A test skips if this machine has no PostgreSQL.
func newPostgres(t *testing.T) *servers.Postgres {
	t.Helper()
	return servers.StartPostgres(t, servers.IfThere(t, "initdb", "postgres", "psql"))
}

// onPostgres is a database of a server.
func onPostgres(p *servers.Postgres, name string) *database {
	url := fmt.Sprintf("postgres://tester@%s/%s?sslmode=disable", p.Address, name)
	return &database{func(l Limits) (*Store, error) { return OpenPostgres(Postgres{URL: url}, l) }, p}
}

func onSQLite(t *testing.T) *database {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a folder?", "v#1.db")
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	return &database{open: func(l Limits) (*Store, error) { return OpenSQLite(path, l) }}
}

// suite are the tests of both databases.
var suite = []struct {
	name string
	test func(*testing.T, *database)
}{
	{"Challenges", testChallenges},
	{"OnceBetweenWorkers", testOnceBetweenWorkers},
	{"Logs", testLogs},
	{"Records", testRecords},
	{"CheckFinds", testCheckFinds},
	{"Policies", testPolicies},
	{"Enrolments", testEnrolments},
	{"Machines", testMachines},
	{"FullStoreFailsAlone", testFullStoreFailsAlone},
	{"LaterTables", testLaterTables},
	{"ManyBegin", testManyBegin},
	{"ClientLeaves", testClientLeaves},
	{"OneAppends", testOneAppends},
	{"Durable", testDurable},
	{"CommitFails", testCommitFails},
}

func TestPostgreSQL(t *testing.T) {
	p := newPostgres(t)
	for i, x := range suite {
		t.Run(x.name, func(t *testing.T) {
			name := fmt.Sprintf("database%d", i)
			if _, err := p.Ask(p.Address, "CREATE DATABASE "+name); err != nil {
				t.Fatal(err)
			}
			x.test(t, onPostgres(p, name))
		})
	}
}

func TestSQLite(t *testing.T) {
	for _, x := range suite {
		t.Run(x.name, func(t *testing.T) { x.test(t, onSQLite(t)) })
	}
}

func nonce(n int) (out [relying.NonceSize]byte) { return sha256.Sum256(fmt.Append(nil, n)) }

var now = time.Date(2031, 5, 1, 12, 0, 0, 123_456_789, time.UTC)

func testChallenges(t *testing.T, d *database) {
	ctx, s := t.Context(), d.worker(t, Limits{Challenges: 3})
	if err := s.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	for n := range 3 {
		if err := s.Put(ctx, nonce(n), now, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(ctx, nonce(3), now, now.Add(time.Minute)); !errors.Is(err, relying.ErrFull) {
		t.Errorf("one more than the limit: %v", err)
	}
	for _, c := range []struct {
		nonce int
		at    time.Duration
		taken bool
	}{{0, 59 * time.Second, true}, {0, 0, false}, {7, 0, false}, {1, time.Minute, false}, {1, 0, false}} {
		given, taken, err := s.Take(ctx, nonce(c.nonce), now.Add(c.at))
		if err != nil || taken != c.taken || taken && !given.Equal(now.Truncate(time.Microsecond)) {
			t.Errorf("%+v: %v, %v, %v", c, given, taken, err)
		}
	}
	// Those that expired make room, and the others stay.
	if err := s.Put(ctx, nonce(8), now, now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if err := s.tidy(ctx, now.Add(10*time.Minute)); err != nil {
		t.Fatal(err)
	}
	if n := s.waiting.Load(); n != 1 {
		t.Errorf("%d challenges wait", n)
	}
	if n := count(t, s, "challenges"); n != 1 {
		t.Errorf("%d challenges are kept: those that expired stay", n)
	}
	// A worker whose clock is half a minute ahead of this one.
	if err := s.tidy(ctx, now.Add(time.Hour+30*time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, taken, err := s.Take(ctx, nonce(8), now); err != nil || !taken {
		t.Errorf("one that had not expired: %v, %v", taken, err)
	}
}

// count returns how many rows a table has.
func count(t *testing.T, s *Store, table string) (n int) {
	t.Helper()
	err := s.read(t.Context(), "count", func(ctx context.Context, q queries) error {
		return q.row(ctx, "SELECT count(*) FROM "+table).Scan(&n)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// testClientLeaves: an operation is completed although its client left, so that clients cannot have
// connections to the database made anew.
func testClientLeaves(t *testing.T, d *database) {
	ctx, leave := context.WithCancel(t.Context())
	leave()
	s := d.worker(t, Limits{})
	if err := s.Put(ctx, nonce(1), now, now.Add(time.Minute)); err != nil {
		t.Errorf("keep: %v", err)
	}
	if _, taken, err := s.Take(ctx, nonce(1), now); err != nil || !taken {
		t.Errorf("take: %v, %v", taken, err)
	}
	if _, err := s.Known(ctx, name(1)); err != nil {
		t.Errorf("read: %v", err)
	}
}

// testOnceBetweenWorkers: of many requests with one nonce, to two workers at the same time, one takes it.
func testOnceBetweenWorkers(t *testing.T, d *database) {
	workers := []*Store{d.worker(t, Limits{}), d.worker(t, Limits{})}
	const nonces, each = 25, 8
	var taken [nonces]atomic.Int32
	for n := range nonces {
		if err := workers[n%2].Put(t.Context(), nonce(n), now, now.Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for n := range nonces {
		for i := range each {
			all.Go(func() {
				_, ok, err := workers[i%2].Take(t.Context(), nonce(n), now)
				if err != nil {
					t.Error(err)
				}
				if ok {
					taken[n].Add(1)
				}
			})
		}
	}
	all.Wait()
	for n := range taken {
		if k := taken[n].Load(); k != 1 {
			t.Errorf("challenge %d was taken %d times", n, k)
		}
	}
}

// history is what is known of a log after a number of records.
func history(n uint32) *relying.History {
	return &relying.History{State: &verify.LogState{ReportID: "r", PCR: n, AgentKey: []byte{1}}, Earlier: []string{"e"}, Changed: now}
}

// name is that of an attestation key.
func name(n byte) keys.Name {
	sum := sha256.Sum256([]byte{n})
	return append(keys.Name{0, 0x0b}, sum[:]...)
}

func testLogs(t *testing.T, d *database) {
	ctx, one, two := t.Context(), d.worker(t, Limits{Machines: 2}), d.worker(t, Limits{Machines: 2})
	if h, err := one.Known(ctx, name(1)); h != nil || err != nil {
		t.Fatalf("%v, %v", h, err)
	}
	if err := one.Advance(ctx, name(1), nil, history(1)); err != nil {
		t.Fatal(err)
	}
	if err := two.Advance(ctx, name(1), nil, history(2)); !errors.Is(err, relying.ErrMoved) {
		t.Errorf("a second first one: %v", err)
	}
	first, err := two.Known(ctx, name(1))
	if err != nil || first.State.PCR != 1 || first.Earlier[0] != "e" || !first.Changed.Equal(now) {
		t.Fatalf("%+v, %v", first, err)
	}
	if err := two.Advance(ctx, name(1), first, history(2)); err != nil {
		t.Fatal(err)
	}
	if err := one.Advance(ctx, name(1), first, history(3)); !errors.Is(err, relying.ErrMoved) {
		t.Errorf("over one that was replaced: %v", err)
	}
	if h, err := one.Known(ctx, name(1)); err != nil || h.State.PCR != 2 {
		t.Errorf("%+v, %v", h, err)
	}
	if err := one.Advance(ctx, name(2), nil, history(1)); err != nil {
		t.Fatal(err)
	}
	if err := one.Advance(ctx, name(3), nil, history(1)); !errors.Is(err, errFull) {
		t.Errorf("a machine more than the limit: %v", err)
	}
	if h, err := one.Known(ctx, name(1)); err != nil || h.State.PCR != 2 {
		t.Errorf("a machine was forgotten: %+v, %v", h, err)
	}
}

func appraisal(v verify.Verdict) *verify.Appraisal {
	return &verify.Appraisal{Type: verify.AppraisalType, Time: now, Verdict: v, Class: verify.ClassAccepted, Binding: verify.BindingNone, AKOrigin: verify.AKNone, Sentences: []string{"s"}, Checks: []verify.Check{}}
}

func record(ak keys.Name, known, next *relying.History) *relying.Record {
	return &relying.Record{Time: now, Nonce: []byte("nonce of at least 16 bytes"), AK: ak, Appraisal: appraisal(verify.Pass), Known: known, Next: next}
}

var policy = &Policy{Name: "default", Version: 3, Digest: "d1"}

// testRecords: two workers append at the same time. The chain has one entry for each append that
// succeeded and none for another, and reads from outside as the package says.
func testRecords(t *testing.T, d *database) {
	workers := []*Store{d.worker(t, Limits{}), d.worker(t, Limits{})}
	if h, err := workers[0].Head(t.Context()); err != nil || h != (Head{}) {
		t.Fatalf("%+v, %v", h, err)
	}
	const appends = 60
	var kept, moved atomic.Int64
	var all sync.WaitGroup
	for n := range appends {
		all.Go(func() {
			var next *relying.History
			if n%2 == 0 { // of which one is first
				next = history(uint32(n))
			}
			switch err := workers[n%4/2].Records(policy).Append(t.Context(), record(name(1), nil, next)); {
			case err == nil:
				kept.Add(1)
			case errors.Is(err, relying.ErrMoved):
				moved.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if kept.Load() != appends/2+1 || moved.Load() != appends/2-1 {
		t.Errorf("%d kept, %d moved", kept.Load(), moved.Load())
	}
	c, err := workers[1].Check(t.Context())
	if err != nil || c.Head.Sequence != uint64(kept.Load()) || c.Absent != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	readFromOutside(t, workers[0], c.Head)
}

// readFromOutside reads the chain as docs/verifier-service.md describes it.
func readFromOutside(t *testing.T, s *Store, head Head) {
	t.Helper()
	previous, after := "", uint64(0)
	for after < head.Sequence {
		page, err := s.Entries(t.Context(), after)
		if err != nil || len(page) == 0 {
			t.Fatalf("%d entries, %v", len(page), err)
		}
		for _, r := range page {
			var e struct {
				Sequence                                       uint64
				Previous, Policy, Verdict, AK, Appraisal, Kind string
			}
			if err := json.Unmarshal(r.Line, &e); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256([]byte("agentd/record/1\x00" + string(r.Line)))
			if after++; e.Sequence != after || e.Previous != previous || e.Policy != "default" || e.Verdict != "pass" || e.AK != name(1).String() || hex.EncodeToString(sum[:]) != r.Hash {
				t.Fatalf("entry %d: %s, %s", after, r.Hash, r.Line)
			}
			body, err := s.Appraisal(t.Context(), after)
			if sum = sha256.Sum256(body); err != nil || hex.EncodeToString(sum[:]) != e.Appraisal || !strings.Contains(string(body), `"verdict":"pass"`) {
				t.Fatalf("appraisal %d: %v, %s", after, err, body)
			}
			previous = r.Hash
		}
	}
	if previous != head.Hash {
		t.Errorf("the last hash is %s, the head %s", previous, head.Hash)
	}
}

// execAll runs statements, as a party that writes the database.
func execAll(t *testing.T, s *Store, statements ...string) {
	t.Helper()
	err := s.write(t.Context(), "tamper", func(ctx context.Context, tx *transaction) error {
		for _, x := range statements {
			if _, err := tx.exec(ctx, x); err != nil {
				return fmt.Errorf("%s: %w", x, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// fill appends a number of records, and returns the heads after each.
func fill(t *testing.T, s *Store, n int, v verify.Verdict) (heads []Head) {
	t.Helper()
	for i := range n {
		r := record(name(byte(i)), nil, nil)
		r.Appraisal = appraisal(v)
		if err := s.Records(policy).Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		h, err := s.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		heads = append(heads, h)
	}
	return heads
}

// bytesOf returns bytes as the SQL of a database has them.
func bytesOf(d *database, b []byte) string {
	return fmt.Sprintf(map[bool]string{true: "'\\x%x'", false: "X'%x'"}[d.server != nil], b)
}

// testCheckFinds: a check names what a party that writes the database changed in the chain. A chain that
// was made anew does not fit to a head that was kept elsewhere.
func testCheckFinds(t *testing.T, d *database) {
	s := d.worker(t, Limits{})
	heads := fill(t, s, 4, verify.Pass)
	if c, err := s.Check(t.Context(), heads[1], heads[3]); err != nil || len(c.Compare) != 2 {
		t.Fatalf("%+v, %v", c, err)
	}
	tables := []string{"records", "bodies", "head"}
	for _, x := range tables {
		execAll(t, s, "CREATE TABLE kept_"+x+" AS SELECT * FROM "+x)
	}
	for change, want := range map[string]string{
		"UPDATE records SET entry = (SELECT entry FROM records WHERE sequence = 1) WHERE sequence = 2": "after record 1 comes 1",
		"UPDATE records SET hash = (SELECT hash FROM records WHERE sequence = 1) WHERE sequence = 2":   "the database says",
		"DELETE FROM records WHERE sequence = 2":                                                       "after record 1 comes 3",
		"DELETE FROM records WHERE sequence = 4":                                                       "ends at record 3",
		"UPDATE head SET hash = (SELECT hash FROM records WHERE sequence = 1)":                         "the head says",
		"UPDATE head SET sequence = 3, hash = (SELECT hash FROM records WHERE sequence = 3)":           "turned back",

		"UPDATE head SET sequence = 3, hash = (SELECT hash FROM records WHERE sequence = 3); DELETE FROM records WHERE sequence = 4": "it was cut",
	} {
		execAll(t, s, strings.Split(change, ";")...)
		if _, err := s.Check(t.Context(), heads[3]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", change, err, want)
		}
		for _, x := range tables {
			execAll(t, s, "DELETE FROM "+x, "INSERT INTO "+x+" SELECT * FROM kept_"+x)
		}
	}
	if _, err := s.Check(t.Context(), heads...); err != nil {
		t.Fatal(err)
	}
	// The last entry, with hashes that fit to what it is now.
	page, err := s.Entries(t.Context(), 3)
	if err != nil || len(page) != 1 {
		t.Fatal(len(page), err)
	}
	for was, c := range map[string]struct{ is, want string }{EntryType: {"agentd/record/2", "is of type"}, heads[2].Hash: {heads[1].Hash, "follows"}} {
		for _, line := range []string{strings.Replace(string(page[0].Line), was, c.is, 1), string(page[0].Line)} {
			hash := bytesOf(d, Hash([]byte(line)))
			execAll(t, s, "UPDATE records SET hash = "+hash+", entry = "+bytesOf(d, []byte(line))+" WHERE sequence = 4", "UPDATE head SET hash = "+hash)
			if _, err := s.Check(t.Context()); (err != nil) != (line != string(page[0].Line)) || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", line, err, c.want)
			}
		}
	}
	execAll(t, s, "DELETE FROM bodies WHERE sequence < 3")
	if c, err := s.Check(t.Context()); err != nil || c.Absent != 2 {
		t.Errorf("appraisals were deleted: %+v, %v", c, err)
	}
	packed, err := pack([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	execAll(t, s, "UPDATE bodies SET body = "+bytesOf(d, packed)+" WHERE sequence = 3")
	if _, err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "the appraisal of record 3 is another one") {
		t.Errorf("another appraisal: %v", err)
	}
	// All of it anew, with other verdicts.
	execAll(t, s, "DELETE FROM records", "DELETE FROM bodies", "UPDATE head SET sequence = 0, hash = "+bytesOf(d, nil))
	fill(t, s, 5, verify.Fail)
	if _, err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(t.Context(), heads[3]); err == nil || !strings.Contains(err.Error(), "made anew") {
		t.Errorf("a chain made anew: %v", err)
	}
}
