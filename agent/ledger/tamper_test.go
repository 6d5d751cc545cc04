package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/agent/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

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

func TestForeignExtend(t *testing.T) {
	t.Run("seen by Hold", func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		appendAll(t, l, appEvent("a"))
		m.tpm.extend("somebody else")
		if err := l.Hold(background, func(ledger.View) error { t.Error("called"); return nil }); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Hold says %v", err)
		}
		wantDesynchronised(t, m, l, "something else")
	})
	t.Run("seen by Append", func(t *testing.T) {
		m := newMachine()
		l := m.restart(t)
		m.tpm.extend("somebody else")
		if _, err := l.Append(background, appEvent("a")); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("Append says %v", err)
		}
		wantDesynchronised(t, m, l, "something else")
	})
	t.Run("seen by a start", func(t *testing.T) {
		m := newMachine()
		appendAll(t, m.restart(t), appEvent("a"))
		m.tpm.extend("somebody else")
		wantDesynchronised(t, m, m.restart(t), "something else")
	})
}

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
	t.Run("kernel not known", func(t *testing.T) {
		m := newMachine()
		m.kernel = ""
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
		}, "3 records were completed"},
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
		}, "are others than were completed"},
		{"damaged in the first record", func(m *machine) {
			b := m.log.Get(ledger.LogFile)
			b[20] ^= 1
			m.log.Set(ledger.LogFile, b)
		}, "damage"},
		{"larger than any log", func(m *machine) { m.log.Set(ledger.LogFile, make([]byte, evidence.MaxLog+1)) }, "want"},
		{"PCR went back", func(m *machine) {
			// A host that restores a snapshot of the vTPM leaves the reset count as it was.
			records := must(pcr.DecodeLog(m.log.Get(ledger.LogFile), 0))
			m.tpm.values = must(pcr.Replay(records[:2], m.tpm.banks, m.tpm.start))
		}, "went back"},
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

func TestAnotherAK(t *testing.T) {
	m := newMachine()
	appendAll(t, m.restart(t), appEvent("a"))
	m.tpm.boot = ledger.Boot{AKName: []byte("ak-2"), ResetCount: 1}
	if err := hold(m.restart(t)); err != nil {
		t.Errorf("the log explains the PCR: %v", err)
	}
	m.tpm.boot.AKName = []byte("ak-3")
	m.log.Clear()
	wantDesynchronised(t, m, m.restart(t), "another")
}

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
