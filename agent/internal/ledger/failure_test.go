// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// case 23
func TestExtendFails(t *testing.T) {
	for _, tc := range []struct {
		mode     durabletest.Mode
		recorded bool
	}{
		{durabletest.FailBefore, false},
		{durabletest.FailAfter, true}, // the PCR says that it worked
	} {
		t.Run(tc.mode.String(), func(t *testing.T) {
			m := newMachine()
			l := m.restart(t)
			m.faults.Break(stepsTo(t, "TPM extend"), tc.mode, syscall.EIO)
			_, err := l.Append(background, appEvent("a"))
			if (err == nil) != tc.recorded || (err != nil && !errors.Is(err, syscall.EIO)) {
				t.Errorf("Append says %v", err)
			}
			if got := slices.Contains(apps(t, l.View(), m.tpm.now()), "a"); got != tc.recorded {
				t.Errorf("in the log: %v", got)
			}
			if got := bytes.Contains(m.log.Get(ledger.LogFile), []byte(`"a"`)); got != tc.recorded {
				t.Errorf("in the log file: %v", got)
			}
			appendAll(t, l, appEvent("b"))
		})
	}
	t.Run("without an error", func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		m.tpm.deaf = true
		if _, err := l.Append(background, appEvent("a")); err == nil || errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Append says %v", err)
		}
		m.tpm.deaf = false
		appendAll(t, l, appEvent("b"))
		if got := apps(t, l.View(), m.tpm.now()); slices.Contains(got, "a") {
			t.Errorf("log is %v", got)
		}
	})
	t.Run("and it is not known", func(t *testing.T) {
		for i, effect := range []durabletest.Mode{durabletest.FailBefore, durabletest.FailAfter, durabletest.FailBefore, durabletest.FailAfter} {
			heldFirst := i < 2
			m := newMachine()
			l := m.restart(t)
			// The extend is lost or not, and the TPM then answers nothing for a while.
			m.faults.Break(stepsTo(t, "TPM extend")+1, durabletest.FailFrom, syscall.EIO)
			if effect == durabletest.FailBefore {
				m.faults.Break(stepsTo(t, "TPM extend"), durabletest.FailFrom, syscall.EIO)
			}
			if _, err := l.Append(background, appEvent("a")); !errors.Is(err, syscall.EIO) {
				t.Errorf("Append says %v", err)
			}
			if err := hold(l); !errors.Is(err, syscall.EIO) {
				t.Errorf("Hold says %v", err)
			}
			if l.State().Failure == "" {
				t.Error("the state says nothing of it")
			}
			m.faults.Break(0, durabletest.None, nil)
			if heldFirst {
				if err := hold(l); err != nil {
					t.Error(err)
				}
			}
			appendAll(t, l, appEvent("b"))
			if err := hold(l); err != nil {
				t.Error(err)
			}
			if got := slices.Contains(apps(t, l.View(), m.tpm.now()), "a"); got != (effect == durabletest.FailAfter) {
				t.Errorf("%v: in the log: %v", effect, got)
			}
		}
	})
}

// stepsTo is how many steps an append takes up to the first of the given name.
func stepsTo(t *testing.T, name string) int {
	t.Helper()
	for k := 1; k < 100; k++ {
		m := newMachine()
		l := m.restart(t)
		m.faults.Break(k, durabletest.FailBefore, syscall.EIO)
		_, _ = l.Append(background, appEvent("a"))
		if _, broken := m.faults.Steps(); broken == name {
			return k
		}
	}
	t.Fatalf("an append has no step %q", name)
	return 0
}

// case 24: an intent that did not reach the PCR is extended by the next start.
func TestIntentIsNeverDropped(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	m.faults.Break(stepsTo(t, "TPM extend"), durabletest.KillBefore, nil)
	func() {
		defer func() { _ = recover() }()
		_, _ = l.Append(background, appEvent("a"))
	}()
	m.faults.Break(0, durabletest.None, nil)
	// Only an attacker can write after an intent; what follows is cut off nevertheless.
	m.log.Set(ledger.LogFile, append(m.log.Get(ledger.LogFile), "junk"...))

	t.Run("while the TPM does not answer", func(t *testing.T) {
		m.log.Kill()
		m.faults.Break(stepsToOpen(t, m, "TPM extend"), durabletest.FailFrom, syscall.EIO)
		if _, err := m.open(); err == nil {
			t.Error("opened, and the intent is not in the PCR")
		}
		m.faults.Break(0, durabletest.None, nil)
	})
	l = m.restart(t)
	if got := apps(t, l.View(), m.tpm.now()); !slices.Equal(got, []string{"log-start", "a"}) {
		t.Errorf("log is %v", got)
	}
	if err := hold(l); err != nil {
		t.Error(err)
	}
	if bytes.HasSuffix(m.log.Get(ledger.LogFile), []byte("junk")) {
		t.Error("what followed the intent is still there")
	}
}

