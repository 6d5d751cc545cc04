// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// victim is a machine with a store, and what root kept of it.
func victim(t *testing.T) (w *world, how store.Recovery) {
	t.Helper()
	recipient, ids := identity(t)
	w = newWorld()
	w.config = store.Config{Recipients: []string{recipient}, RetryPause: w.config.RetryPause}
	s := w.ready(t)
	for _, c := range []store.Caller{billing, ledger} {
		_, err := deriveText(s, c, "disk", 0)
		must(t, err)
	}
	key := state(t, s).StoreKey
	return w, store.Recovery{Identities: ids, StoreKey: &key, Recipients: []string{recipient}}
}

// forgery is one way to forge, and the code with which a recovery refuses it.
type forgery struct {
	name string
	make func(*forger, store.Recovery)
	code api.Code
}

func forgeries() (all []forgery) {
	for _, sign := range []forgery{
		{"in version 1, unsigned", func(f *forger, _ store.Recovery) { f.format = 1 }, api.CodeNoSender},
		{"signed by the attacker's key", func(*forger, store.Recovery) {}, api.CodeOtherStoreKey},
		{"naming the right key", func(f *forger, how store.Recovery) { f.names = how.StoreKey }, api.CodeBadSignature},
	} {
		for slots := range none + 1 {
			for _, otherChip := range []bool{false, true} {
				if slots == none && otherChip {
					continue
				}
				all = append(all, forgery{fmt.Sprintf("%s, slots %d, other chip claimed %v", sign.name, slots, otherChip),
					func(f *forger, how store.Recovery) {
						sign.make(f, how)
						f.slots, f.otherChip = slots, otherChip
					}, sign.code})
			}
		}
	}
	return all
}

// checkUnharmed checks that nothing of the attacker came into use.
func checkUnharmed(t *testing.T, f *forger, w *world, s *store.Store) {
	t.Helper()
	for _, c := range []store.Caller{billing, ledger} {
		for version := range uint32(3) {
			if got, err := deriveText(s, c, "disk", version); err == nil && got == f.predicts(c, "disk", max(version, 1)) {
				t.Errorf("%s derives what the attacker predicted", c.App.Name)
			}
		}
	}
	if slices.Contains(state(t, s).Recipients, f.recipient) {
		t.Error("the attacker is a recovery recipient")
	}
}

// TestForgedStore: case 96. An attacker who knows only what is on the disk makes a store
// with a root and a recipient of its own, in every way, on the same chip and on another.
// Recovery refuses it without the store key and with it, and changes no file.
func TestForgedStore(t *testing.T) {
	n := 0
	for _, x := range forgeries() {
		for _, moved := range []bool{false, true} {
			n++
			w, how := victim(t)
			f := newForger(t)
			x.make(f, how)
			f.whole(w)
			if moved {
				w.machine.setChip("chip two")
			}
			s := w.open(t)
			if st := state(t, s); st.Ready {
				t.Fatalf("%s: the forged store opens", x.name)
			}
			before := maps.Clone(w.files.files)
			without := how
			without.StoreKey = nil
			if _, err := s.Recover(t.Context(), without); !errors.Is(err, api.CodeStoreKeyNeeded) {
				t.Errorf("%s: without the store key: %v", x.name, err)
			}
			// With the right key named, the manifest is damage, and every blob is tried.
			if _, err := s.Recover(t.Context(), how); !errors.Is(err, x.code) {
				t.Errorf("%s: %v, want %s", x.name, err, x.code)
			}
			checkUnharmed(t, f, w, s)
			if !maps.EqualFunc(before, w.files.files, slices.Equal) {
				t.Errorf("%s: a file was changed", x.name)
			}
		}
	}
	t.Logf("%d forged stores", n)
}

// TestForgedBlob: case 96, one blob on the same chip: the app gets an error whose hint does
// not lead to recovery of the forgery, and a recovery leaves it as it is.
func TestForgedBlob(t *testing.T) {
	for _, x := range forgeries() {
		w, how := victim(t)
		f := newForger(t)
		x.make(f, how)
		f.one(w, "billing")
		s := w.ready(t)
		if _, err := deriveText(s, billing, "disk", 0); err == nil {
			t.Fatalf("%s: the forged root opens", x.name)
		}
		r, err := s.Recover(t.Context(), how)
		must(t, err)
		if r.Written != 1 || len(r.Kept) != 1 || r.Kept[0].App != "billing" || !errors.Is(r.Kept[0].Err, x.code) || r.Unproven || r.Locked {
			t.Errorf("%s: %+v, want %s", x.name, r, x.code)
		}
		checkUnharmed(t, f, w, s)
	}
}

