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
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// wantDesynchronised asserts that nothing is recorded or attested to, now and after
// another start in this boot, and that the next boot repairs it.
func wantDesynchronised(t *testing.T, m *machine, l *ledger.Ledger, reason string) {
	t.Helper()
	for _, again := range []string{"at once", "after a restart", "after another"} {
		if _, err := l.Append(background, appEvent("late")); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("%s: Append says %v", again, err)
		}
		if err := hold(l); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("%s: Hold says %v", again, err)
		}
		if s := l.State(); s.Synchronised || !strings.Contains(s.Reason, reason) {
			t.Errorf("%s: state %+v, want a reason with %q", again, s, reason)
		}
		l = m.restart(t)
	}
	m.reboot()
	if err := hold(m.restart(t)); err != nil {
		t.Errorf("after a boot: %v", err)
	}
}

// case 20
func TestForeignExtend(t *testing.T) {
	t.Run("seen by Hold", func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		appendAll(t, l, appEvent("a"))
		m.tpm.extend("another program")
		if err := l.Hold(background, func(ledger.View) error { t.Error("called"); return nil }); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Hold says %v", err)
		}
		wantDesynchronised(t, m, l, "something else")
	})
	t.Run("seen by Append", func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		m.tpm.extend("another program")
		if _, err := l.Append(background, appEvent("a")); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Append says %v", err)
		}
		wantDesynchronised(t, m, l, "something else")
	})
	t.Run("seen by a start", func(t *testing.T) {
		m := newMachine()
		appendAll(t, m.restart(t), appEvent("a"))
		m.tpm.extend("another program")
		wantDesynchronised(t, m, m.restart(t), "something else")
	})
}

// case 35: the host of a vTPM can reset it under us.
func TestTPMReset(t *testing.T) {
	t.Run("seen by Hold", func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		m.tpm.reset()
		if err := hold(l); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Hold says %v", err)
		}
		wantDesynchronised(t, m, l, "reset")
	})
	t.Run("between two processes", func(t *testing.T) {
		m := newMachine()
		appendAll(t, m.restart(t), appEvent("a"))
		m.tpm.reset()
		wantDesynchronised(t, m, m.restart(t), "reset under the running kernel")
	})
	t.Run("kernel not known, between two processes", func(t *testing.T) {
		m := newMachine()
		m.kernel = ""
		appendAll(t, m.restart(t), appEvent("a"))
		m.tpm.reset()
		wantDesynchronised(t, m, m.restart(t), "the log is of this boot")
	})
	t.Run("kernel not known, log on a disk", func(t *testing.T) {
		m := newMachine()
		m.kernel, m.disk = "", true
		appendAll(t, m.restart(t), appEvent("a"))
		m.tpm.reset() // looks like any boot
		l := m.restart(t)
		if !l.State().Synchronised {
			t.Error(l.State().Reason)
		}
		m.tpm.reset() // but not to a process that is there
		if err := hold(l); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Hold says %v", err)
		}
		wantDesynchronised(t, m, l, "reset")
	})
}

