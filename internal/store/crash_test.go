// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// operation is one change of a store, and what must be true before and after it.
type operation struct {
	name    string
	prepare func(*testing.T, *world) // makes the world that it is done in
	do      func(context.Context, *store.Store) error
	old     func(*store.Store) error // nil: the change was not made
	new     func(*store.Store) error // nil: it was made
	locked  bool                     // before the change the store is locked
}

// holds returns a check that a secret has this content.
func holds(c store.Caller, name, want string) func(*store.Store) error {
	return func(s *store.Store) error {
		got, err := unsealText(s, c, name)
		if err == nil && got != want {
			err = fmt.Errorf("%s holds %q, want %q", name, got, want)
		}
		return err
	}
}

func lacks(c store.Caller, name string) func(*store.Store) error {
	return func(s *store.Store) error {
		if _, err := unsealText(s, c, name); !errors.Is(err, api.CodeNotFound) {
			return fmt.Errorf("%s: %v, want %s", name, err, api.CodeNotFound)
		}
		return nil
	}
}

func all(checks ...func(*store.Store) error) func(*store.Store) error {
	return func(s *store.Store) error {
		for _, c := range checks {
			if err := c(s); err != nil {
				return err
			}
		}
		return nil
	}
}

// fresh returns a check whether no blob waits to be sealed again.
func fresh(want bool) func(*store.Store) error {
	return func(s *store.Store) error {
		st, err := s.State(context.Background())
		if err == nil && st.Rewrap == want {
			err = fmt.Errorf("rewrap needed: %v", st.Rewrap)
		}
		return err
	}
}

// has reports whether an app's root has that version.
func has(version uint32, want bool) func(*store.Store) error {
	return func(s *store.Store) error {
		_, err := deriveText(s, billing, "a", version)
		if err == nil != want {
			return fmt.Errorf("version %d: %v", version, err)
		}
		return nil
	}
}

// permits reports whether a digest is authorised.
func permits(d byte, want bool) func(*store.Store) error {
	return func(s *store.Store) error {
		c := billing
		c.Digest = evidence.Digest{d}
		_, err := deriveText(s, c, "a", 0)
		if err == nil != want {
			return fmt.Errorf("digest %d: %v", d, err)
		}
		return nil
	}
}

// signedBy reports whether the store has that store key.
func signedBy(key **sealing.StoreKey, want bool) func(*store.Store) error {
	return func(s *store.Store) error {
		st, err := s.State(context.Background())
		if err == nil && (st.StoreKey == **key) != want {
			err = fmt.Errorf("the store has %s", st.StoreKey)
		}
		return err
	}
}

func ready(want bool) func(*store.Store) error {
	return func(s *store.Store) error {
		st, err := s.State(context.Background())
		if err == nil && st.Ready != want {
			err = fmt.Errorf("ready is %v: %v", st.Ready, st.Err)
		}
		return err
	}
}

