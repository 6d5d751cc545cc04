// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// v1Store is a store that the last program of version 1 wrote for the machine of
// newMachine: app billing sealed "token" and has two versions of its root, app ledger
// sealed "other" and requires its digest.
type v1Store struct {
	Identity        string            `json:"identity"`
	Recipient       string            `json:"recipient"`
	Derived         string            `json:"derived"` // by billing, label "disk", version 2
	DerivedVersion1 string            `json:"derivedVersion1"`
	Highest         uint64            `json:"highest"` // of the TPM's counters
	Counters        map[string]uint64 `json:"counters"`
	Files           map[string][]byte `json:"files"`
}

func loadV1(t testing.TB) v1Store {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "v1-store.json"))
	if err != nil {
		t.Fatal(err)
	}
	var v v1Store
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// world returns the machine with that store.
func (v v1Store) world(t testing.TB) *world {
	t.Helper()
	w := newWorld()
	w.config.Recipients, w.config.LoseOnHardwareChange = []string{v.Recipient}, false
	w.files.files = maps.Clone(v.Files)
	w.tpm.highest = v.Highest
	for record, c := range v.Counters {
		b, err := hex.DecodeString(record)
		if err != nil {
			t.Fatal(err)
		}
		w.tpm.counters[string(b)] = c
	}
	return w
}