// cases 30 and 88
func TestLogTamperedWith(t *testing.T) {
	for _, tc := range []struct {
		name   string
		do     func(m *machine)
		reason string
	}{
		{"deleted", func(m *machine) { m.log.Set(ledger.LogFile, nil) }, "missing"},
		{"deleted, in another kernel (kexec)", func(m *machine) { m.log.Clear(); m.kernel = "kernel-2" }, "missing"},
		{"emptied", func(m *machine) { m.log.Set(ledger.LogFile, []byte{}) }, "missing"},
		{"cut by a record", func(m *machine) {
			records := must(pcr.DecodeLog(m.log.Get(ledger.LogFile), 0))
			var b []byte
			for _, r := range records[:len(records)-1] {
				b = append(b, r.Encode()...)
			}
			m.log.Set(ledger.LogFile, b)
		}, "3 records completed"},
		{"cut by a byte", func(m *machine) {
			b := m.log.Get(ledger.LogFile)
			m.log.Set(ledger.LogFile, b[:len(b)-1])
		}, "damage"},
		{"replaced by another", func(m *machine) {
			other := newMachine()
			l := must(other.open())
			for _, a := range []string{"x", "y"} {
				must(l.Append(background, appEvent(a)))
			}
			m.log.Set(ledger.LogFile, other.log.Get(ledger.LogFile))
		}, "differ from those completed"},
		{"damaged in the first record", func(m *machine) {
			b := m.log.Get(ledger.LogFile)
			b[20] ^= 1
			m.log.Set(ledger.LogFile, b)
		}, "damage: log record 0 at byte 0"},
		{"a digest of the second record flipped", func(m *machine) {
			records := must(pcr.DecodeLog(m.log.Get(ledger.LogFile), 0))
			b := m.log.Get(ledger.LogFile)
			b[len(records[0].Encode())+40] ^= 1
			m.log.Set(ledger.LogFile, b)
		}, "digest is not that of its content"},
		{"begun with another event", func(m *machine) {
			gap := pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "x"}}
			m.log.Set(ledger.LogFile, must(pcr.NewRecord(0, index, m.tpm.banks, &gap)).Encode())
		}, `the first record is "gap"`},
		{"larger than any log", func(m *machine) { m.log.Set(ledger.LogFile, make([]byte, evidence.MaxLog+1)) }, "want"},
		{"PCR went back", func(m *machine) {
			// A host that restores a snapshot of the vTPM leaves the reset count as it was.
			records := must(pcr.DecodeLog(m.log.Get(ledger.LogFile), 0))
			m.tpm.values = must(pcr.Replay(records[:2], m.tpm.banks, m.tpm.start))
		}, "went back"},
		{"cut by a byte, state deleted", func(m *machine) {
			b := m.log.Get(ledger.LogFile)
			m.log.Set(ledger.LogFile, b[:len(b)-1])
			m.state.Clear()
		}, "the log is damaged, and what is good of it (2 records) does not explain the PCR"},
		{"log deleted, state damaged, PCR holds something", func(m *machine) {
			m.state.Set(ledger.StateFile, []byte(`{"type":"?"}`))
			m.tpm.extend("x")
		}, "something else"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine()
			appendAll(t, m.restart(t), appEvent("a"), appEvent("b"))
			tc.do(m)
			wantDesynchronised(t, m, m.restart(t), tc.reason)
		})
	}
}

// case 88: with the state gone as well nothing local can tell, but the first record then
// states a PCR that no verifier finds explained.
func TestLogAndStateDeleted(t *testing.T) {
	m := newMachine()
	appendAll(t, m.restart(t), appEvent("a"))
	before := m.tpm.now()
	m.log.Clear()
	m.state.Clear()
	if got := must(startOf(t, m.restart(t)).Digests()); !pcr.Equal(got, before) {
		t.Error("the new log does not start from the PCR as it was")
	}
}

func TestStateDamaged(t *testing.T) {
	for name, content := range map[string][]byte{
		"missing": nil, "empty": {}, "not JSON": []byte("x"), "another type": []byte(`{"type":"agentd/ledger/2"}`),
		"too large": bytes.Repeat([]byte(" "), 1<<20), "unknown member": []byte(`{"type":"agentd/ledger/1","x":1}`),
	} {
		m := newMachine()
		appendAll(t, m.restart(t), appEvent("a"))
		m.state.Set(ledger.StateFile, content)
		l := m.restart(t)
		if err := hold(l); err != nil {
			t.Errorf("%s: the log explains the PCR, and Hold says %v", name, err)
		}
		m.log.Set(ledger.LogFile, nil)
		if l := m.restart(t); l.State().Synchronised {
			t.Errorf("%s: the state was not written again", name)
		}
	}
}

// A TPM that is cleared loses its AK, and with it any way to compare reset counts.
func TestAnotherAK(t *testing.T) {
	m := newMachine()
	appendAll(t, m.restart(t), appEvent("a"))
	m.tpm.boot = ledger.Boot{AKName: []byte("ak-2"), ResetCount: 1}
	if err := hold(m.restart(t)); err != nil {
		t.Errorf("the log explains the PCR: %v", err)
	}
	m.tpm.boot.AKName = []byte("ak-3")
	m.log.Clear()
	wantDesynchronised(t, m, m.restart(t), "differs")

	t.Run("and a record that was not extended", func(t *testing.T) {
		m := newMachine()
		leaveIntent(t, m)
		m.tpm.boot.AKName = []byte("ak-2")
		if got := apps(t, m.restart(t).View(), m.tpm.now()); !slices.Equal(got, []string{"log-start", "a"}) {
			t.Errorf("log is %v", got)
		}
	})
	// A TPM that is cleared between two boots. The log need not be in memory.
	for name, keep := range map[string]bool{"and a new boot": false, "and a new boot, log kept": true} {
		t.Run(name, func(t *testing.T) {
			m := newMachine()
			m.disk = keep
			l := m.restart(t)
			appendAll(t, l, appEvent("a"))
			head := l.View().Head
			log := m.log.Get(ledger.LogFile)
			m.reboot()
			if keep {
				m.log.Set(ledger.LogFile, log)
			}
			m.tpm.boot = ledger.Boot{AKName: []byte("ak-2"), ResetCount: 1}
			l = m.restart(t)
			if got := apps(t, l.View(), m.tpm.now()); !slices.Equal(got, []string{"log-start"}) {
				t.Errorf("log is %v", got)
			}
			if start := startOf(t, l); start.Previous == nil || *start.Previous != head {
				t.Errorf("the new log names %v before it, want %v", start.Previous, head)
			}
		})
	}
	t.Run("before anything was completed", func(t *testing.T) {
		m := newMachine()
		m.faults.Break(stepsToOpen(t, m, "TPM extend"), durabletest.FailFrom, syscall.EIO)
		if _, err := m.open(); err == nil {
			t.Fatal("opened without a TPM")
		}
		m.faults.Break(0, durabletest.None, nil)
		m.log.Clear()
		m.tpm.boot.AKName = []byte("ak-2")
		if err := hold(m.restart(t)); err != nil {
			t.Error(err)
		}
	})
}

