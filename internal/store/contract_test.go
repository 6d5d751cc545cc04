// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// happen makes a change in the world; the caller asks afterwards.
func happen(t *testing.T, w *world, c sealing.Change) store.Caller {
	t.Helper()
	asks, m := billing, w.machine
	if m == nil {
		m = newMachine()
	}
	tpm := w.tpm
	if tpm == nil {
		tpm = newTPM()
	}
	switch c {
	case sealing.ChangeRestart:
	case sealing.ChangeAppUpgrade:
		asks.Digest = evidence.Digest{9}
	case sealing.ChangeAppUnit:
		asks.App.Unit = "other.service"
	case sealing.ChangeAppUser:
		asks.App.User = "other"
	case sealing.ChangeChip:
		m.setChip("another")
	case sealing.ChangeMeasurement:
		m.now.Measurement[9] ^= 1
	case sealing.ChangePolicy:
		m.now.GuestPolicy |= 1 << 19
	case sealing.ChangeTCBRaised:
		m.now.TCB[6]++
	case sealing.ChangeTCBLowered:
		m.now.TCB[6]--
	case sealing.ChangeVMPL:
		m.now.VMPL = 1
	case sealing.ChangeTPMCleared:
		tpm.clear()
	case sealing.ChangeOtherTPM:
		tpm.ek++
		tpm.clear()
	case sealing.ChangeNoTPM:
		w.tpm = nil
	case sealing.ChangeRollback:
		old := w.files.clone()
		sealText(t, w.ready(t), billing, "token", "newer")
		w.files = old
	default:
		t.Fatalf("change %s is not made by this test", c)
	}
	return asks
}

// TestContractForetells: for each kind of machine, each change and with or without
// recovery and required digest, the contract foretells the outcome.
func TestContractForetells(t *testing.T) {
	n := 0
	for kind, make := range worlds {
		for _, change := range sealing.Changes() {
			for _, recovery := range []bool{false, true} {
				for _, digest := range []bool{false, true} {
					n++
					name := fmt.Sprintf("%s, %s, recovery %v, digest %v", kind, change, recovery, digest)
					w := make()
					recipient, ids := identity(t)
					if recovery {
						w.config = store.Config{Recipients: []string{recipient}}
					}
					s := w.ready(t)
					if digest {
						must(t, s.RequireDigest(t.Context(), billing.App, billing.Digest))
					}
					sealText(t, s, billing, "token", "hunter2")
					c, err := s.Contract(t.Context(), "billing", "")
					must(t, err)
					if c.Weakest.String() != kind {
						t.Errorf("%s: weakest slot %s", name, c.Weakest)
					}
					foretold := c.WhatIf(change)
					asks := happen(t, w, change)
					s = w.open(t)
					_, err = unsealText(s, asks, "token")
					if foretold.Opens != (err == nil) || foretold.Code != sealing.CodeOf(err) {
						t.Errorf("%s: foretold %q, got %v", name, foretold, err)
					}
					if err == nil || w.machine == nil && w.tpm == nil {
						continue // nothing to recover, or nothing to seal to
					}
					_, err = s.Recover(t.Context(), w.recovery(t, ids))
					if err == nil {
						_, err = unsealText(s, billing, "token")
					}
					if foretold.Recovery && err != nil {
						t.Errorf("%s: recovery was foretold: %v", name, err)
					}
					if !recovery && err == nil && foretold.Code != api.CodeDigestNotAuthorised && foretold.Code != api.CodeOtherApp && foretold.Code != api.CodeOtherUser {
						t.Errorf("%s: recovered without a recipient", name)
					}
				}
			}
		}
	}
	t.Logf("%d combinations", n)
}

// TestContractText: the text contains the limit and every change.
func TestContractText(t *testing.T) {
	for kind, make := range worlds {
		s := make().ready(t)
		plan, err := s.Plan(t.Context(), billing.App, "token")
		must(t, err)
		if text := plan.Text(); !strings.Contains(text, "not sealed yet") {
			t.Errorf("%s: %s", kind, text)
		}
		sealText(t, s, billing, "token", "hunter2")
		c, err := s.Contract(t.Context(), "billing", "token")
		must(t, err)
		text := c.Text()
		for _, want := range append([]string{"secret \"token\" of app billing", "weakest slot: " + kind, "What else opens it", "Root in this guest", "no recovery"}, changesAsText()...) {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the text lacks %q:\n%s", kind, want, text)
			}
		}
		if kind != "tpm" && !strings.Contains(text, "any VM that boots this firmware on this chip") {
			t.Errorf("%s: the limit of the derived key is not said:\n%s", kind, text)
		}
	}
}

