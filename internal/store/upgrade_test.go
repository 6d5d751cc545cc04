// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/transfer"
	"github.com/cvm-agentd/agentd/sealing"
)

// releaseKey makes a key that signs releases.
func releaseKey(t testing.TB) transfer.ReleaseKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	k, err := transfer.ParseReleaseKey(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// images of a machine, by the first byte of their launch measurement.
const imageA, imageB = 0xaa, 0xbb

// launch is the same world under another image: files, chip and TPM are shared.
func (w *world) launched(image byte) *world {
	c := *w
	m := *w.machine
	m.now.Measurement[0] = image
	c.machine = &m
	return &c
}

// volume is what the agent keeps the record of an enrolled volume as.
var volume = store.Caller{App: sealing.App{Name: "disk:data", Unit: "systemd-cryptsetup@data.service", User: "root"}}

// oldWorld is a machine under image A with secrets of two apps, one that root provisioned, the
// record of a volume, and a release key.
func oldWorld(t testing.TB) (w *world, derived string) {
	t.Helper()
	w = newWorld()
	recipient, _ := identity(t)
	w.config.Recipients, w.config.LoseOnHardwareChange = []string{recipient}, false
	w.config.ReleaseKey = func() (transfer.ReleaseKey, error) { return releaseKey(t), nil }
	s := w.ready(t)
	sealText(t, s, billing, "token", "one")
	sealText(t, s, ledger, "kept", "kept")
	sealText(t, s, volume, "record", "header and key")
	if err := provision(billing, "password", "of root", false)(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Rotate(context.Background(), "billing"); err != nil {
		t.Fatal(err)
	}
	if err := s.RequireDigest(context.Background(), billing.App, billing.Digest); err != nil {
		t.Fatal(err)
	}
	derived, err := deriveText(s, billing, "disk", 1)
	if err != nil {
		t.Fatal(err)
	}
	return w, derived
}

// whole returns a check that a store has everything that oldWorld made.
func whole(derived string) func(*store.Store) error {
	return func(s *store.Store) error {
		if err := all(holds(billing, "token", "one"), holds(ledger, "kept", "kept"), has(2, true), permits(9, false),
			hands("password", "of root"), holds(volume, "record", "header and key"))(s); err != nil {
			return err
		}
		if got, err := deriveText(s, billing, "disk", 1); err != nil || got != derived {
			return fmt.Errorf("billing derives another secret: %v", err)
		}
		return nil
	}
}

func prepare(s *store.Store) (transfer.Offer, error) {
	offer, _, err := s.Prepare(context.Background(), func(u store.Upgrade) (store.Preparation, error) {
		return store.Preparation{Number: u.Number + 1, Expires: 1 << 40, Policy: "version = 1"}, nil
	})
	return offer, err
}

// ask returns the request of a successor, with evidence that nothing here looks at.
func ask(s *store.Store, offer transfer.Offer) (*transfer.Request, error) {
	r, err := s.Ask(context.Background(), offer)
	if err != nil {
		return nil, err
	}
	r.Evidence = []byte("evidence")
	b := r.Encode()
	return transfer.ParseRequest(b)
}

func accept(s *store.Store, answer []byte, key sealing.StoreKey) error {
	a, err := transfer.ParseAnswer(answer)
	if err != nil {
		return err
	}
	_, _, err = s.Accept(context.Background(), a, key)
	return err
}

func handOver(s *store.Store, r *transfer.Request) ([]byte, error) {
	b, _, err := s.HandOver(context.Background(), r)
	return b, err
}

// try fails the test for an error.
func try[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// TestUpgradeInPlace: the successor has the folder, the chip and the TPM of its predecessor, which
// can go back until root is sure.
func TestUpgradeInPlace(t *testing.T) {
	w, derived := oldWorld(t)
	key := state(t, w.ready(t)).StoreKey
	offer := try[transfer.Offer](t)(prepare(w.ready(t)))

	successor := w.launched(imageB)
	if err := state(t, successor.open(t)).Err; !errors.Is(err, api.CodeOtherMeasurement) {
		t.Fatalf("image B opens the store of A: %v", err)
	}
	r := try[*transfer.Request](t)(ask(successor.open(t), offer))
	answer := try[[]byte](t)(handOver(w.ready(t), r))
	if err := accept(successor.open(t), answer, key); err != nil {
		t.Fatal(err)
	}
	b := successor.ready(t)
	if err := whole(derived)(b); err != nil {
		t.Fatal(err)
	}
	if st := state(t, b); st.StoreKey != key || st.NewKey || len(st.Recipients) != 1 || !st.Counted {
		t.Errorf("state of the successor: %+v", st)
	}
	sealText(t, b, ledger, "new", "of B")

	// Back to A, which keeps what it had.
	if err := state(t, w.open(t)).Err; !errors.Is(err, api.CodeOtherMeasurement) {
		t.Fatalf("image A opens the store of B: %v", err)
	}
	back := w.open(t)
	if done := try[store.GivenUp](t)(back.GiveUp(t.Context())); !done.Returned || !done.Answered {
		t.Errorf("going back: %+v", done)
	}
	a := w.ready(t)
	if err := all(whole(derived), lacks(ledger, "new"))(a); err != nil {
		t.Fatal(err)
	}
	sealText(t, a, ledger, "new", "of A")
	if len(w.tpm.counters) != 1 {
		t.Errorf("%d counters are left in the TPM, want 1", len(w.tpm.counters))
	}
}

// TestUpgradeFinished: after root is sure, the predecessor opens nothing here, and nothing of it
// is left.
func TestUpgradeFinished(t *testing.T) {
	w, derived := oldWorld(t)
	before := w.files.clone()
	key := state(t, w.ready(t)).StoreKey
	offer := try[transfer.Offer](t)(prepare(w.ready(t)))
	successor := w.launched(imageB)
	r := try[*transfer.Request](t)(ask(successor.open(t), offer))
	answer := try[[]byte](t)(handOver(w.ready(t), r))
	if err := accept(successor.open(t), answer, key); err != nil {
		t.Fatal(err)
	}
	if n := state(t, successor.ready(t)).Orphans; n == 0 {
		t.Error("the blobs of the predecessor are gone before the upgrade is finished")
	}
	b := successor.ready(t)
	if err := b.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := all(whole(derived))(successor.ready(t)); err != nil {
		t.Fatal(err)
	}
	if st := state(t, successor.ready(t)); st.Orphans != 0 || len(w.tpm.counters) != 1 {
		t.Errorf("%d files and %d counters are left", st.Orphans, len(w.tpm.counters))
	}
	if err := b.Finish(t.Context()); !errors.Is(err, api.CodeNothingToDo) {
		t.Errorf("finished twice: %v", err)
	}
	if _, err := w.open(t).GiveUp(t.Context()); !errors.Is(err, api.CodeOtherMeasurement) {
		t.Errorf("A goes back all the same: %v", err)
	}
	old := &world{machine: w.machine, tpm: w.tpm, files: before, config: w.config}
	if err := state(t, old.open(t)).Err; !errors.Is(err, api.CodeCounterLost) {
		t.Errorf("files of before the upgrade under image A: %v, want %s", err, api.CodeCounterLost)
	}
}

// TestUpgradeElsewhere: the successor is on another chip with another TPM and its own folder.
func TestUpgradeElsewhere(t *testing.T) {
	w, derived := oldWorld(t)
	key := state(t, w.ready(t)).StoreKey
	for _, made := range []bool{false, true} { // whether the successor made a store at its first start
		other := newWorld()
		other.machine.setChip("chip two")
		other.machine.now.Measurement[0] = imageB
		other.tpm.ek++
		if other.config.LoseOnHardwareChange = made; made {
			other.config.ReleaseKey = w.config.ReleaseKey
		}
		offer := try[transfer.Offer](t)(prepare(w.ready(t)))
		r := try[*transfer.Request](t)(ask(other.open(t), offer))
		answer := try[[]byte](t)(handOver(w.ready(t), r))
		if err := accept(other.open(t), answer, key); err != nil {
			t.Fatal(err)
		}
		b := other.ready(t)
		if err := whole(derived)(b); err != nil {
			t.Fatal(err)
		}
		sealText(t, b, ledger, "next", "next")
		if err := all(whole(derived), holds(ledger, "next", "next"))(other.ready(t)); err != nil {
			t.Fatal(err)
		}
		us := try[store.UpgradeState](t)(b.UpgradeState(t.Context()))
		id := r.ID()
		if string(us.Accepted) != string(id[:]) || us.Number != 1 || us.Past || us.Asked || us.ReleaseKey == "" {
			t.Errorf("the successor remembers %+v", us)
		}
		if done := try[store.GivenUp](t)(w.ready(t).GiveUp(t.Context())); !done.Answered || done.Returned {
			t.Errorf("giving up: %+v", done)
		}
	}
}

// TestUpgradeFreezes: what was handed over is not changed, but read, until root gives it up.
func TestUpgradeFreezes(t *testing.T) {
	w, derived := oldWorld(t)
	s := w.ready(t)
	offer := try[transfer.Offer](t)(prepare(s))
	sealText(t, s, ledger, "between", "prepared and handed over")
	r := try[*transfer.Request](t)(ask(w.launched(imageB).open(t), offer))
	try[[]byte](t)(handOver(s, r))
	newcomer := store.Caller{App: sealing.App{Name: "new", Unit: "new.service", User: "new"}}
	recipient, _ := identity(t)
	for name, change := range map[string]func(*store.Store) error{
		"seal":         func(s *store.Store) error { return trySeal(s, ledger, "x", "y") },
		"first secret": func(s *store.Store) error { _, err := deriveText(s, newcomer, "a", 0); return err },
		"provision":    func(s *store.Store) error { return provision(ledger, "x", "y", false)(context.Background(), s) },
		"rotate what root provisioned": func(s *store.Store) error {
			return provision(billing, "password", "z", true)(context.Background(), s)
		},
		"remove what root provisioned": func(s *store.Store) error { return s.Unprovision(context.Background(), "billing", "password") },
		"record of a volume":           func(s *store.Store) error { return trySeal(s, volume, "record", "next") },
		"whether it can be changed":    func(s *store.Store) error { return s.Changeable(context.Background()) },
		"forget a volume":              func(s *store.Store) error { return s.Forget(context.Background(), volume.App.Name) },
		"discard":                      func(s *store.Store) error { return s.Delete(context.Background(), ledger, "kept") },
		"rotate":                       func(s *store.Store) error { _, err := s.Rotate(context.Background(), "ledger"); return err },
		"retire":                       func(s *store.Store) error { return s.Retire(context.Background(), "billing", 1) },
		"digest": func(s *store.Store) error {
			return s.AuthorizeDigest(context.Background(), "billing", evidence.Digest{9})
		},
		"require": func(s *store.Store) error {
			return s.RequireDigest(context.Background(), ledger.App, evidence.Digest{9})
		},
		"recipients": func(s *store.Store) error {
			_, err := s.ChangeRecipients(context.Background(), []string{recipient}, false)
			return err
		},
		"store key":     func(s *store.Store) error { _, err := s.RotateStoreKey(context.Background()); return err },
		"recover":       func(s *store.Store) error { _, err := s.Recover(context.Background(), store.Recovery{}); return err },
		"release key":   func(s *store.Store) error { return s.PinReleaseKey(context.Background(), releaseKey(t)) },
		"prepare again": func(s *store.Store) error { _, err := prepare(s); return err },
	} {
		for again, s := range []*store.Store{s, w.ready(t)} {
			if err := change(s); !errors.Is(err, api.CodeHandedOver) {
				t.Errorf("%s, restarted %v: %v, want %s", name, again == 1, err, api.CodeHandedOver)
			}
		}
	}
	s = w.ready(t)
	if err := whole(derived)(s); err != nil {
		t.Error(err)
	}
	w.machine.now.TCB[7]++ // what changes nothing for a successor goes on
	s = w.ready(t)
	if _, err := s.Rewrap(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.GiveUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := all(whole(derived), holds(ledger, "between", "prepared and handed over"))(w.ready(t)); err != nil {
		t.Error(err)
	}
	sealText(t, w.ready(t), ledger, "x", "y")
}

// TestUpgradeUsedOnce: case 122. One preparation serves one successor, and that one again if the answer was
// lost. What came before it, or is for another store, is refused by a code of its own.
func TestUpgradeUsedOnce(t *testing.T) {
	w, derived := oldWorld(t)
	key := state(t, w.ready(t)).StoreKey
	other := func(chip string) *world {
		o := newWorld()
		o.config.LoseOnHardwareChange = false
		o.machine.setChip(chip)
		o.machine.now.Measurement[0] = imageB
		return o
	}
	first, second := other("one"), other("two")
	earlier := try[transfer.Offer](t)(prepare(w.ready(t)))
	old := try[*transfer.Request](t)(ask(first.open(t), earlier))
	offer := try[transfer.Offer](t)(prepare(w.ready(t)))
	for name, c := range map[string]struct {
		r    *transfer.Request
		code api.Code
	}{
		"of an earlier preparation": {old, api.CodeOtherPreparation},
		"for another store":         {&transfer.Request{Challenge: offer.Challenge, StoreKey: sealing.StoreKey{1}, Public: old.Public}, api.CodeOtherPreparation},
	} {
		if _, err := handOver(w.ready(t), c.r); !errors.Is(err, c.code) {
			t.Errorf("request %s: %v, want %s", name, err, c.code)
		}
	}
	one := try[*transfer.Request](t)(ask(first.open(t), offer))
	two := try[*transfer.Request](t)(ask(second.open(t), offer))
	if one.ID() == two.ID() {
		t.Fatal("two successors are one")
	}
	lost := try[[]byte](t)(handOver(w.ready(t), one))
	if _, err := handOver(w.ready(t), two); !errors.Is(err, api.CodePreparationUsed) {
		t.Errorf("a second successor: %v", err)
	}
	// The answer was lost; the successor was restarted and asks again.
	again := try[*transfer.Request](t)(ask(first.open(t), offer))
	answer := try[[]byte](t)(handOver(w.ready(t), again))
	if err := accept(second.open(t), answer, key); !errors.Is(err, api.CodeOtherRequest) {
		t.Errorf("another successor takes the answer: %v", err)
	}
	if err := accept(first.open(t), answer, sealing.StoreKey{1}); !errors.Is(err, api.CodeOtherStoreKey) {
		t.Errorf("another store key: %v", err)
	}
	if err := accept(first.open(t), answer, key); err != nil {
		t.Fatal(err)
	}
	if err := whole(derived)(first.ready(t)); err != nil {
		t.Fatal(err)
	}
	if err := accept(first.ready(t), answer, key); err != nil {
		t.Errorf("accepted once more: %v", err)
	}
	sealText(t, first.ready(t), ledger, "kept", "changed")
	if err := accept(first.ready(t), lost, key); err != nil {
		t.Errorf("the answer that was lost comes late: %v", err)
	}
	if err := holds(ledger, "kept", "changed")(first.ready(t)); err != nil {
		t.Errorf("a late answer undid a change: %v", err)
	}
	if _, err := ask(first.ready(t), offer); !errors.Is(err, api.CodeStoreInUse) {
		t.Errorf("a store in use asks for another: %v", err)
	}
	if _, err := ask(w.ready(t), offer); !errors.Is(err, api.CodeStoreInUse) {
		t.Errorf("reflection: the old agent asks itself: %v", err)
	}
	if _, err := w.ready(t).GiveUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := handOver(w.ready(t), again); !errors.Is(err, api.CodeNoPreparation) {
		t.Errorf("after it was given up: %v", err)
	}
}

// TestUpgradeAnswerChanged: one bit anywhere in an answer, and it is refused; nothing is left.
func TestUpgradeAnswerChanged(t *testing.T) {
	w, _ := oldWorld(t)
	key := state(t, w.ready(t)).StoreKey
	offer := try[transfer.Offer](t)(prepare(w.ready(t)))
	b := newWorld()
	b.config.LoseOnHardwareChange, b.machine.now.Measurement[0] = false, imageB
	r := try[*transfer.Request](t)(ask(b.open(t), offer))
	answer := try[[]byte](t)(handOver(w.ready(t), r))
	files := len(b.files.files)
	for at := 0; at < len(answer); at += 1 + len(answer)/500 {
		changed := append([]byte(nil), answer...)
		changed[at] ^= 1
		err := accept(b.open(t), changed, key)
		switch sealing.CodeOf(err) {
		case api.CodeMalformedMessage, api.CodeOtherStoreKey:
		default:
			t.Fatalf("byte %d of %d changed: %v", at, len(answer), err)
		}
	}
	if len(b.files.files) != files {
		t.Errorf("%d files, %d before", len(b.files.files), files)
	}
	for n := range 40 { // cut
		if err := accept(b.open(t), answer[:len(answer)*n/40], key); !errors.Is(err, api.CodeMalformedMessage) {
			t.Fatalf("cut: %v", err)
		}
	}
	if err := accept(b.open(t), answer, key); err != nil {
		t.Fatal(err)
	}
}

// TestReleaseKeyStaysPinned: a file that names another key changes nothing after the first start,
// and a recovery from a disk of unknown origin pins nothing.
func TestReleaseKeyStaysPinned(t *testing.T) {
	w, _ := oldWorld(t)
	pinned := try[store.UpgradeState](t)(w.ready(t).UpgradeState(t.Context())).ReleaseKey
	w.config.ReleaseKey = func() (transfer.ReleaseKey, error) { return releaseKey(t), nil }
	if got := try[store.UpgradeState](t)(w.ready(t).UpgradeState(t.Context())).ReleaseKey; got != pinned || pinned == "" {
		t.Errorf("pinned %q, want %q", got, pinned)
	}
	recipient, ids := identity(t)
	if _, err := w.ready(t).ChangeRecipients(t.Context(), []string{recipient}, false); err != nil {
		t.Fatal(err)
	}
	w.machine.setChip("chip two")
	s := w.open(t)
	if _, err := s.Recover(t.Context(), store.Recovery{Identities: ids, TrustWriter: true, Recipients: []string{recipient}}); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(w.ready(t)); !errors.Is(err, api.CodeNoReleaseKey) {
		t.Errorf("prepared under a key that an attacker may have written: %v", err)
	}
	if err := w.ready(t).PinReleaseKey(t.Context(), releaseKey(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(w.ready(t)); err != nil {
		t.Error(err)
	}
	none := newWorld()
	if _, err := prepare(none.ready(t)); !errors.Is(err, api.CodeNoReleaseKey) {
		t.Errorf("without any key: %v", err)
	}
}

// TestUpgradeNoReturnToOlder: an older manifest of the predecessor in the place of the one of
// before the upgrade is refused, and the successor's stays in force.
func TestUpgradeNoReturnToOlder(t *testing.T) {
	w, derived := oldWorld(t)
	older := w.files.files["manifest.sealed"]
	sealText(t, w.ready(t), ledger, "kept", "kept")
	key := state(t, w.ready(t)).StoreKey
	offer := try[transfer.Offer](t)(prepare(w.ready(t)))
	successor := w.launched(imageB)
	r := try[*transfer.Request](t)(ask(successor.open(t), offer))
	answer := try[[]byte](t)(handOver(w.ready(t), r))
	if err := accept(successor.open(t), answer, key); err != nil {
		t.Fatal(err)
	}
	genuine := w.files.files["before-upgrade.sealed"]
	w.files.files["before-upgrade.sealed"] = older
	if _, err := w.open(t).GiveUp(t.Context()); !errors.Is(err, api.CodeRolledBack) {
		t.Errorf("an older state: %v, want %s", err, api.CodeRolledBack)
	}
	if err := whole(derived)(successor.ready(t)); err != nil {
		t.Errorf("the successor after that: %v", err)
	}
	w.files.files["before-upgrade.sealed"] = genuine
	if _, err := w.open(t).GiveUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := whole(derived)(w.ready(t)); err != nil {
		t.Error(err)
	}
}