// TestTrustedForgery: case 96 with the flag that says what it means. The app derives from
// a root that the attacker does not know, what is stored from then on opens for no identity
// of the attacker, and every answer says what the store rests on.
func TestTrustedForgery(t *testing.T) {
	for i, format := range []int{1, 2, 2} {
		w, how := victim(t)
		f := newForger(t)
		f.format = format
		if i == 2 { // an attacker who hopes that its store key stays in use
			f.recipient = ""
		}
		f.whole(w)
		w.machine.setChip("chip two")
		how.StoreKey, how.TrustWriter = nil, true
		s := w.open(t)
		r, err := s.Recover(t.Context(), how)
		must(t, err)
		if !r.Unproven || !r.NewKey || r.Newest || len(r.Rotated) != 2 || f.recipient != "" && !slices.Contains(r.ClaimedRecipients, f.recipient) || !slices.Equal(r.Recipients, how.Recipients) {
			t.Errorf("version %d: %+v", format, r)
		}
		if r.StoreKey == sealing.StoreKey(f.key[32:]) {
			t.Error("the store key is the attacker's")
		}
		if got, err := deriveText(s, billing, "disk", 0); err != nil || got == f.predicts(billing, "disk", 1) || got == f.predicts(billing, "disk", 2) {
			t.Errorf("version %d: the attacker predicted what is derived, or %v", format, err)
		}
		sealText(t, s, billing, "password", "new")
		_, err = s.Rewrap(t.Context())
		must(t, err)
		s = w.ready(t)
		if c, err := s.Contract(t.Context(), "billing", ""); err != nil || !c.Unproven || !strings.Contains(c.Text(), "an attacker may have chosen") {
			t.Errorf("version %d: %+v, %v", format, c, err)
		}
		if c, err := s.Contract(t.Context(), "billing", "password"); err != nil || c.Unproven || c.StoreKey != r.StoreKey {
			t.Errorf("version %d: what was stored since: %+v, %v", format, c, err)
		}
		if st := state(t, s); st.Unproven != 2 {
			t.Errorf("version %d: %d blobs are marked, want 2", format, st.Unproven)
		}
		// The attacker takes the disk to a machine of its own.
		theirs := w.clone()
		theirs.machine.setChip("chip three")
		stolen := store.Recovery{Identities: f.ids, TrustWriter: true, LoseOnHardwareChange: true}
		if _, err := theirs.open(t).Recover(t.Context(), stolen); !errors.Is(err, api.CodeWrongIdentity) {
			t.Errorf("version %d: the attacker's identity: %v", format, err)
		}
		for name, content := range w.files.files {
			if b, err := sealing.ParseBlob(content); err == nil && slices.Contains(b.Claimed.Recipients(), f.recipient) {
				t.Errorf("version %d: %s is sealed to the attacker", format, name)
			}
		}
		checkMarksEnd(t, s)
	}
}

// checkMarksEnd retires the roots of unknown writers: the marks go.
func checkMarksEnd(t *testing.T, s *store.Store) {
	t.Helper()
	for _, app := range []string{"billing", "ledger"} {
		must(t, s.Retire(t.Context(), app, 1))
	}
	if st := state(t, s); st.Unproven != 0 {
		t.Errorf("%d blobs are still marked", st.Unproven)
	}
}

// TestTrustedForgeryOfOneBlob: the rest of the store stays as it is.
func TestTrustedForgeryOfOneBlob(t *testing.T) {
	w, how := victim(t)
	ours, err := deriveText(w.ready(t), ledger, "disk", 0)
	must(t, err)
	f := newForger(t)
	f.one(w, "billing")
	s := w.ready(t)
	kept := *how.StoreKey
	how.StoreKey, how.TrustWriter = nil, true
	r, err := s.Recover(t.Context(), how)
	must(t, err)
	if !r.Unproven || r.NewKey || r.StoreKey != kept || len(r.Rotated) != 1 || r.Rotated[0] != (store.RootVersion{App: "billing", Version: 2}) {
		t.Errorf("%+v", r)
	}
	if got, err := deriveText(s, ledger, "disk", 0); err != nil || got != ours {
		t.Errorf("the other app: %v", err)
	}
	if got, err := deriveText(s, billing, "disk", 0); err != nil || got == f.predicts(billing, "disk", 1) || got == f.predicts(billing, "disk", 2) {
		t.Errorf("the app: %v", err)
	}
}

