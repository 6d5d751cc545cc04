// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

const (
	index  = 14
	second = 12 // of events of applications, if they have a PCR of their own
)

// fakeTPM is two PCRs and a reset count, with the steps of a Faults.
type fakeTPM struct {
	faults *durabletest.Faults
	mu     sync.Mutex
	banks  []pcr.Algorithm
	values []pcr.Digest
	others []pcr.Digest // of the second PCR
	start  []pcr.Digest // at the start of this boot
	boot   ledger.Boot
	deaf   bool // says that it extends, and does not
}

func newTPM(f *durabletest.Faults, banks ...pcr.Algorithm) *fakeTPM {
	t := &fakeTPM{faults: f, banks: banks, boot: ledger.Boot{AKName: []byte("ak-1"), ResetCount: 700}}
	t.reset()
	return t
}

// reset is what a reboot does. The boot loader has extended the PCR before we come.
func (t *fakeTPM) reset() {
	t.mu.Lock()
	t.values, t.others = pcr.Zero(t.banks), pcr.Zero(t.banks)
	t.boot.ResetCount++
	t.mu.Unlock()
	t.extend("shim")
	t.start = t.now()
}

// extend is the extend of another program.
func (t *fakeTPM) extend(content string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.values = must(pcr.Record{Digests: pcr.Digests(t.banks, []byte(content))}.Extend(t.values))
}

// extendSecond is the extend of the second PCR by another program.
func (t *fakeTPM) extendSecond(content string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.others = must(pcr.Record{Digests: pcr.Digests(t.banks, []byte(content))}.Extend(t.others))
}

func (t *fakeTPM) now() []pcr.Digest {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.values
}

// both returns the registers of a log with two.
func (t *fakeTPM) both() []pcr.Register {
	t.mu.Lock()
	defer t.mu.Unlock()
	return []pcr.Register{{PCR: index, Values: t.values}, {PCR: second, Values: t.others}}
}

// of returns the values of a PCR. The caller has mu.
func (t *fakeTPM) of(i uint32) *[]pcr.Digest {
	return map[uint32]*[]pcr.Digest{index: &t.values, second: &t.others}[i]
}

func (t *fakeTPM) step(name string, do func()) error {
	return t.faults.Step(name, func() error {
		t.mu.Lock()
		defer t.mu.Unlock()
		do()
		return nil
	}, nil)
}

func (t *fakeTPM) Banks(context.Context) (b []pcr.Algorithm, err error) {
	err = t.step("TPM banks", func() { b = slices.Clone(t.banks) })
	slices.Reverse(b) // a TPM lists them in its own order
	return b, err
}

func (t *fakeTPM) Read(_ context.Context, i uint32) (d []pcr.Digest, err error) {
	if t.of(i) == nil {
		return nil, fmt.Errorf("read of PCR %d", i)
	}
	err = t.step("TPM read", func() { d = slices.Clone(*t.of(i)) })
	slices.Reverse(d)
	return d, err
}

func (t *fakeTPM) Extend(_ context.Context, i uint32, d []pcr.Digest) error {
	if t.of(i) == nil {
		return fmt.Errorf("extend of PCR %d", i)
	}
	return t.step("TPM extend", func() {
		if t.deaf {
			return
		}
		next, err := pcr.Record{Digests: d}.Extend(*t.of(i))
		if err != nil {
			panic(fmt.Sprintf("extend with the wrong banks: %v", err)) // case 22
		}
		*t.of(i) = next
	})
}

func (t *fakeTPM) Boot(context.Context) (b ledger.Boot, err error) {
	err = t.step("TPM quote", func() { b = t.boot })
	return b, err
}

// machine is everything that a ledger needs.
type machine struct {
	faults     durabletest.Faults
	tpm        *fakeTPM
	log, state *durabletest.Disk
	kernel     string
	limit      int
	disk       bool   // the log directory outlives a boot
	events     uint32 // PCR of events that is configured

	mu    sync.Mutex // guards clock
	clock uint64
}

func newMachine() *machine {
	m := &machine{kernel: "kernel-1"}
	m.tpm = newTPM(&m.faults, pcr.SHA1, pcr.SHA256, pcr.SHA384)
	m.log, m.state = durabletest.NewDisk(&m.faults), durabletest.NewDisk(&m.faults)
	return m
}