func operations(t *testing.T) []operation {
	recipient, ids := identity(t)
	another, _ := identity(t)
	var key *sealing.StoreKey // that root kept
	recover := func(ctx context.Context, s *store.Store, how store.Recovery) error {
		r, err := s.Recover(ctx, how)
		if err == nil && len(r.Kept) > 0 {
			err = fmt.Errorf("%w: %v", errKept, r)
		}
		return err
	}
	full := func(t *testing.T, w *world) {
		w.config.Recipients, w.config.LoseOnHardwareChange = []string{recipient}, false
		s := w.ready(t)
		sealText(t, s, billing, "token", "one")
		sealText(t, s, billing, "kept", "kept")
		sealText(t, s, ledger, "kept", "kept")
	}
	others := all(holds(billing, "kept", "kept"), holds(ledger, "kept", "kept"))
	one := all(others, holds(billing, "token", "one"))
	seal := func(c store.Caller, name, text string) func(context.Context, *store.Store) error {
		return func(_ context.Context, s *store.Store) error { return trySeal(s, c, name, text) }
	}
	given := func(t *testing.T, w *world) {
		full(t, w)
		if err := provision(billing, "password", "one", false)(t.Context(), w.ready(t)); err != nil {
			t.Fatal(err)
		}
	}
	newcomer := store.Caller{App: sealing.App{Name: "new", Unit: "new.service", User: "new"}}
	return []operation{
		{name: "seal", prepare: full, do: seal(billing, "second", "two"),
			old: all(one, lacks(billing, "second")), new: all(one, holds(billing, "second", "two"))},
		{name: "seal over", prepare: full, do: seal(billing, "token", "two"),
			old: one, new: all(others, holds(billing, "token", "two"))},
		{name: "seal for a new app", prepare: full, do: seal(newcomer, "x", "y"),
			old: all(one, lacks(newcomer, "x")), new: all(one, holds(newcomer, "x", "y"))},
		{name: "provision", prepare: given, do: provision(billing, "second", "two", false),
			old: all(one, hands("password", "one"), handsNone("second")), new: all(one, hands("password", "one"), hands("second", "two"))},
		{name: "rotate what was provisioned", prepare: given, do: provision(billing, "password", "two", true),
			old: all(one, hands("password", "one")), new: all(one, hands("password", "two"))},
		{name: "remove what was provisioned", prepare: given,
			do: func(ctx context.Context, s *store.Store) error {
				err := s.Unprovision(ctx, "billing", "password")
				if errors.Is(err, api.CodeNotFound) {
					err = nil // once more, after it was done
				}
				return err
			},
			old: all(one, hands("password", "one")), new: all(one, handsNone("password"))},
		{name: "provision for a new app", prepare: full, do: provision(newcomer, "x", "y", false),
			old: one, new: all(one, func(s *store.Store) error { return handed(s, newcomer, "x", "y") })},
		{name: "delete", prepare: full,
			do:  func(ctx context.Context, s *store.Store) error { return s.Delete(ctx, billing, "token") },
			old: one, new: all(others, lacks(billing, "token"))},
		{name: "authorise a digest",
			prepare: func(t *testing.T, w *world) {
				full(t, w)
				if err := w.ready(t).RequireDigest(t.Context(), billing.App, billing.Digest); err != nil {
					t.Fatal(err)
				}
			},
			do: func(ctx context.Context, s *store.Store) error {
				return s.AuthorizeDigest(ctx, "billing", evidence.Digest{9})
			},
			old: all(one, permits(9, false)), new: all(one, permits(9, true))},
		{name: "rotate", prepare: full,
			do:  func(ctx context.Context, s *store.Store) error { _, err := s.Rotate(ctx, "billing"); return err },
			old: all(one, has(1, true), has(2, false)), new: all(one, has(1, true), has(2, true))},
		{name: "retire",
			prepare: func(t *testing.T, w *world) {
				full(t, w)
				if _, err := w.ready(t).Rotate(t.Context(), "billing"); err != nil {
					t.Fatal(err)
				}
			},
			do:  func(ctx context.Context, s *store.Store) error { return s.Retire(ctx, "billing", 1) },
			old: all(one, has(1, true), has(2, true)), new: all(one, has(1, false), has(2, true))},
		{name: "rewrap after the TCB was raised",
			prepare: func(t *testing.T, w *world) { full(t, w); w.machine.now.TCB[7]++ },
			do:      func(ctx context.Context, s *store.Store) error { _, err := s.Rewrap(ctx); return err },
			old:     all(one, fresh(false)), new: all(one, fresh(true))},
		{name: "recover after a TPM was added", locked: true,
			prepare: func(t *testing.T, w *world) {
				tpm := w.tpm
				w.tpm = nil
				full(t, w)
				w.tpm, key = tpm, signer(t, w.files.files)
			},
			do: func(ctx context.Context, s *store.Store) error {
				return recover(ctx, s, store.Recovery{StoreKey: key, Recipients: []string{recipient}})
			},
			old: ready(false), new: all(one, fresh(true))},
		{name: "recover on another chip with another TPM", locked: true,
			prepare: func(t *testing.T, w *world) {
				full(t, w)
				key = signer(t, w.files.files)
				w.machine.setChip("chip two")
				w.tpm.ek++
				w.tpm.clear()
			},
			do: func(ctx context.Context, s *store.Store) error {
				return recover(ctx, s, store.Recovery{Identities: ids, StoreKey: key, Recipients: []string{recipient}})
			},
			old: ready(false), new: one},
		{name: "recover without knowing who wrote the disk", locked: true,
			prepare: func(t *testing.T, w *world) { full(t, w); w.machine.setChip("chip two") },
			do: func(ctx context.Context, s *store.Store) error {
				return recover(ctx, s, store.Recovery{Identities: ids, TrustWriter: true, Recipients: []string{recipient}})
			},
			old: ready(false), new: all(one, has(2, true))},
		{name: "recover without a manifest", locked: true,
			prepare: func(t *testing.T, w *world) { full(t, w); delete(w.files.files, "manifest.sealed") },
			do: func(ctx context.Context, s *store.Store) error {
				return recover(ctx, s, store.Recovery{Recipients: []string{recipient}})
			},
			old: ready(false), new: one},
		{name: "rotate the store key",
			prepare: func(t *testing.T, w *world) { full(t, w); key = signer(t, w.files.files) },
			do:      func(ctx context.Context, s *store.Store) error { _, err := s.RotateStoreKey(ctx); return err },
			old:     all(one, signedBy(&key, true)), new: all(one, signedBy(&key, false))},
		{name: "change recipients",
			prepare: func(t *testing.T, w *world) { full(t, w); key = signer(t, w.files.files) },
			do: func(ctx context.Context, s *store.Store) error {
				_, err := s.ChangeRecipients(ctx, []string{another}, false)
				return err
			},
			old: all(one, signedBy(&key, true)), new: all(one, signedBy(&key, false))},
		{name: "accept a rollback", locked: true,
			prepare: func(t *testing.T, w *world) {
				full(t, w)
				before := w.files.clone()
				sealText(t, w.ready(t), billing, "token", "two")
				w.files = before
			},
			do:  func(ctx context.Context, s *store.Store) error { return s.AcceptRollback(ctx) },
			old: ready(false), new: one},
	}
}