// TestForgedNumbers: versions and generations at their ends neither wrap around nor leave
// the attacker's root in use.
func TestForgedNumbers(t *testing.T) {
	for _, c := range []struct {
		name string
		make func(*forger)
	}{
		{"highest version", func(f *forger) { f.version = math.MaxUint32 }},
		{"highest generation", func(f *forger) { f.generation = sealing.MaxGeneration }},
	} {
		w, how := victim(t)
		f := newForger(t)
		c.make(f)
		f.whole(w)
		w.machine.setChip("chip two")
		how.StoreKey, how.TrustWriter = nil, true
		s := w.open(t)
		_, err := s.Recover(t.Context(), how)
		if err == nil {
			if got, err := deriveText(s, billing, "disk", 0); err == nil && (got == f.predicts(billing, "disk", 1) || got == f.predicts(billing, "disk", math.MaxUint32)) {
				t.Errorf("%s: the attacker's root is in use", c.name)
			}
		} else if sealing.CodeOf(err) == "" {
			t.Errorf("%s: %v", c.name, err)
		}
		t.Logf("%s: %v", c.name, err)
	}
}

// TestWeakerSlotIsNoProof: the host runs the TPM, so it can seal to a secret of that TPM.
// On a machine that seals to the SNP key too, such a store opens only if the store key
// signed it.
func TestWeakerSlotIsNoProof(t *testing.T) {
	for _, format := range []int{1, 2} {
		w, how := victim(t)
		f := newForger(t)
		f.format, f.slots = format, byTPM
		record, name, secret, err := w.tpm.Seal(t.Context())
		must(t, err)
		f.tpmName = name
		must(t, secret.Use(func(b []byte) error { f.tpmSecret = slices.Clone(b); return nil }))
		f.whole(w)
		w.files.files[store.SecretFile(name)] = record
		s := w.open(t)
		if err := state(t, s).Err; !errors.Is(err, api.CodeWeakerSlot) {
			t.Fatalf("version %d: %v, want %s", format, err, api.CodeWeakerSlot)
		}
		want := api.CodeOtherStoreKey
		if format == 1 {
			want = api.CodeNoSender
		}
		how.Identities = nil // no identity is needed for a slot of the machine
		if _, err := s.Recover(t.Context(), how); !errors.Is(err, want) {
			t.Errorf("version %d: %v, want %s", format, err, want)
		}
		if _, err := s.Recover(t.Context(), store.Recovery{Recipients: how.Recipients}); !errors.Is(err, api.CodeWeakerSlot) {
			t.Errorf("version %d, without a store key: %v", format, err)
		}
		checkUnharmed(t, f, w, s)
	}
}

// TestStrippedSignature: an attacker who takes the signature off a genuine blob, and calls
// it version 1, has a blob that does not open.
func TestStrippedSignature(t *testing.T) {
	w, how := victim(t)
	for name, content := range w.files.files {
		if strings.HasSuffix(name, ".sealed") {
			list := fields(t, content)
			w.files.files[name] = withPrelude("agentd/sealed/1\n", content[24:list[len(list)-2].end])
		}
	}
	s := w.open(t)
	if err := state(t, s).Err; !errors.Is(err, api.CodeAltered) {
		t.Errorf("%v, want %s", err, api.CodeAltered)
	}
	if _, err := s.Recover(t.Context(), how); err == nil {
		t.Error("it was recovered")
	}
}