// stepsToOpen is how many steps Open takes up to its first of the given name, on a copy of m.
func stepsToOpen(t *testing.T, m *machine, name string) int {
	t.Helper()
	for k := 1; k < 100; k++ {
		c := newMachine()
		c.tpm.values, c.tpm.boot, c.kernel, c.disk = m.tpm.values, m.tpm.boot, m.kernel, m.disk
		c.log.Set(ledger.LogFile, m.log.Get(ledger.LogFile))
		c.state.Set(ledger.StateFile, m.state.Get(ledger.StateFile))
		c.faults.Break(k, durabletest.FailBefore, syscall.EIO)
		_, _ = c.open()
		if _, broken := c.faults.Steps(); broken == name {
			return k
		}
	}
	t.Fatalf("Open has no step %q", name)
	return 0
}

// case 25: an intent that was torn at any byte, or replaced by zeros, heals.
func TestTornIntent(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	appendAll(t, l, appEvent("a"))
	good := m.log.Get(ledger.LogFile)
	torn := must(pcr.NewRecord(2, index, []pcr.Algorithm{pcr.SHA1, pcr.SHA256, pcr.SHA384}, ptr(appEvent("b")))).Encode()
	for n := range torn {
		for _, tail := range [][]byte{torn[:n], make([]byte, n)} {
			m.log.Set(ledger.LogFile, append(bytes.Clone(good), tail...))
			l := m.restart(t)
			if s := l.State(); !s.Synchronised || s.Records != 2 {
				t.Fatalf("%d bytes of an intent: %+v", n, s)
			}
			if !bytes.Equal(m.log.Get(ledger.LogFile), good) {
				t.Fatalf("%d bytes of an intent are still in the file", n)
			}
		}
	}
}

func ptr[T any](v T) *T { return &v }

// case 26: a disk that stays full or broken stops measuring, not attesting.
func TestFullDisk(t *testing.T) {
	for _, err := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, step := range []string{"write " + ledger.LogFile, "sync " + ledger.LogFile, "write ." + ledger.StateFile + ".new", "rename " + ledger.StateFile} {
			m := newMachine()
			l := m.restart(t)
			appendAll(t, l, appEvent("a"))
			// Only one append meets the broken disk, then it stays broken until it is mended:
			// the commands to the TPM go through the same counter, so Hold comes after.
			m.faults.Break(stepsTo(t, step), durabletest.FailFrom, err)
			for range 3 {
				if _, got := l.Append(background, appEvent("b")); !errors.Is(got, err) {
					t.Errorf("%s: Append says %v", step, got)
				}
			}
			m.faults.Break(0, durabletest.None, nil)
			if l.State().Failure == "" {
				t.Errorf("%s: the state says nothing of it", step)
			}
			if err := hold(l); err != nil {
				t.Errorf("%s: %v", step, err)
			}
			apps(t, l.View(), m.tpm.now())
			appendAll(t, l, appEvent("c"))
			if f := l.State().Failure; f != "" {
				t.Errorf("%s: the state still says %s", step, f)
			}
			if s := m.restart(t).State(); !s.Synchronised {
				t.Errorf("%s: %s", step, s.Reason)
			}
		}
	}
}

// The log file may be taken away under a running daemon. What it held is in memory and
// in the PCR.
func TestLogDeletedWhileRunning(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	m.log.Set(ledger.LogFile, nil)
	if _, err := l.Append(background, appEvent("a")); err == nil {
		t.Error("appended to a file that is gone")
	}
	appendAll(t, l, appEvent("b"))
	if s := m.restart(t).State(); !s.Synchronised {
		t.Error(s.Reason)
	}
}
