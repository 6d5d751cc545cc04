// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// doubtful is a TPM whose answers a test bends: the n-th read from 1 on, and what follows
// an extend that took effect.
type doubtful struct {
	*fakeTPM
	read           func(n int, d []pcr.Digest) ([]pcr.Digest, error)
	extended       func() error
	booted         func() error
	reads, extends int
}

func (d *doubtful) Read(ctx context.Context, i uint32) ([]pcr.Digest, error) {
	v, err := d.fakeTPM.Read(ctx, i)
	d.reads++
	if err == nil && d.read != nil {
		return d.read(d.reads, v)
	}
	return v, err
}

func (d *doubtful) Extend(ctx context.Context, i uint32, v []pcr.Digest) error {
	d.extends++
	err := d.fakeTPM.Extend(ctx, i, v)
	if err == nil && d.extended != nil {
		return d.extended()
	}
	return err
}

func (d *doubtful) Boot(ctx context.Context) (ledger.Boot, error) {
	b, err := d.fakeTPM.Boot(ctx)
	if err == nil && d.booted != nil {
		if err := d.booted(); err != nil {
			return ledger.Boot{}, err
		}
	}
	return b, err
}

// from has the reads from number first on, count of them, answered with another value.
func wrongFrom(first, count int) func(int, []pcr.Digest) ([]pcr.Digest, error) {
	return func(n int, d []pcr.Digest) ([]pcr.Digest, error) {
		if n >= first && n < first+count {
			d[0].Value = slices.Clone(d[0].Value)
			d[0].Value[0] ^= 1
		}
		return d, nil
	}
}

// openOn starts a process on that TPM.
func (m *machine) openOn(tpm ledger.TPM) (*ledger.Ledger, error) {
	m.log.Kill()
	c := m.config()
	c.TPM = tpm
	return ledger.Open(background, c)
}

// leaveIntent is a process that is killed between intent and extend of app a.
func leaveIntent(t *testing.T, m *machine) {
	t.Helper()
	l := m.restart(t)
	m.faults.Break(stepsTo(t, "TPM extend"), durabletest.KillBefore, nil)
	func() {
		defer func() { _ = recover() }()
		_, _ = l.Append(background, appEvent("a"))
	}()
	m.faults.Break(0, durabletest.None, nil)
	m.log.Kill()
}

// TestUnfinishedRecordIsReadTwice: after the extend of a record that an earlier process
// left unfinished, one wrong answer changes nothing and two in a row are believed.
func TestUnfinishedRecordIsReadTwice(t *testing.T) {
	for wrong, synchronised := range map[int]bool{0: true, 1: true, 2: false} {
		m := newMachine()
		leaveIntent(t, m)
		tpm := &doubtful{fakeTPM: m.tpm, read: wrongFrom(2, wrong)} // the first tells what was found
		l, err := m.openOn(tpm)
		if err != nil {
			t.Fatalf("%d wrong: %v", wrong, err)
		}
		if s := l.State(); s.Synchronised != synchronised || tpm.extends != 1 {
			t.Errorf("%d wrong: synchronised %t, %s, %d extends", wrong, s.Synchronised, s.Reason, tpm.extends)
		}
		if s := m.restart(t).State(); s.Synchronised != synchronised {
			t.Errorf("%d wrong, after a restart: synchronised %t, %s", wrong, s.Synchronised, s.Reason)
		}
	}
}

// TestUnfinishedRecordStays: a TPM that does not do the extend, whatever it says, leaves
// the record for the next start, and nothing is attested to without it.
func TestUnfinishedRecordStays(t *testing.T) {
	for name, refuse := range map[string]bool{"deaf": false, "refusing": true} {
		m := newMachine()
		leaveIntent(t, m)
		m.tpm.deaf = true
		tpm := &doubtful{fakeTPM: m.tpm}
		if refuse {
			tpm.extended = func() error { return syscall.EIO }
		}
		l, err := m.openOn(tpm)
		if l != nil || !errors.Is(err, ledger.ErrTPM) || errors.Is(err, ledger.ErrDesynchronised) || errors.Is(err, syscall.EIO) != refuse {
			t.Errorf("%s: Open says %v", name, err)
		}
		if !refuse && !strings.Contains(err.Error(), "did not change") {
			t.Errorf("%s: Open says %v", name, err)
		}
		m.tpm.deaf = false
		if got := apps(t, m.restart(t).View(), m.tpm.now()); !slices.Equal(got, []string{"log-start", "a"}) {
			t.Errorf("%s: log is %v", name, got)
		}
	}
}

// TestUnfinishedRecordOfAnotherPCRValue: nothing is extended onto a PCR that another
// program moved.
func TestUnfinishedRecordOfAnotherPCRValue(t *testing.T) {
	m := newMachine()
	leaveIntent(t, m)
	m.tpm.extend("another program")
	tpm := &doubtful{fakeTPM: m.tpm}
	l, err := m.openOn(tpm)
	if err != nil || tpm.extends != 0 {
		t.Fatalf("Open says %v after %d extends", err, tpm.extends)
	}
	wantDesynchronised(t, m, l, "something else")
}

