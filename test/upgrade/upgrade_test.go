// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
)

const lose = "[keys]\nlose_on_hardware_change = true\n"

// old is a machine under image A whose apps have secrets, with its release key and store key.
func old(t *testing.T) (x *machine, r *releases, s secrets, storeKey string) {
	t.Helper()
	x, r = newMachine(t, 1, lose), newReleases(t)
	a := x.on(imageA)
	_, err := a.PinReleaseKey(t.Context(), r.file)
	must(t, err)
	s = x.store()
	st, err := a.Store(t.Context())
	must(t, err)
	return x, r, s, st.Status.StoreKey
}

// TestSameChip: image B takes over in the folder of A, with its chip and TPM, by messages that are
// kept while the machine boots the one and the other. A goes back. Then B takes over again, for
// good: A opens nothing any more.
func TestSameChip(t *testing.T) {
	x, r, want, storeKey := old(t)
	prepare := r.release(t, 1, time.Now().Add(time.Hour), policy(imageB))
	for _, finish := range []bool{false, true} {
		p, err := x.on(imageA).PrepareUpgrade(t.Context(), prepare)
		must(t, err)
		q, err := x.on(imageB).RequestUpgrade(t.Context(), p.Offer)
		must(t, err)
		h, err := x.on(imageA).AnswerUpgrade(t.Context(), q.Request)
		must(t, err)
		x.same(want)
		if _, err := x.as("ledger", "x", "seal", "--name", "late", "-"); err == nil {
			t.Error("a store that was handed over was changed")
		}
		b := x.on(imageB)
		done, err := b.AcceptUpgrade(t.Context(), h.Answer, storeKey)
		must(t, err)
		if done.Upgrade.State != api.UpgradeAccepted || done.Written != p.Entries || p.Entries != 2 {
			t.Errorf("accepted %+v, prepared %d entries", done, p.Entries)
		}
		x.same(want)
		x.on(imageB)
		x.same(want)
		if finish {
			break
		}
		a := x.on(imageA)
		if u, err := a.Upgrade(t.Context()); err != nil || u.State != api.UpgradeReplaced {
			t.Fatalf("the old image: %+v, %v", u, err)
		}
		back, err := a.AbortUpgrade(t.Context())
		if err != nil || !back.Returned || !back.Answered {
			t.Fatalf("going back: %+v, %v", back, err)
		}
		x.same(want)
		x.on(imageA)
		x.same(want)
	}
	_, err := x.on(imageB).FinishUpgrade(t.Context())
	must(t, err)
	x.same(want)
	_, err = x.on(imageA).AbortUpgrade(t.Context())
	refusedBy(t, "the old image after the upgrade was finished", err, api.CodeOtherMeasurement)
	x.on(imageB)
	x.same(want)
}

// TestOtherChip: image B takes over on another chip with another TPM, without a store, or with
// one that is still empty. What is stored there later is not lost by a late answer.
func TestOtherChip(t *testing.T) {
	x, r, want, storeKey := old(t)
	for _, config := range []string{"[keys]\nlose_on_hardware_change = false\n", lose} {
		p, err := x.on(imageA).PrepareUpgrade(t.Context(), r.release(t, 1, time.Now().Add(time.Hour), policy(imageB)))
		must(t, err)
		y := newMachine(t, 2, config)
		b := y.on(imageB)
		q, err := b.RequestUpgrade(t.Context(), p.Offer)
		must(t, err)
		h, err := x.m.Admin().AnswerUpgrade(t.Context(), q.Request)
		must(t, err)
		_, err = b.AcceptUpgrade(t.Context(), h.Answer, storeKey)
		must(t, err)
		y.same(want)
		b = y.on(imageB)
		y.same(want)
		if _, err := y.as("ledger", "new", "seal", "--name", "late", "-"); err != nil {
			t.Fatal(err)
		}
		again, err := b.AcceptUpgrade(t.Context(), h.Answer, storeKey)
		if err != nil || !again.Again {
			t.Errorf("the answer comes again: %+v, %v", again, err)
		}
		if got, err := y.as("ledger", "", "unseal", "--name", "late"); err != nil || got != "new" {
			t.Errorf("a late answer undid a change: %q, %v", got, err)
		}
		if u := again.Upgrade; u.State != api.UpgradeNone || u.Number != 1 || u.ReleaseKey == "" {
			t.Errorf("the successor remembers %+v", u)
		}
		_, err = x.m.Admin().AbortUpgrade(t.Context())
		must(t, err)
	}
	x.same(want)
}