func changesAsText() (out []string) {
	for _, c := range sealing.Changes() {
		out = append(out, string(c))
	}
	return out
}

// TestContractOfLockedStore: what the files claim, said as a claim.
func TestContractOfLockedStore(t *testing.T) {
	w := newWorld()
	sealText(t, w.ready(t), billing, "token", "hunter2")
	w.machine.setChip("another")
	c, err := w.open(t).Contract(t.Context(), "billing", "token")
	if !errors.Is(err, api.CodeOtherChip) || c.Authenticated || c.Name != "token" || !strings.Contains(c.Text(), "an attacker can write anything") {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestRecoverKeepsWhatDoesNotOpen: nothing that cannot be opened is deleted.
func TestRecoverKeepsWhatDoesNotOpen(t *testing.T) {
	w := newWorld()
	recipient, ids := identity(t)
	w.config = store.Config{Recipients: []string{recipient}}
	s := w.ready(t)
	sealText(t, s, billing, "token", "hunter2")
	sealText(t, s, billing, "broken", "x")
	var broken string
	for name, content := range w.files.files {
		if b, err := sealing.ParseBlob(content); err == nil && b.Claimed.Name == "broken" {
			broken = name
			content[len(content)-9] ^= 1
		}
	}
	w.machine.setChip("another")
	w.tpm.clear()
	s = w.open(t)
	r, err := s.Recover(t.Context(), w.recovery(t, ids))
	must(t, err)
	if r.Written != 2 || len(r.Kept) != 1 || r.Kept[0].Name != "broken" || !errors.Is(r.Kept[0].Err, api.CodeDamaged) || !strings.Contains(r.String(), "damaged") {
		t.Errorf("report %v", r)
	}
	s = w.ready(t)
	if got, err := unsealText(s, billing, "token"); err != nil || got != "hunter2" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := unsealText(s, billing, "broken"); !errors.Is(err, api.CodeDamaged) {
		t.Errorf("the damaged blob: %v", err)
	}
	if r, err := s.Rewrap(t.Context()); err != nil || len(r.Kept) != 1 {
		t.Errorf("rewrap: %v, %v", r, err)
	}
	if _, ok := w.files.files[broken]; !ok {
		t.Error("the damaged blob was deleted")
	}
}

// TestTCBRaisedTwice: each re-wrapping goes through the old key, also when one was
// left out; what was sealed in between is not lost.
func TestTCBRaisedTwice(t *testing.T) {
	w := newWorld()
	sealText(t, w.ready(t), billing, "one", "1")
	w.machine.now.TCB[7]++
	sealText(t, w.ready(t), billing, "two", "2")
	w.machine.now.TCB[6]++
	s := w.ready(t)
	if st := state(t, s); !st.Rewrap {
		t.Error("the state does not say that blobs should be sealed again")
	}
	if r, err := s.Rewrap(t.Context()); err != nil || r.Written != 3 {
		t.Fatalf("%v, %v", r, err)
	}
	if st := state(t, s); st.Rewrap || st.Orphans != 0 {
		t.Errorf("%+v", st)
	}
	w.machine.now.TCB[6]--
	if err := state(t, w.open(t)).Err; !errors.Is(err, api.CodeTCBBelow) {
		t.Errorf("lowered again: %v", err)
	}
}

// TestManyAtOnce is for the race detector.
func TestManyAtOnce(t *testing.T) {
	s := newWorld().ready(t)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			name := fmt.Sprint("token", i)
			for range 5 {
				if err := trySeal(s, billing, name, name); err != nil {
					t.Error(err)
				}
				if got, err := unsealText(s, billing, name); err != nil || got != name {
					t.Errorf("%q, %v", got, err)
				}
				if _, err := deriveText(s, ledger, name, 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if st := state(t, s); st.Blobs != 10 || st.Generation != 42 {
		t.Errorf("%+v", st)
	}
}

func BenchmarkDeriveWarm(b *testing.B) {
	s := newWorld().ready(b)
	for b.Loop() {
		if _, err := deriveText(s, billing, "disk", 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnsealWarm(b *testing.B) {
	s := newWorld().ready(b)
	sealText(b, s, billing, "token", "hunter2")
	for b.Loop() {
		if _, err := unsealText(s, billing, "token"); err != nil {
			b.Fatal(err)
		}
	}
}
