// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// testPolicies: versions follow each other, one that followed another one is refused, and each change has
// a record.
func testPolicies(t *testing.T, d *database) {
	ctx, s := t.Context(), d.worker(t, Limits{})
	zero, one := uint64(0), uint64(1)
	put := func(text string, after *uint64) (*Policy, error) {
		p := Policy{Name: "web", Text: text, Audience: "vault", By: "alice", Changed: now}
		if text != "" {
			p.Digest = "digest of " + text
		}
		return s.PutPolicy(ctx, p, after)
	}
	if _, err := s.Policy(ctx, "web", 0); !errors.Is(err, ErrNone) {
		t.Errorf("none: %v", err)
	}
	if _, err := put("", nil); !errors.Is(err, ErrNone) {
		t.Errorf("withdraw none: %v", err)
	}
	for i, c := range []struct {
		text  string
		after *uint64
		err   error
	}{{"a", &zero, nil}, {"b", &zero, ErrConflict}, {"b", &one, nil}, {"c", &one, ErrConflict}, {"c", nil, nil}} {
		if _, err := put(c.text, c.after); !errors.Is(err, c.err) {
			t.Errorf("%d: %v", i, err)
		}
	}
	if p, err := s.Policy(ctx, "web", 0); err != nil || p.Text != "c" || p.Version != 3 || p.Audience != "vault" || p.By != "alice" {
		t.Errorf("%+v, %v", p, err)
	}
	if v, err := s.InForce(ctx, "web"); err != nil || v != 3 {
		t.Errorf("in force: %d, %v", v, err)
	}
	if p, err := s.Policy(ctx, "web", 2); err != nil || p.Text != "b" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := put("", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Policy(ctx, "web", 0); !errors.Is(err, ErrNone) {
		t.Errorf("withdrawn: %v", err)
	}
	for _, name := range []string{"web", "other"} {
		if v, err := s.InForce(ctx, name); !errors.Is(err, ErrNone) {
			t.Errorf("%s in force: %d, %v", name, v, err)
		}
	}
	if all, err := s.Policies(ctx); err != nil || len(all) != 1 || all[0].Version != 4 || all[0].Digest != "" {
		t.Errorf("%+v, %v", all, err)
	}
	if got := actions(t, s); !slices.Equal(got, []string{"put web 1 alice", "put web 2 alice", "put web 3 alice", "withdraw web 4 alice"}) {
		t.Errorf("the records are %q", got)
	}
}

// actions returns the changes in the chain.
func actions(t *testing.T, s *Store) (all []string) {
	t.Helper()
	page, err := s.Entries(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range page {
		e := r.Entry
		all = append(all, strings.TrimSpace(fmt.Sprint(e.Action, " ", e.Policy, " ", e.Version, " ", e.By)))
	}
	if _, err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	return all
}

// testEnrolments: an enrolment is pending until an administrator approves it.
func testEnrolments(t *testing.T, d *database) {
	ctx, s := t.Context(), d.worker(t, Limits{})
	enrol := func(n byte) error {
		return s.Enrol(ctx, &keys.Enrolment{Type: keys.EnrolmentType, EK: name(100 + n), AK: name(n), EKIssuer: "none", Enrolled: now.Truncate(time.Second)}, "alice", now)
	}
	for n := range byte(3) {
		if err := enrol(n); err != nil {
			t.Fatal(err)
		}
	}
	if err := enrol(1); !errors.Is(err, ErrExists) {
		t.Errorf("twice: %v", err)
	}
	if err := s.Approve(ctx, name(1), "bob", now); err != nil {
		t.Fatal(err)
	}
	if err := s.Approve(ctx, name(9), "bob", now); !errors.Is(err, ErrNone) {
		t.Errorf("approve none: %v", err)
	}
	line, err := s.Enrolment(ctx, name(1))
	if err != nil {
		t.Fatal(err)
	}
	set, err := keys.ParseEnrolments(line)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := set.Find(name(1)); err != nil || l.State != keys.Approved || l.By != "bob" {
		t.Errorf("%+v, %v", l, err)
	}
	for state, want := range map[keys.State]int{keys.Pending: 2, keys.Approved: 1, "": 3} {
		if all, err := s.Enrolments(ctx, state, nil); err != nil || len(all) != want {
			t.Errorf("%q: %d, %v", state, len(all), err)
		}
	}
	all, err := s.Enrolments(ctx, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if rest, err := s.Enrolments(ctx, "", all[0].Enrolment.AK); err != nil || len(rest) != 2 || !rest[0].Enrolment.AK.Equal(all[1].Enrolment.AK) {
		t.Errorf("%v, %v", rest, err)
	}
	if err := s.Unenrol(ctx, name(1), "bob", now); err != nil {
		t.Fatal(err)
	}
	if err := s.Unenrol(ctx, name(1), "bob", now); !errors.Is(err, ErrNone) {
		t.Errorf("removed twice: %v", err)
	}
	if line, err := s.Enrolment(ctx, name(1)); line != nil || err != nil {
		t.Errorf("%s, %v", line, err)
	}
	if got := actions(t, s); !slices.Equal(got, []string{"add  0 alice", "add  0 alice", "add  0 alice", "approve  0 bob", "remove  0 bob"}) {
		t.Errorf("the records are %q", got)
	}
}

// testFullStoreFailsAlone: a record that cannot be kept does not take the others of its transaction with
// it.
func testFullStoreFailsAlone(t *testing.T, d *database) {
	s := d.worker(t, Limits{Machines: 5})
	var kept, full atomic.Int32
	var all sync.WaitGroup
	for n := range byte(20) {
		all.Go(func() {
			switch err := s.Records(policy).Append(t.Context(), record(name(n), nil, history(1))); {
			case err == nil:
				kept.Add(1)
			case errors.Is(err, errFull):
				full.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if kept.Load() != 5 || full.Load() != 15 {
		t.Errorf("%d kept, %d refused", kept.Load(), full.Load())
	}
	if c, err := s.Check(t.Context()); err != nil || c.Head.Sequence != 5 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestDatabaseGone: while the server is away each operation says so soon. When it is back, the same store
// works, and has what it had.
func TestDatabaseGone(t *testing.T) {
	d := onPostgres(newPostgres(t), "postgres")
	ctx, s := t.Context(), d.worker(t, Limits{})
	if err := s.Put(ctx, nonce(1), now, now.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	fill(t, s, 2, verify.Pass)
	d.server.Signal(t, syscall.SIGQUIT) // at once, as a crash
	d.server.Wait(t)
	operations := map[string]func() error{
		"ready":  func() error { return s.Ready(ctx) },
		"put":    func() error { return s.Put(ctx, nonce(2), now, now.Add(time.Minute)) },
		"take":   func() error { _, _, err := s.Take(ctx, nonce(1), now); return err },
		"known":  func() error { _, err := s.Known(ctx, name(1)); return err },
		"append": func() error { return s.Records(policy).Append(ctx, record(name(1), nil, nil)) },
		"policy": func() error { _, err := s.Policy(ctx, "web", 0); return err },
	}
	for n, f := range operations {
		if err := f(); !errors.Is(err, relying.ErrUnavailable) {
			t.Errorf("%s without a server: %v", n, err)
		}
	}
	late := d.worker(t, Limits{}) // started while it is away
	if err := late.Ready(ctx); !errors.Is(err, relying.ErrUnavailable) {
		t.Errorf("%v", err)
	}
	d.server.Run(t)
	for end := time.Now().Add(time.Minute); s.Ready(ctx) != nil || late.Ready(ctx) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(s.Ready(ctx), late.Ready(ctx))
		}
	}
	if _, taken, err := late.Take(ctx, nonce(1), now); err != nil || !taken {
		t.Errorf("the challenge of before: %v, %v", taken, err)
	}
	if err := s.Records(policy).Append(ctx, record(name(1), nil, nil)); err != nil {
		t.Error(err)
	}
	if c, err := late.Check(ctx); err != nil || c.Head.Sequence != 3 {
		t.Errorf("%+v, %v", c, err)
	}
}

// testLaterTables: a program does not write tables of a later version, whose meaning it does not know.
func testLaterTables(t *testing.T, d *database) {
	s := d.worker(t, Limits{})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	execAll(t, s, "INSERT INTO goose_db_version (version_id, is_applied) VALUES (99, "+map[bool]string{true: "true", false: "1"}[d.server != nil]+")")
	err := d.worker(t, Limits{}).Ready(t.Context())
	if err == nil || errors.Is(err, relying.ErrUnavailable) && d.server == nil || !strings.Contains(err.Error(), "use a later one") {
		t.Errorf("%v", err)
	}
}

// testManyBegin: workers that start at once make the tables once.
func testManyBegin(t *testing.T, d *database) {
	var all sync.WaitGroup
	for range 6 {
		s := d.worker(t, Limits{})
		all.Go(func() {
			if err := s.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
}