// TestSettledFirst: while it is not known whether a record was extended, nothing else is
// recorded and nothing held, and the log file keeps its intent.
func TestSettledFirst(t *testing.T) {
	m := newMachine()
	lost := errors.New("no answer")
	tpm := &doubtful{fakeTPM: m.tpm}
	l := must(m.openOn(tpm))
	tpm.extended = func() error { return lost }
	tpm.read = func(int, []pcr.Digest) ([]pcr.Digest, error) { return nil, lost }
	for _, app := range []string{"a", "b"} {
		_, err := l.Append(background, appEvent(app))
		if !errors.Is(err, ledger.ErrTPM) || !errors.Is(err, lost) || !strings.Contains(err.Error(), `append event "app"`) || !strings.Contains(err.Error(), "not known whether") {
			t.Errorf("Append of %s says %v", app, err)
		}
	}
	if log := m.log.Get(ledger.LogFile); !bytes.Contains(log, []byte(`"a"`)) || bytes.Contains(log, []byte(`"b"`)) {
		t.Error("the log file does not end with the intent of a")
	}
	// One more read without an answer: still not known, and no finding.
	tpm.reads = 0
	tpm.read = func(n int, d []pcr.Digest) ([]pcr.Digest, error) {
		if n == 1 {
			return nil, lost
		}
		return d, nil
	}
	if err := hold(l); !errors.Is(err, lost) {
		t.Errorf("Hold says %v", err)
	}
	tpm.extended, tpm.read = nil, nil
	appendAll(t, l, appEvent("c"))
	if got := apps(t, l.View(), m.tpm.now()); !slices.Equal(got, []string{"log-start", "a", "c"}) {
		t.Errorf("log is %v", got)
	}
	if got := apps(t, m.restart(t).View(), m.tpm.now()); len(got) != 3 {
		t.Errorf("after a restart the log is %v", got)
	}
}

// TestSecondReadFails: a wrong answer, and then none, is not a finding.
func TestSecondReadFails(t *testing.T) {
	lost := errors.New("no answer")
	m := newMachine()
	appendAll(t, m.restart(t), appEvent("a"))
	tpm := &doubtful{fakeTPM: m.tpm}
	bend := func() {
		tpm.reads = 0
		wrong := wrongFrom(1, 1)
		tpm.read = func(n int, d []pcr.Digest) ([]pcr.Digest, error) {
			if n == 2 {
				return nil, lost
			}
			return wrong(n, d)
		}
	}
	check := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, lost) || !errors.Is(err, ledger.ErrTPM) || errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("%s says %v", what, err)
		}
	}
	bend()
	_, err := m.openOn(tpm)
	check("Open", err)
	tpm.read = nil
	l := must(m.openOn(tpm))
	bend()
	check("Hold", hold(l))
	bend()
	_, err = l.Append(background, appEvent("b"))
	check("Append", err)
	tpm.read = nil
	if err := hold(l); err != nil {
		t.Error(err)
	}
	if got := apps(t, l.View(), m.tpm.now()); !slices.Equal(got, []string{"log-start", "a", "b"}) {
		t.Errorf("log is %v", got)
	}
}

// TestWhatAReasonIs: why the PCR does not fit is said only if the TPM said it, and a
// boot that could not be asked for is not put into the state.
func TestWhatAReasonIs(t *testing.T) {
	t.Run("boot not known", func(t *testing.T) {
		m := newMachine()
		tpm := &doubtful{fakeTPM: m.tpm}
		l := must(m.openOn(tpm))
		m.tpm.extend("another program")
		tpm.booted = func() error { return errors.New("no answer") }
		if err := hold(l); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Hold says %v", err)
		}
		wantDesynchronised(t, m, l, "something else")
	})
	t.Run("hibernation", func(t *testing.T) { // TPM Restart: the PCRs are reset, the reset count stays
		m := newMachine()
		l := m.restart(t)
		m.tpm.reset()
		m.tpm.boot.ResetCount--
		m.tpm.boot.RestartCount++
		if err := hold(l); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Hold says %v", err)
		}
		wantDesynchronised(t, m, l, "restarted")
	})
}

// TestWhatItCosts: an event takes one extend and one read of the PCR, a look at the PCR
// and a start one read each, as long as all goes well.
func TestWhatItCosts(t *testing.T) {
	m := newMachine()
	appendAll(t, m.restart(t), appEvent("a"))
	tpm := &doubtful{fakeTPM: m.tpm}
	l := must(m.openOn(tpm))
	cost := func(what string, reads, extends int) {
		t.Helper()
		if tpm.reads != reads || tpm.extends != extends {
			t.Errorf("%s took %d reads and %d extends, want %d and %d", what, tpm.reads, tpm.extends, reads, extends)
		}
		tpm.reads, tpm.extends = 0, 0
	}
	cost("a start", 1, 0)
	appendAll(t, l, appEvent("b"))
	cost("an event", 1, 1)
	if err := hold(l); err != nil {
		t.Error(err)
	}
	cost("a look", 1, 0)
	m.tpm.deaf = true
	if _, err := l.Append(background, appEvent("c")); !errors.Is(err, ledger.ErrTPM) || !strings.Contains(err.Error(), "did not change") {
		t.Errorf("Append says %v", err)
	}
	cost("an event that a deaf TPM did not take", 1, 1)
}
