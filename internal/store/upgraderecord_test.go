// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// upgradeState asks a store how far an upgrade is.
func upgradeState(t *testing.T, s *store.Store) store.UpgradeState {
	t.Helper()
	return try[store.UpgradeState](t)(s.UpgradeState(t.Context()))
}

// TestRecordOfUnknownOrigin: a disk that an attacker wrote is recovered without its store key. What
// root then ends or pins does not make the attacker's release key root's, nor its number, above
// which there would be no release any more.
func TestRecordOfUnknownOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		answered bool
		change   func(*store.Store) error
		key      bool // whether root pinned one
	}{
		"prepared, given up": {false, func(s *store.Store) error { _, err := s.GiveUp(t.Context()); return err }, false},
		"answered, given up": {true, func(s *store.Store) error { _, err := s.GiveUp(t.Context()); return err }, false},
		"prepared, pinned":   {false, func(s *store.Store) error { return s.PinReleaseKey(t.Context(), releaseKey(t)) }, true},
	} {
		w, _ := oldWorld(t)
		recipient, ids := identity(t)
		if _, err := w.ready(t).ChangeRecipients(t.Context(), []string{recipient}, false); err != nil {
			t.Fatal(err)
		}
		// The store came from a release, so that it has a number.
		other := newWorld()
		other.config.LoseOnHardwareChange = false
		other.machine.setChip("chip two")
		key := state(t, w.ready(t)).StoreKey
		r := try[*transfer.Request](t)(ask(other.open(t), try[transfer.Offer](t)(prepare(w.ready(t)))))
		if err := accept(other.open(t), try[[]byte](t)(handOver(w.ready(t), r)), key); err != nil {
			t.Fatal(err)
		}
		offer := try[transfer.Offer](t)(prepare(other.ready(t)))
		if c.answered {
			third := newWorld()
			third.config.LoseOnHardwareChange = false
			try[[]byte](t)(handOver(other.ready(t), try[*transfer.Request](t)(ask(third.open(t), offer))))
		}
		other.machine.setChip("chip three")
		if _, err := other.open(t).Recover(t.Context(), store.Recovery{Identities: ids, TrustWriter: true, Recipients: []string{recipient}}); err != nil {
			t.Fatal(err)
		}
		if u := upgradeState(t, other.ready(t)); !u.Unproven || u.Number == 0 || u.ReleaseKey == "" {
			t.Fatalf("%s: recovered %+v", name, u)
		}
		if err := c.change(other.ready(t)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if u := upgradeState(t, other.ready(t)); u.Number != 0 || (u.ReleaseKey != "") != c.key {
			t.Errorf("%s: an attacker's values are root's: %+v", name, u)
		}
		if _, err := prepare(other.ready(t)); !c.key && !errors.Is(err, api.CodeNoReleaseKey) || c.key && err != nil {
			t.Errorf("%s: prepared: %v", name, err)
		}
	}
}

// TestRecordOutlivesAFailingDisk: the disk fails, which the host can arrange, while root ends an
// upgrade or pins a key. The record is not made anew because of that.
func TestRecordOutlivesAFailingDisk(t *testing.T) {
	w, _ := oldWorld(t)
	try[transfer.Offer](t)(prepare(w.ready(t)))
	want := upgradeState(t, w.ready(t))
	for name, change := range map[string]func(*store.Store) error{
		"give up": func(s *store.Store) error { _, err := s.GiveUp(t.Context()); return err },
		"pin":     func(s *store.Store) error { return s.PinReleaseKey(t.Context(), releaseKey(t)) },
	} {
		s := w.ready(t)
		w.files.calls = func(call string) error {
			if strings.HasPrefix(call, "read ") {
				return errFault
			}
			return nil
		}
		err := change(s)
		w.files.calls = nil
		if !errors.Is(err, api.CodeRootUnavailable) {
			t.Errorf("%s: %v, want %s", name, err, api.CodeRootUnavailable)
		}
		if got := upgradeState(t, w.ready(t)); got.ReleaseKey != want.ReleaseKey || got.Prepared == nil {
			t.Errorf("%s: %+v is left of %+v", name, got, want)
		}
	}
}

// TestDamagedRecord: the record of upgrades is damaged. Nothing is changed then, since the store may
// have been handed over, until root gives up; and no release key is pinned after that.
func TestDamagedRecord(t *testing.T) {
	w, derived := oldWorld(t)
	for name, raw := range w.files.files {
		if b, err := sealing.ParseBlob(raw); err == nil && b.Claimed.App.Name == ".upgrade" {
			w.files.files[name][len(raw)/2] ^= 1
		}
	}
	s := w.ready(t)
	if err := trySeal(s, ledger, "x", "y"); sealing.CodeOf(err) == "" || sealing.CodeOf(err) == api.CodeRootUnavailable {
		t.Errorf("a change: %v", err)
	}
	if u := upgradeState(t, s); u.Err == nil || u.StoreKey == "" {
		t.Errorf("state %+v", u)
	}
	if _, err := s.GiveUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	sealText(t, w.ready(t), ledger, "x", "y")
	if err := whole(derived)(w.ready(t)); err != nil {
		t.Error(err)
	}
	if _, err := prepare(w.ready(t)); !errors.Is(err, api.CodeNoReleaseKey) {
		t.Errorf("prepared: %v", err)
	}
}

// TestTooLargeIsSaidBefore: a store with more than an answer can have is refused before it is handed
// over, also if it is names that make it too large.
func TestTooLargeIsSaidBefore(t *testing.T) {
	w, _ := oldWorld(t)
	w.config.Quota = store.Quota{Secrets: 1000, Bytes: 4 << 20}
	s := w.ready(t)
	wordy := store.Caller{App: sealing.App{Name: strings.Repeat("n", sealing.MaxName), Unit: strings.Repeat("u", sealing.MaxName-8) + ".service", User: strings.Repeat("u", sealing.MaxName)}}
	for i := range 22 {
		sealText(t, s, ledger, fmt.Sprint(i), strings.Repeat("x", sealing.MaxSecret))
	}
	offer := try[transfer.Offer](t)(prepare(s))
	r := try[*transfer.Request](t)(ask(w.launched(imageB).open(t), offer))
	for i := range 700 {
		sealText(t, s, wordy, fmt.Sprintf("%0*d", sealing.MaxName, i), "x")
	}
	for name, err := range map[string]error{
		"hand over": second(handOver(s, r)),
		"prepare":   second(prepare(s)),
	} {
		if !errors.Is(err, api.CodeTransferTooLarge) {
			t.Errorf("%s: %v, want %s", name, err, api.CodeTransferTooLarge)
		}
	}
	sealText(t, s, ledger, "not", "handed over")
}

func second[T any](_ T, err error) error { return err }