// TestOldStoreKeyIsAcceptedNoMore: after a new store key, or after a recipient went, an
// older store, which is genuine, is not recovered with what root keeps now.
func TestOldStoreKeyIsAcceptedNoMore(t *testing.T) {
	other, _ := identity(t)
	for name, happens := range map[string]func(*store.Store) (store.Report, error){
		"store key rotated": func(s *store.Store) (store.Report, error) { return s.RotateStoreKey(t.Context()) },
		"recipient removed": func(s *store.Store) (store.Report, error) {
			return s.ChangeRecipients(t.Context(), []string{other}, false)
		},
	} {
		w, how := victim(t)
		old := w.files.clone()
		s := w.ready(t)
		before := *how.StoreKey
		r, err := happens(s)
		must(t, err)
		if !r.NewKey || r.StoreKey == before || r.StoreKey != state(t, s).StoreKey {
			t.Errorf("%s: %+v", name, r)
		}
		if st := state(t, w.ready(t)); st.StoreKey != r.StoreKey {
			t.Errorf("%s: after a restart %s", name, st.StoreKey)
		}
		w.files = old
		w.machine.setChip("chip two")
		how.StoreKey = &r.StoreKey
		if _, err := w.open(t).Recover(t.Context(), how); !errors.Is(err, api.CodeOtherStoreKey) {
			t.Errorf("%s: %v, want %s", name, err, api.CodeOtherStoreKey)
		}
	}
	// A recipient more is not a reason.
	w, how := victim(t)
	r, err := w.ready(t).ChangeRecipients(t.Context(), append(how.Recipients, other), false)
	must(t, err)
	if r.NewKey || r.StoreKey != *how.StoreKey {
		t.Errorf("recipient added: %+v", r)
	}
}

// TestReplayedStoreOnItsTPM: an attacker breaks the machine's slot by deleting the TPM's
// record, and puts an older genuine store in place: the counter tells, and root decides.
func TestReplayedStoreOnItsTPM(t *testing.T) {
	w, how := victim(t)
	sealText(t, w.ready(t), billing, "token", "old")
	old := w.files.clone()
	sealText(t, w.ready(t), billing, "token", "new")
	w.files = old
	for name := range w.files.files {
		if strings.HasPrefix(name, "tpmsecret-") {
			delete(w.files.files, name)
		}
	}
	s := w.open(t)
	if err := state(t, s).Err; !errors.Is(err, api.CodeTPMSecretMissing) {
		t.Fatal(err)
	}
	if _, err := s.Recover(t.Context(), how); !errors.Is(err, api.CodeRolledBack) || !strings.Contains(err.Error(), "--accept-rollback") {
		t.Errorf("%v, want %s", err, api.CodeRolledBack)
	}
	how.AcceptRollback = true
	r, err := s.Recover(t.Context(), how)
	must(t, err)
	if r.Newest || r.NewKey {
		t.Errorf("%+v", r)
	}
}

// TestSalvageOfOldBlobs: an attacker takes the manifest away and puts a blob back that the
// app deleted. This machine sealed it. With the store key of now, a salvage takes only what
// that key signed.
func TestSalvageOfOldBlobs(t *testing.T) {
	w, how := victim(t)
	s := w.ready(t)
	sealText(t, s, billing, "deleted", "old")
	old := w.files.clone()
	must(t, s.Delete(t.Context(), billing, "deleted"))
	r, err := s.RotateStoreKey(t.Context())
	must(t, err)
	for name, content := range old.files {
		if b, err := sealing.ParseBlob(content); err == nil && b.Claimed.Name == "deleted" {
			w.files.files[name] = content
		}
	}
	delete(w.files.files, "manifest.sealed")
	for _, c := range []struct {
		key  *sealing.StoreKey
		kept int
		want api.Code
	}{{nil, 0, ""}, {&r.StoreKey, 1, api.CodeNotFound}} {
		s := w.clone().open(t)
		r, err := s.Recover(t.Context(), store.Recovery{StoreKey: c.key, Recipients: how.Recipients})
		must(t, err)
		if len(r.Kept) != c.kept || c.kept > 0 && !errors.Is(r.Kept[0].Err, api.CodeOtherStoreKey) {
			t.Errorf("store key %v: %v", c.key, r)
		}
		if _, err := unsealText(s, billing, "deleted"); sealing.CodeOf(err) != c.want {
			t.Errorf("store key %v: %v, want %q", c.key, err, c.want)
		}
	}
}

