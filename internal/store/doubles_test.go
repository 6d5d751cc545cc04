// SPDX-License-Identifier: Apache-2.0

package store_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/sealing"
)

// machine is a platform that derives keys as the firmware does: from a secret of the
// chip and everything in the reading.
type machine struct {
	now  sealing.Reading
	chip []byte
	fail func(tcb uint64) ([]byte, error)
	asks int
}

func newMachine() *machine {
	m := &machine{chip: []byte("chip one")}
	m.now.GuestPolicy = 0x30000
	m.now.TCB = sealing.TCB{3, 0, 0, 0, 0, 0, 20, 209}
	m.now.Measurement[0] = 0xaa
	m.setChip("chip one")
	return m
}

func (m *machine) setChip(name string) {
	m.chip = []byte(name)
	sum := sha256.Sum256(m.chip)
	copy(m.now.ChipID[:], sum[:])
}

func (m *machine) Reading(context.Context) (sealing.Reading, error) { return m.now, nil }

func (m *machine) DeriveKey(_ context.Context, tcb sealing.TCB) (*secret.Secret, error) {
	b, err := m.derive(tcb.Uint64())
	if err != nil {
		clear(b)
		return nil, err
	}
	return secret.Take(b)
}

func (m *machine) derive(tcb uint64) ([]byte, error) {
	m.asks++
	if m.fail != nil {
		return m.fail(tcb)
	}
	if !sealing.TCBOf(tcb).AtMost(m.now.TCB) {
		return make([]byte, 32), nil // as firmware was seen to answer
	}
	h := hmac.New(sha256.New, m.chip)
	h.Write(m.now.Measurement[:])
	binary.Write(h, binary.LittleEndian, m.now.GuestPolicy)
	binary.Write(h, binary.LittleEndian, tcb)
	binary.Write(h, binary.LittleEndian, m.now.VMPL)
	return h.Sum(nil), nil
}

var errFault = errors.New("injected fault")

// fault fails the operation with number at, before or after it took effect, and
// every one after it, because the machine is down, or only that one.
type fault struct {
	at    int // from 0; negative: never
	after bool
	once  bool
	n     int
	names []string
}

// do runs one change of the world.
func (f *fault) do(name string, change func() error) error {
	n := f.n
	f.n++
	f.names = append(f.names, name)
	switch {
	case f.at < 0 || n < f.at || f.once && n > f.at:
		return change()
	case n == f.at && f.after:
		if err := change(); err != nil {
			return err
		}
	}
	return errFault
}

// memoryFiles are files whose changes can be made to fail.
type memoryFiles struct {
	files map[string][]byte
	fault *fault
	reads int
	calls func(call string) error // asked before each call, if it is not nil
}

// call is the kernel's answer to a call: nil if it succeeds.
func (m *memoryFiles) call(name string) error {
	if m.calls == nil {
		return nil
	}
	return m.calls(name)
}

func newFiles() *memoryFiles {
	return &memoryFiles{files: map[string][]byte{}, fault: &fault{at: -1}}
}

func (m *memoryFiles) clone() *memoryFiles {
	return &memoryFiles{files: maps.Clone(m.files), fault: &fault{at: -1}}
}

func (m *memoryFiles) Read(name string, limit int64) ([]byte, error) {
	m.reads++
	if err := m.call("read " + name); err != nil {
		return nil, err
	}
	b, ok := m.files[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	if int64(len(b)) > limit {
		return nil, errors.New("file too large")
	}
	return bytes.Clone(b), nil
}

func (m *memoryFiles) WriteDurable(name string, b []byte) error {
	if err := m.call("write " + name); err != nil {
		return err
	}
	return m.fault.do("write "+name, func() error { m.files[name] = bytes.Clone(b); return nil })
}

func (m *memoryFiles) List() ([]string, error) {
	return slices.Sorted(maps.Keys(m.files)), m.call("list")
}

func (m *memoryFiles) Remove(name string) error {
	if err := m.call("remove " + name); err != nil {
		return err
	}
	return m.fault.do("remove "+name, func() error {
		if _, ok := m.files[name]; !ok {
			return fs.ErrNotExist
		}
		delete(m.files, name)
		return nil
	})
}

// memoryTPM keeps secrets under a seed and counts, as a TPM does.
type memoryTPM struct {
	ek, seed byte
	highest  uint64
	counters map[string]uint64
	fault    *fault
}

func newTPM() *memoryTPM {
	return &memoryTPM{ek: 1, seed: 1, highest: 40, counters: map[string]uint64{}, fault: &fault{at: -1}}
}

func (m *memoryTPM) clone() *memoryTPM {
	return &memoryTPM{ek: m.ek, seed: m.seed, highest: m.highest, counters: maps.Clone(m.counters), fault: &fault{at: -1}}
}

func (m *memoryTPM) clear() { m.seed++; m.counters = map[string]uint64{} }

func (m *memoryTPM) Seal(context.Context) (record, id []byte, s *secret.Secret, err error) {
	b := make([]byte, 32)
	rand.Read(b)
	sum := sha256.Sum256(b)
	record = append([]byte{m.ek, m.seed}, b...)
	s, err = secret.Take(b)
	return record, append([]byte{0, 11}, sum[:]...), s, err
}

func (m *memoryTPM) Name(record []byte) ([]byte, error) {
	if len(record) != 34 {
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged}
	}
	sum := sha256.Sum256(record[2:])
	return append([]byte{0, 11}, sum[:]...), nil
}