// now is the clock of records. It is the same in each run of a scenario, so that equal states are
// found to be.
func (m *machine) now() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.clock++
	return m.clock
}

// open starts a process.
func (m *machine) open() (*ledger.Ledger, error) {
	return ledger.Open(context.Background(), m.config())
}

func (m *machine) config() ledger.Config {
	return ledger.Config{Log: m.log.Open(), State: m.state.Open(), TPM: m.tpm, PCR: index, Events: m.events, Kernel: m.kernel, Limit: m.limit, Volatile: !m.disk, Now: m.now}
}

// restart ends the process and starts another.
func (m *machine) restart(t *testing.T) *ledger.Ledger {
	t.Helper()
	m.log.Kill()
	l, err := m.open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

// reboot ends the process, resets the TPM and empties the log directory.
func (m *machine) reboot() {
	m.log.Clear()
	m.tpm.reset()
	if m.kernel != "" {
		m.kernel += "+"
	}
}

func agentEvent(typ pcr.EventType) pcr.Event {
	return pcr.Event{Type: typ, Agent: &pcr.AgentEvent{
		Version:       "1.2.3",
		Digest:        evidence.Digest{1},
		Configuration: evidence.Digest{2},
		Declarations:  []pcr.Declaration{{App: "billing", Digest: evidence.Digest{3}}},
		AgentKey:      make([]byte, 32),
	}}
}

func appEvent(app string) pcr.Event {
	manifest := []pcr.ManifestEntry{
		{Path: "/usr/bin/" + app, Mode: 0o100755, Size: 1000, Digest: evidence.Digest{4}},
		{Path: "/usr/share/" + app, Mode: 0o120777, Size: 12, Digest: evidence.Digest{5}},
	}
	return pcr.Event{Type: pcr.EventApp, App: &pcr.AppEvent{
		App: app, Unit: app + ".service", User: "svc", UID: new(uint32(17)), Declaration: evidence.Digest{3},
		Manifest: manifest, Digest: pcr.ManifestDigest(manifest),
	}}
}

func stopEvent() pcr.Event {
	return pcr.Event{Type: pcr.EventStop, Stop: &pcr.StopEvent{AgentKey: make([]byte, 32)}}
}

func sameEvent(app string) pcr.Event {
	last := appEvent(app).App
	return pcr.Event{Type: pcr.EventSame, Same: &pcr.SameEvent{App: app, Declaration: last.Declaration, Digest: last.Digest, Reason: "the agent was stopped"}}
}

// emittedEvent is what an application has recorded.
func emittedEvent(content string) pcr.Event {
	return pcr.Event{Type: pcr.EventEmitted, Emitted: &pcr.EmittedEvent{App: "billing", Unit: "billing.service", UID: 17, Domain: "model", Content: []byte(content)}}
}

// apps are the apps of the events in a log, which must explain the PCR.
func apps(t *testing.T, v ledger.View, now []pcr.Digest) []string {
	t.Helper()
	whole, err := v.Log(0)
	if err != nil {
		t.Fatal(err)
	}
	records, err := pcr.DecodeLog(whole.Records, 0)
	if err != nil {
		t.Fatalf("log: %v", err)
	}
	replay, _, err := pcr.NewWholeReplayer(records)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if err := replay.Next(r); err != nil {
			t.Fatalf("replay: %v", err)
		}
	}
	if !pcr.Equal(replay.Values(), now) || !pcr.EqualRegisters(replay.Registers(), v.Registers) {
		t.Fatalf("replay of %d records does not give the PCR", len(records))
	}
	if h := pcr.Head(evidence.LogHead{}, records); h != v.Head {
		t.Fatalf("log head %v, view says %v", h, v.Head)
	}
	var out []string
	for _, r := range records {
		switch e := must(r.Event()); {
		case e.App != nil:
			out = append(out, e.App.App)
		case e.Same != nil:
			out = append(out, "same "+e.Same.App)
		case e.Emitted != nil:
			out = append(out, "said "+string(e.Emitted.Content))
		default:
			out = append(out, string(e.Type))
		}
	}
	return out
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