// checkV1 checks that everything of v opens, signed and of version 2.
func (v v1Store) check(s *store.Store) error {
	if err := all(holds(billing, "token", "hunter2"), holds(ledger, "other", "data"))(s); err != nil {
		return err
	}
	for version, want := range map[uint32]string{0: v.Derived, 1: v.DerivedVersion1, 2: v.Derived} {
		got, err := deriveText(s, billing, "disk", version)
		if err == nil && hex.EncodeToString([]byte(got)) != want {
			err = errors.New("another secret is derived than before the upgrade")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestUpgrade checks that a store of version 1 that this machine opens is signed from the
// first start on, with nothing lost, and that no blob of version 1 is left.
func TestUpgrade(t *testing.T) {
	v := loadV1(t)
	w := v.world(t)
	s := w.ready(t)
	must(t, v.check(s))
	key := state(t, s).StoreKey
	if st := state(t, s); st.StoreKey.IsZero() || !st.NewKey || st.Orphans > 0 || st.Rewrap {
		t.Errorf("state %+v", st)
	}
	n := 0
	for name, content := range w.files.files {
		if strings.HasSuffix(name, ".sealed") {
			b, err := sealing.ParseBlob(content)
			must(t, err)
			if err := b.CheckSender(key); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			n++
		}
	}
	if n != 5 {
		t.Errorf("%d blobs, want 5", n)
	}
	if u := state(t, s).Upgraded; u == nil || u.Written != 4 || len(u.Kept) != 0 {
		t.Errorf("upgraded: %v", u)
	}
	s = w.ready(t)
	must(t, v.check(s))
	if st := state(t, s); st.Upgraded != nil || st.StoreKey != key || st.NewKey {
		t.Errorf("after a restart: %+v", st)
	}
	stranger := ledger
	stranger.Digest[0]++
	if _, err := unsealText(s, stranger, "other"); !errors.Is(err, api.CodeDigestNotAuthorised) {
		t.Errorf("the digest that version 1 required: %v", err)
	}
	w.machine.setChip("chip two")
	ids, err := store.ParseIdentities([]byte(v.Identity))
	must(t, err)
	_, err = w.open(t).Recover(t.Context(), store.Recovery{Identities: ids, StoreKey: &key, Recipients: []string{v.Recipient}})
	must(t, err)
	must(t, v.check(w.ready(t)))
}

// TestUpgradeKeepsWhatDoesNotOpen: a blob of version 1 that is damaged is reported, and not
// signed. Put back, it opens; signed by the next change of the store.
func TestUpgradeKeepsWhatDoesNotOpen(t *testing.T) {
	v := loadV1(t)
	w := v.world(t)
	var file string
	for name, content := range w.files.files {
		if b, err := sealing.ParseBlob(content); err == nil && b.Claimed.Name == "token" {
			file = name
		}
	}
	good := w.files.files[file]
	w.files.files[file] = append(slices.Clone(good[:len(good)-1]), good[len(good)-1]^1)
	s := w.ready(t)
	u := state(t, s).Upgraded
	if u == nil || u.Written != 3 || len(u.Kept) != 1 || u.Kept[0].Name != "token" || !errors.Is(u.Kept[0].Err, api.CodeDamaged) {
		t.Fatalf("upgraded: %v", u)
	}
	w.files.files[file] = good
	must(t, v.check(s))
	_, err := s.Rewrap(t.Context())
	must(t, err)
	if _, ok := w.files.files[file]; ok {
		t.Error("the blob of version 1 is still there")
	}
	must(t, v.check(w.ready(t)))
}

// TestCrashAtUpgrade: case 73. Every durable call of the upgrade fails, before and after it
// took effect, once and for good: the store opens afterwards, upgraded, with all there was.
func TestCrashAtUpgrade(t *testing.T) {
	v := loadV1(t)
	count := &fault{at: -1}
	dry := v.world(t)
	dry.setFault(count)
	must(t, v.check(dry.ready(t)))
	faults := 0
	for at := range count.n {
		for _, after := range []bool{false, true} {
			for _, once := range []bool{false, true} {
				faults++
				w := v.world(t)
				w.setFault(&fault{at: at, after: after, once: once})
				s := w.open(t)
				if !once {
					w.setFault(&fault{at: -1})
					s = w.open(t)
				}
				if err := v.check(s); err != nil {
					t.Errorf("%s, after %v, once %v: %v", count.names[at], after, once, err)
					continue
				}
				must(t, v.check(w.ready(t)))
				if len(w.tpm.counters) != 1 {
					t.Errorf("%s: %d counters in the TPM", count.names[at], len(w.tpm.counters))
				}
			}
		}
	}
	t.Logf("N = %d durable calls, %d faults", count.n, faults)
	if count.n < 10 {
		t.Errorf("only %d durable calls: the matrix is broken", count.n)
	}
}

// TestUpgradeAfterRollback: a store of version 1 whose older state root accepts is signed
// too.
func TestUpgradeAfterRollback(t *testing.T) {
	v := loadV1(t)
	w := v.world(t)
	for record := range w.tpm.counters {
		w.tpm.counters[record] += 3
	}
	s := w.open(t)
	if err := state(t, s).Err; !errors.Is(err, api.CodeRolledBack) {
		t.Fatal(err)
	}
	must(t, s.AcceptRollback(t.Context()))
	must(t, v.check(s))
	key := state(t, s).StoreKey
	must(t, v.check(w.ready(t)))
	for name, content := range w.files.files {
		if b, err := sealing.ParseBlob(content); err == nil && b.CheckSender(key) != nil {
			t.Errorf("%s: %v", name, b.CheckSender(key))
		}
	}
}

// TestUpgradeOnlyByTheMachine checks that a store of version 1 which only a recovery
// opens has no sender: an attacker makes one with nothing but the public recipient.
func TestUpgradeOnlyByTheMachine(t *testing.T) {
	v := loadV1(t)
	w := v.world(t)
	w.machine.setChip("chip two")
	ids, err := store.ParseIdentities([]byte(v.Identity))
	must(t, err)
	s := w.open(t)
	before := maps.Clone(w.files.files)
	key := sealing.StoreKey{1}
	for _, how := range []store.Recovery{
		{Identities: ids, Recipients: []string{v.Recipient}},
		{Identities: ids, StoreKey: &key, Recipients: []string{v.Recipient}},
	} {
		_, err := s.Recover(t.Context(), how)
		want := api.CodeNoSender
		if how.StoreKey == nil {
			want = api.CodeStoreKeyNeeded
		}
		if !errors.Is(err, want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	for name := range before {
		if string(before[name]) != string(w.files.files[name]) {
			t.Errorf("%s changed", name)
		}
	}
	r, err := s.Recover(t.Context(), store.Recovery{Identities: ids, TrustWriter: true, Recipients: []string{v.Recipient}})
	must(t, err)
	if !r.Unproven || len(r.Rotated) != 2 || len(r.Secrets) != 2 || state(t, s).Unproven != 4 {
		t.Errorf("%+v", r)
	}
	if sealText(t, s, billing, "token", "stored again"); state(t, s).Unproven != 3 {
		t.Errorf("%d blobs are marked after one was stored again", state(t, s).Unproven)
	}
	for version, want := range map[uint32]string{1: v.DerivedVersion1, 2: v.Derived} {
		if got, err := deriveText(s, billing, "disk", version); err != nil || hex.EncodeToString([]byte(got)) != want {
			t.Errorf("version %d: %v", version, err)
		}
	}
	if got, err := deriveText(s, billing, "disk", 0); err != nil || hex.EncodeToString([]byte(got)) == v.Derived {
		t.Errorf("the root of an unknown writer is still in use: %v", err)
	}
}