func (m *memoryTPM) Unseal(_ context.Context, record []byte) (*secret.Secret, error) {
	switch {
	case len(record) != 34:
		return nil, &sealing.Error{Code: api.CodeTPMSecretDamaged}
	case record[0] != m.ek:
		return nil, &sealing.Error{Code: api.CodeOtherTPM}
	case record[1] != m.seed:
		return nil, &sealing.Error{Code: api.CodeTPMCleared}
	}
	return secret.Take(bytes.Clone(record[2:]))
}

func (m *memoryTPM) PlanCounter(context.Context) ([]byte, error) {
	b := make([]byte, 8)
	rand.Read(b)
	return b, nil
}

func (m *memoryTPM) DefineCounter(_ context.Context, record []byte) (uint64, error) {
	err := m.fault.do("define counter", func() error {
		if _, ok := m.counters[string(record)]; !ok {
			m.highest++
			m.counters[string(record)] = m.highest
		}
		return nil
	})
	return m.counters[string(record)], err
}

func (m *memoryTPM) ReadCounter(_ context.Context, record []byte) (uint64, error) {
	c, ok := m.counters[string(record)]
	if !ok {
		return 0, &sealing.Error{Code: api.CodeCounterLost}
	}
	return c, nil
}

func (m *memoryTPM) Increment(ctx context.Context, record []byte) (uint64, error) {
	if _, err := m.ReadCounter(ctx, record); err != nil {
		return 0, err
	}
	err := m.fault.do("increment", func() error {
		m.counters[string(record)]++
		m.highest = max(m.highest, m.counters[string(record)])
		return nil
	})
	return m.counters[string(record)], err
}

func (m *memoryTPM) RemoveCounter(ctx context.Context, record []byte) error {
	if _, err := m.ReadCounter(ctx, record); err != nil {
		return err
	}
	return m.fault.do("remove counter", func() error { delete(m.counters, string(record)); return nil })
}

// world is everything outside of a store.
type world struct {
	machine *machine
	tpm     *memoryTPM // nil: none
	files   *memoryFiles
	config  store.Config
}

func newWorld() *world {
	return &world{machine: newMachine(), tpm: newTPM(), files: newFiles(), config: store.Config{LoseOnHardwareChange: true, RetryPause: time.Nanosecond}}
}

func (w *world) clone() *world {
	c := &world{files: w.files.clone(), config: w.config}
	if w.machine != nil {
		m := *w.machine
		c.machine = &m
	}
	if w.tpm != nil {
		c.tpm = w.tpm.clone()
	}
	return c
}

// setFault makes one fault count the changes of files and TPM together.
func (w *world) setFault(f *fault) {
	w.files.fault = f
	if w.tpm != nil {
		w.tpm.fault = f
	}
}

// open opens the store of w, as at the start of the daemon.
func (w *world) open(t testing.TB) *store.Store {
	t.Helper()
	c := w.config
	c.Files = w.files
	if w.machine != nil {
		c.Platform = w.machine
	}
	if w.tpm != nil {
		c.TPM = w.tpm
	}
	s, err := store.Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func (w *world) ready(t testing.TB) *store.Store {
	t.Helper()
	s := w.open(t)
	if st := state(t, s); !st.Ready {
		t.Fatalf("the store is locked: %v", st.Err)
	}
	return s
}

func state(t testing.TB, s *store.Store) store.State {
	t.Helper()
	st, err := s.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return st
}

var (
	billing = store.Caller{App: sealing.App{Name: "billing", Unit: "billing.service", User: "billing"}, Digest: evidence.Digest{1}}
	ledger  = store.Caller{App: sealing.App{Name: "ledger", Unit: "ledger.service", User: "ledger"}, Digest: evidence.Digest{2}}
)

func sealText(t testing.TB, s *store.Store, c store.Caller, name, text string) {
	t.Helper()
	if err := trySeal(s, c, name, text); err != nil {
		t.Fatal(err)
	}
}

func trySeal(s *store.Store, c store.Caller, name, text string) error {
	data, err := secret.Take([]byte(text))
	if err != nil {
		return err
	}
	defer data.Wipe()
	return s.Seal(context.Background(), c, name, data, []byte("ad"))
}

func unsealText(s *store.Store, c store.Caller, name string) (string, error) {
	data, err := s.Unseal(context.Background(), c, name, []byte("ad"))
	return text(data, err)
}

func deriveText(s *store.Store, c store.Caller, label string, version uint32) (string, error) {
	out, _, err := s.Derive(context.Background(), c, []byte(label), 32, version)
	return text(out, err)
}

func text(s *secret.Secret, err error) (string, error) {
	if err != nil {
		return "", err
	}
	defer s.Wipe()
	var out string
	err = s.Use(func(b []byte) error { out = string(b); return nil })
	return out, err
}

// signer returns the store key that the files of a store name: a test put no others there.
func signer(t testing.TB, files map[string][]byte) *sealing.StoreKey {
	t.Helper()
	for _, content := range files {
		if b, err := sealing.ParseBlob(content); err == nil && b.Version > 1 {
			return &b.Sender.Key
		}
	}
	t.Fatal("no signed blob")
	return nil
}

// recovery returns what root says to a recovery: an identity, the store key that it kept,
// and the recipients of the configuration.
func (w *world) recovery(t testing.TB, ids *store.Identities) store.Recovery {
	t.Helper()
	return store.Recovery{Identities: ids, StoreKey: signer(t, w.files.files), Recipients: w.config.Recipients,
		LoseOnHardwareChange: len(w.config.Recipients) == 0}
}

// identity makes a recovery recipient and its identity.
func identity(t testing.TB) (recipient string, ids *store.Identities) {
	t.Helper()
	id, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	ids, err = store.ParseIdentities([]byte("# comment\n" + id.String() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String(), ids
}