// provision returns an operation of root for the app of c.
func provision(c store.Caller, name, text string, replace bool) func(context.Context, *store.Store) error {
	return func(ctx context.Context, s *store.Store) error {
		data, err := secret.Take([]byte(text))
		if err != nil {
			return err
		}
		defer data.Wipe()
		return s.Provision(ctx, c.App, name, data, replace)
	}
}

// handed checks what the unit of c gets under a name.
func handed(s *store.Store, c store.Caller, name, want string) error {
	k, err := s.Hand(context.Background(), c, name)
	if err != nil {
		return err
	}
	defer k.Wipe()
	return k.Use(func(b []byte) error {
		if string(b) != want {
			return fmt.Errorf("%s is %q, want %q", name, b, want)
		}
		return nil
	})
}

func hands(name, want string) func(*store.Store) error {
	return func(s *store.Store) error { return handed(s, billing, name, want) }
}

func handsNone(name string) func(*store.Store) error {
	return func(s *store.Store) error {
		if err := handed(s, billing, name, ""); !errors.Is(err, api.CodeNotFound) {
			return fmt.Errorf("%s: %v, want %s", name, err, api.CodeNotFound)
		}
		return nil
	}
}

// TestCrashMatrix: case 73, 123, and 26 in spirit. Every change of files and TPM that an
// operation makes fails, before and after it took effect; from then on everything
// fails (the machine is down), or that one alone (the disk was full). Afterwards the
// old or the new opens, never neither, and the store goes on.
func TestCrashMatrix(t *testing.T) {
	points, crashes := 0, 0
	for _, op := range operations(t) {
		base := newWorld()
		op.prepare(t, base)
		count := &fault{at: -1}
		dry := base.clone()
		s := dry.open(t)
		dry.setFault(count)
		if err := op.do(t.Context(), s); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		if err := op.new(s); err != nil {
			t.Fatalf("%s: %v", op.name, err)
		}
		points += count.n
		seen := [2]int{}
		for at := range count.n {
			for _, after := range []bool{false, true} {
				for _, once := range []bool{false, true} {
					crashes++
					name := fmt.Sprintf("%s: %s, after %v, once %v", op.name, strings.Split(count.names[at], "-")[0], after, once)
					w := base.clone()
					s := w.open(t)
					w.setFault(&fault{at: at, after: after, once: once})
					err := op.do(t.Context(), s)
					if !once {
						w.setFault(&fault{at: -1})
						s = w.open(t)
					}
					oldErr, newErr := op.old(s), op.new(s)
					switch {
					case oldErr != nil && newErr != nil:
						t.Errorf("%s: neither old (%v) nor new (%v)", name, oldErr, newErr)
					case err == nil && newErr != nil:
						t.Errorf("%s: it said that it was done, and it was not: %v", name, newErr)
					}
					if newErr == nil {
						seen[1]++
					} else {
						seen[0]++
					}
					checkGoesOn(t, name, op, w, s)
				}
			}
		}
		t.Logf("%-42s %2d durable calls, old after %d faults, new after %d", op.name, count.n, seen[0], seen[1])
	}
	t.Logf("N = %d durable calls, %d faults", points, crashes)
	if points < 60 {
		t.Errorf("only %d durable calls: the matrix is broken", points)
	}
}