// A log that was lost in one boot is still the one that the next boot names before it.
func TestLostLogIsNamed(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	appendAll(t, l, appEvent("a"))
	head := l.View().Head
	m.log.Set(ledger.LogFile, nil)
	for range 2 {
		if m.restart(t).State().Synchronised {
			t.Fatal("a log that was deleted is not missed")
		}
	}
	m.reboot()
	if start := startOf(t, m.restart(t)); start.Previous == nil || *start.Previous != head {
		t.Errorf("the next boot names %v before it, want %v", start.Previous, head)
	}
}

// A start that dies before anything is completed does not forget the boot before it.
func TestBegunTwice(t *testing.T) {
	m := newMachine()
	m.restart(t)
	m.reboot()
	l := m.restart(t)
	appendAll(t, l, appEvent("a"))
	head := l.View().Head
	m.reboot()
	for range 2 {
		m.log.Kill()
		m.faults.Break(stepsToOpen(t, m, "TPM extend"), durabletest.FailFrom, syscall.EIO)
		if _, err := m.open(); err == nil {
			t.Fatal("opened without a TPM")
		}
		m.faults.Break(0, durabletest.None, nil)
		m.log.Clear()
	}
	if start := startOf(t, m.restart(t)); start.Previous == nil || *start.Previous != head {
		t.Errorf("the new log names %v before it, want %v", start.Previous, head)
	}
}

// TestCompletionIsMadeUpFor: a record whose completion failed is completed before anything
// else is done, so that it cannot be cut off a log later.
func TestCompletionIsMadeUpFor(t *testing.T) {
	for _, restart := range []bool{false, true} {
		done := false
		for k := 1; !done; k++ {
			m := newMachine()
			l := m.restart(t)
			m.faults.Break(stepsTo(t, "rename "+ledger.StateFile), durabletest.FailBefore, syscall.EIO)
			if _, err := l.Append(background, appEvent("a")); !errors.Is(err, syscall.EIO) {
				t.Fatalf("Append says %v", err)
			}
			m.faults.Break(0, durabletest.None, nil)
			if restart {
				l = m.restart(t)
			}
			m.faults.Break(k, durabletest.FailBefore, syscall.EIO)
			_, err := l.Append(background, appEvent("b"))
			_, broken := m.faults.Steps()
			if broken == "" {
				t.Fatalf("no step writes the log: %v", err)
			}
			if broken != "write "+ledger.LogFile {
				continue
			}
			done = true
			m.faults.Break(0, durabletest.None, nil)
			records := must(pcr.DecodeLog(m.log.Get(ledger.LogFile), 0))
			m.log.Set(ledger.LogFile, records[0].Encode())
			if s := m.restart(t).State(); s.Synchronised || !strings.Contains(s.Reason, "completed in this boot") {
				t.Errorf("restart %t: a log without its last record is %+v", restart, s)
			}
		}
	}
}

// The configuration may name another PCR in the middle of a boot.
func TestAnotherPCR(t *testing.T) {
	m := newMachine()
	m.restart(t)
	m.log.Kill()
	c := m.config()
	c.PCR = 15
	c.TPM = shifted{m.tpm}
	l, err := ledger.Open(background, c)
	if err != nil {
		t.Fatal(err)
	}
	if s := l.State(); s.Synchronised || !strings.Contains(s.Reason, "configured is PCR 15") {
		t.Errorf("%+v", s)
	}
}

type shifted struct{ *fakeTPM }

func (s shifted) Read(ctx context.Context, i uint32) ([]pcr.Digest, error) {
	return s.fakeTPM.Read(ctx, i-1)
}