// TestExchangedTPMSecret: an attacker who may use the TPM puts a secret of its own into the
// file of the machine's. Nothing rests on that secret, also after a recovery.
func TestExchangedTPMSecret(t *testing.T) {
	w, how := victim(t)
	record, name, secret, err := w.tpm.Seal(t.Context())
	must(t, err)
	secret.Wipe()
	for file := range w.files.files {
		if strings.HasPrefix(file, "tpmsecret-") {
			w.files.files[file] = record
		}
	}
	s := w.open(t)
	if err := state(t, s).Err; !errors.Is(err, api.CodeTPMSecretDamaged) {
		t.Errorf("%v, want %s", err, api.CodeTPMSecretDamaged)
	}
	_, err = s.Recover(t.Context(), how)
	must(t, err)
	named, _ := tpmSecrets(t, w)
	if len(named) != 1 || named[store.SecretFile(name)] {
		t.Errorf("blobs rest on %v", named)
	}
	w.ready(t)
}

// TestRecipientsAreNamed: a recovery of a locked store takes no recipient from its files
// or from the configuration, in any of its forms.
func TestRecipientsAreNamed(t *testing.T) {
	third, _ := identity(t)
	for name, harm := range map[string]func(*world, *store.Recovery){
		"other chip":    func(w *world, _ *store.Recovery) { w.machine.setChip("chip two") },
		"manifest lost": func(w *world, _ *store.Recovery) { delete(w.files.files, "manifest.sealed") },
		"manifest lost, only": func(w *world, how *store.Recovery) {
			delete(w.files.files, "manifest.sealed")
			*how = store.Recovery{Recipients: how.Recipients}
		},
		"other chip, manifest lost": func(w *world, _ *store.Recovery) {
			w.machine.setChip("chip two")
			delete(w.files.files, "manifest.sealed")
		},
		"without a sender": func(w *world, how *store.Recovery) {
			w.machine.setChip("chip two")
			how.StoreKey, how.TrustWriter = nil, true
		},
	} {
		w, how := victim(t)
		harm(w, &how)
		ours := how.Recipients[0]
		w.config.Recipients = []string{third}
		s := w.open(t)
		how.Recipients = nil
		_, err := s.Recover(t.Context(), how)
		if !errors.Is(err, api.CodeRecipientsNeeded) || !strings.Contains(err.Error(), ours) || strings.Contains(err.Error(), third) {
			t.Errorf("%s: %v", name, err)
		}
		if how.Identities != nil && !strings.Contains(err.Error(), ours+" (of the identity given)") {
			t.Errorf("%s: %v", name, err)
		}
		how.Recipients = []string{ours}
		r, err := s.Recover(t.Context(), how)
		must(t, err)
		if st := state(t, s); !slices.Equal(st.Recipients, how.Recipients) || !slices.Equal(r.Recipients, how.Recipients) || !slices.Equal(r.ClaimedRecipients, how.Recipients) {
			t.Errorf("%s: %+v, %+v", name, st, r)
		}
	}
}

// TestRecoveryThatContradictsItself: nothing is opened.
func TestRecoveryThatContradictsItself(t *testing.T) {
	w, how := victim(t)
	other := sealing.StoreKey{9}
	another, _ := identity(t)
	s := w.ready(t)
	for name, c := range map[string]struct {
		how  func(store.Recovery) store.Recovery
		want api.Code
	}{
		"store key and trust":        {func(h store.Recovery) store.Recovery { h.TrustWriter = true; return h }, api.CodeInvalidValue},
		"recipients and none":        {func(h store.Recovery) store.Recovery { h.LoseOnHardwareChange = true; return h }, api.CodeInvalidValue},
		"not a recipient":            {func(h store.Recovery) store.Recovery { h.Recipients = []string{"age1x"}; return h }, api.CodeInvalidValue},
		"open, other store key":      {func(h store.Recovery) store.Recovery { h.StoreKey = &other; return h }, api.CodeOtherStoreKey},
		"open, other recipients":     {func(h store.Recovery) store.Recovery { h.Recipients = []string{another}; return h }, api.CodeInvalidValue},
		"open, no recipients wanted": {func(h store.Recovery) store.Recovery { h.Recipients, h.LoseOnHardwareChange = nil, true; return h }, api.CodeInvalidValue},
	} {
		if _, err := s.Recover(t.Context(), c.how(how)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	how.Recipients = nil
	if r, err := s.Recover(t.Context(), how); err != nil || !r.Newest || r.Locked || r.Generation == 0 {
		t.Errorf("open, nothing named: %+v, %v", r, err)
	}
}