// checkGoesOn repeats the operation if it was not done, and starts again.
func checkGoesOn(t *testing.T, name string, op operation, w *world, s *store.Store) {
	t.Helper()
	if op.new(s) != nil {
		if err := op.do(t.Context(), s); err != nil {
			t.Errorf("%s: once more: %v", name, err)
			return
		}
	}
	if err := op.new(s); err != nil {
		t.Errorf("%s: once more: %v", name, err)
	}
	if err := trySeal(s, ledger, "next", "next"); err != nil {
		t.Errorf("%s: next: %v", name, err)
		return
	}
	s = w.open(t)
	if err := all(op.new, holds(ledger, "next", "next"))(s); err != nil {
		t.Errorf("%s: after a restart: %v", name, err)
	}
	if w.tpm != nil && len(w.tpm.counters) != 1 {
		t.Errorf("%s: %d counters are left in the TPM, want 1", name, len(w.tpm.counters))
	}
}

// TestCrashAtFirstStart: nothing is there before, and a store after.
func TestCrashAtFirstStart(t *testing.T) {
	count := &fault{at: -1}
	w := newWorld()
	w.setFault(count)
	w.ready(t)
	for at := range count.n {
		for _, after := range []bool{false, true} {
			w := newWorld()
			w.setFault(&fault{at: at, after: after})
			if st := state(t, w.open(t)); st.Ready && at < count.n-1 {
				t.Errorf("%s: ready all the same", count.names[at])
			}
			w.setFault(&fault{at: -1})
			s := w.ready(t)
			sealText(t, s, billing, "token", "one")
			if err := holds(billing, "token", "one")(w.ready(t)); err != nil {
				t.Errorf("%s, after %v: %v", count.names[at], after, err)
			}
			if len(w.tpm.counters) != 1 {
				t.Errorf("%s, after %v: %d counters in the TPM", count.names[at], after, len(w.tpm.counters))
			}
		}
	}
	t.Logf("N = %d durable calls, %d faults", count.n, 2*count.n)
}

// TestRollbackAfterInterruptedWrites: case 71. A write that failed on disk and was
// made after all cannot leave two manifests that the counter takes.
func TestRollbackAfterInterruptedWrites(t *testing.T) {
	base := newWorld()
	sealText(t, base.ready(t), billing, "token", "one")
	for at := range 4 {
		for _, after := range []bool{false, true} {
			w := base.clone()
			s := w.open(t)
			var kept []*memoryFiles
			w.setFault(&fault{at: at, after: after, once: true})
			_ = trySeal(s, billing, "token", "two")
			kept = append(kept, w.files.clone())
			sealText(t, s, billing, "token", "three")
			sealText(t, s, billing, "token", "four")
			for i, old := range slices.Concat([]*memoryFiles{base.files.clone()}, kept) {
				back := &world{machine: w.machine, tpm: w.tpm.clone(), files: old, config: w.config}
				if err := state(t, back.open(t)).Err; !errors.Is(err, api.CodeRolledBack) {
					t.Errorf("fault at %d, after %v, state %d put back: %v, want %s", at, after, i, err, api.CodeRolledBack)
				}
			}
		}
	}
}
