// SPDX-License-Identifier: Apache-2.0

// Package swtpm gives tests a real software TPM: one that can be rebooted on the
// same state, cut off from power, cloned, and reached through a socket that injects
// faults. Tests that ask for it skip if swtpm is not installed.
package swtpm

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	sim "github.com/cvm-agentd/agentd/internal/swtpm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/pcr"
)

// TPM is one software TPM. It runs until the test ends; which process it is changes
// with every reboot.
type TPM struct {
	tb  testing.TB
	dir string
	log *bytes.Buffer

	mu      sync.Mutex // one command at a time, and none during a reboot
	process *sim.TPM
}

// Option changes how a TPM is made.
type Option func(*settings)

type settings struct {
	dir   string
	banks []pcr.Algorithm
}

// WithBanks makes exactly these PCR banks active.
func WithBanks(banks ...pcr.Algorithm) Option { return func(s *settings) { s.banks = banks } }

// WithDir keeps the state in dir, instead of in a directory of the test.
func WithDir(dir string) Option { return func(s *settings) { s.dir = dir } }

// Start starts a TPM on a new state.
func Start(tb testing.TB, options ...Option) *TPM {
	tb.Helper()
	if os.Getenv("AGENTD_TEST_WITHOUT_SWTPM") != "" {
		tb.Skip("needs a software TPM: unset AGENTD_TEST_WITHOUT_SWTPM")
	}
	var s settings
	for _, o := range options {
		o(&s)
	}
	if s.dir == "" {
		s.dir = filepath.Join(tb.TempDir(), "tpm")
	}
	t := &TPM{tb: tb, dir: s.dir, log: new(bytes.Buffer)}
	if len(s.banks) > 0 {
		if err := sim.Allocate(t.options(), s.banks...); err != nil {
			t.fatal(err)
		}
	}
	t.start()
	tb.Cleanup(func() { t.process.Close() })
	return t
}

func (t *TPM) options() sim.Options { return sim.Options{Dir: t.dir, Log: t.log} }

func (t *TPM) start() {
	t.tb.Helper()
	p, err := sim.Start(t.options())
	if err != nil {
		t.fatal(err)
	}
	t.process = p
	// It has answered once before a test measures how long it takes.
	p.SetDeadline(time.Now().Add(time.Minute))
	if _, err := (tpm2.GetRandom{BytesRequested: 1}).Execute(transport.FromReadWriter(p)); err != nil {
		t.fatal(err)
	}
}

func (t *TPM) fatal(err error) {
	t.tb.Helper()
	if errors.Is(err, sim.ErrMissing) {
		t.tb.Skipf("needs a software TPM: %v", err)
	}
	t.tb.Fatalf("swtpm: %v\n%s", err, t.log)
}

// Dir is the state directory.
func (t *TPM) Dir() string { return t.dir }

// Process returns the running swtpm; a reboot replaces it.
func (t *TPM) Process() *sim.TPM { return t.process }

// Send runs one command: a TPM is a transport.TPM, without retries.
func (t *TPM) Send(command []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.process.SetDeadline(time.Now().Add(time.Minute))
	return transport.FromReadWriter(t.process).Send(command)
}

// Device opens the TPM the way the daemon does, over a socket of its own that stays
// when the TPM reboots.
func (t *TPM) Device(o tpm.Options) *tpm.Device {
	t.tb.Helper()
	d, err := tpm.Open(t.tb.Context(), t.Listen().Address(), o)
	if err != nil {
		t.tb.Fatal(err)
	}
	t.tb.Cleanup(func() { d.Close() })
	return d
}

// Reboot shuts the TPM down in order and starts it anew on the same state: PCRs start
// over, the reset count goes up, transient objects and sessions are gone.
func (t *TPM) Reboot() {
	t.tb.Helper()
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(t); err != nil {
		t.tb.Fatalf("shut the TPM down: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.process.Close(); err != nil {
		t.tb.Fatal(err)
	}
	t.start()
}

// PowerCut kills the TPM and starts it anew on the same state.
func (t *TPM) PowerCut() {
	t.tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.process.Kill(); err != nil {
		t.tb.Fatal(err)
	}
	t.start()
}

// Clone starts another TPM on a copy of the state, as the party that runs a vTPM can.
func (t *TPM) Clone() *TPM {
	t.tb.Helper()
	dir := filepath.Join(t.tb.TempDir(), "clone")
	if err := os.CopyFS(dir, os.DirFS(t.dir)); err != nil {
		t.tb.Fatal(err)
	}
	return Start(t.tb, WithDir(dir))
}
