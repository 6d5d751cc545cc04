package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

var background = context.Background()

func appendAll(t *testing.T, l *ledger.Ledger, events ...pcr.Event) {
	t.Helper()
	for _, e := range events {
		if _, err := l.Append(background, e); err != nil {
			t.Fatal(err)
		}
	}
}

func hold(l *ledger.Ledger) error {
	return l.Hold(background, func(ledger.View) error { return nil })
}

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

func TestFirstEventStatesTheStart(t *testing.T) {
	m := newMachine()
	before := m.tpm.now()
	l := m.restart(t)
	appendAll(t, l, agentEvent(pcr.EventAgent), appEvent("a"))
	if got, want := apps(t, l.View(), m.tpm.now()), []string{"log-start", "agent-start", "a"}; !slices.Equal(got, want) {
		t.Errorf("log is %v, want %v", got, want)
	}
	start := startOf(t, l)
	if d := must(start.Digests()); !pcr.Equal(d, before) || start.PCR != index || start.Previous != nil {
		t.Errorf("start event %+v", start)
	}
	head := l.View().Head

	m.reboot()
	l = m.restart(t)
	if start := startOf(t, l); start.Previous == nil || *start.Previous != head {
		t.Errorf("start of the next boot names %v before it, want %v", start.Previous, head)
	}
	if err := hold(l); err != nil {
		t.Error(err)
	}
}

func startOf(t *testing.T, l *ledger.Ledger) *pcr.StartEvent {
	t.Helper()
	whole, err := l.View().Log(0)
	if err != nil {
		t.Fatal(err)
	}
	return must(pcr.StartOf(must(pcr.DecodeLog(whole.Records, 0))))
}

// A log in a directory that outlives the boot must not be taken for one of this boot.
func TestBootWithKeptLog(t *testing.T) {
	m := newMachine()
	appendAll(t, m.restart(t), appEvent("a"))
	m.tpm.reset()
	m.kernel = "kernel-2"
	if got := apps(t, m.restart(t).View(), m.tpm.now()); !slices.Equal(got, []string{"log-start"}) {
		t.Errorf("log of a new boot is %v", got)
	}
}

// case 20
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
	t.Run("and nobody knows", func(t *testing.T) {
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
	// Nothing but an attacker can write behind an intent; it is cut off all the same.
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
		t.Error("what stood behind the intent is still there")
	}
}

// stepsToOpen is how many steps Open takes up to its first of the given name, on a copy of m.
func stepsToOpen(t *testing.T, m *machine, name string) int {
	t.Helper()
	for k := 1; k < 100; k++ {
		c := newMachine()
		c.tpm.values, c.tpm.boot = m.tpm.values, m.tpm.boot
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

// case 27
func TestAppendAtOnce(t *testing.T) {
	const n = 100
	m := newMachine()
	l := m.restart(t)
	var wg sync.WaitGroup
	numbers := make([]uint64, n)
	for i := range n {
		wg.Go(func() {
			r, err := l.Append(background, appEvent(fmt.Sprintf("app-%d", i)))
			if err != nil {
				t.Error(err)
			}
			numbers[i] = r.Number
		})
		if i%10 == 0 {
			wg.Go(func() {
				err := l.Hold(background, func(v ledger.View) error {
					apps(t, v, m.tpm.now()) // nothing is appended meanwhile
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				_ = l.State()
			})
		}
	}
	wg.Wait()
	got := apps(t, l.View(), m.tpm.now())
	if len(got) != n+1 {
		t.Fatalf("log has %d records, want %d", len(got), n+1)
	}
	for i, number := range numbers {
		if want := fmt.Sprintf("app-%d", i); got[number] != want {
			t.Errorf("record %d is %s, and Append said %s", number, got[number], want)
		}
	}
	m.restart(t)
}

// case 30, 88
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
	wantDesynchronised(t, m, m.restart(t), "another")
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

// case 89
func TestLocked(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	if _, err := m.open(); !errors.Is(err, ledger.ErrLocked) || !strings.Contains(err.Error(), "process ") {
		t.Errorf("a second daemon gets %v", err)
	}
	appendAll(t, l, appEvent("a"))
}

func TestFull(t *testing.T) {
	for limit := 4000; limit < 4700; limit += 25 {
		testFull(t, limit)
	}
}

func testFull(t *testing.T, limit int) {
	m := newMachine()
	m.limit = limit
	l := m.restart(t)
	var err error
	n := 0
	for ; err == nil; n++ {
		_, err = l.Append(background, appEvent("a"))
	}
	if !errors.Is(err, ledger.ErrFull) || n < 3 {
		t.Fatalf("after %d: %v", n, err)
	}
	for range 2 {
		got := apps(t, l.View(), m.tpm.now())
		if got[len(got)-1] != "full" || len(got) != n+1 {
			t.Errorf("log is %v", got)
		}
		s := l.State()
		if !s.Full || !s.Synchronised || s.Bytes > int64(m.limit) || s.Records != uint64(len(got)) {
			t.Errorf("%+v", s)
		}
		if _, err := l.Append(background, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "x"}}); !errors.Is(err, ledger.ErrFull) {
			t.Errorf("a smaller event after it: %v", err)
		}
		if err := hold(l); err != nil {
			t.Error(err)
		}
		l = m.restart(t)
	}
}

func TestRefusedEvents(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	for _, e := range []pcr.Event{
		{Type: pcr.EventStart}, {Type: pcr.EventFull}, {Type: "x"}, {Type: pcr.EventGap},
		{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: strings.Repeat("x", pcr.MaxReason+1)}},
	} {
		if _, err := l.Append(background, e); err == nil {
			t.Errorf("%+v was recorded", e)
		}
	}
	if got := apps(t, l.View(), m.tpm.now()); len(got) != 1 {
		t.Errorf("log is %v", got)
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

func TestWaiting(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	err := l.Hold(background, func(v ledger.View) error {
		ctx, cancel := context.WithCancel(background)
		cancel()
		if _, err := l.Append(ctx, appEvent("a")); !errors.Is(err, context.Canceled) {
			t.Errorf("Append during Hold: %v", err)
		}
		if err := l.Hold(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("Hold during Hold: %v", err)
		}
		_ = l.State() // waits for nobody
		return errors.New("mine")
	})
	if err == nil || err.Error() != "mine" {
		t.Errorf("Hold says %v", err)
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
	m.tpm.boot.RestartCount = 0
	c := cancelling{m.tpm, cancel}
	m.log.Kill()
	cfg := m.config()
	cfg.TPM = c
	l = must(ledger.Open(background, cfg))
	if _, err := l.Append(ctx, appEvent("b")); err != nil {
		t.Errorf("the end of the caller's context stopped a record in the middle: %v", err)
	}
}

// cancelling ends the caller's context in the middle of a record.
type cancelling struct {
	*fakeTPM
	cancel func()
}

func (c cancelling) Extend(ctx context.Context, i uint32, d []pcr.Digest) error {
	c.cancel()
	if err := ctx.Err(); err != nil {
		return err
	}
	return c.fakeTPM.Extend(ctx, i, d)
}

func TestViewOfAPart(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	appendAll(t, l, agentEvent(pcr.EventAgent), appEvent("a"))
	v := l.View()
	whole := must(v.Log(0))
	records := must(pcr.DecodeLog(whole.Records, 0))
	for start := range uint64(4) {
		part, err := v.Log(start)
		if err != nil {
			t.Fatal(err)
		}
		want := pcr.Head(evidence.LogHead{}, records[:start])
		if part.Start != start || part.Previous != want.Digest {
			t.Errorf("from %d: %d, %s", start, part.Start, part.Previous)
		}
		rest := must(pcr.DecodeLog(part.Records, start))
		if pcr.Head(want, rest) != v.Head {
			t.Errorf("from %d: the rest does not lead to the head", start)
		}
	}
	if _, err := v.Log(4); err == nil {
		t.Error("a log from beyond its end")
	}
	appendAll(t, l, appEvent("b"))
	if again := must(v.Log(0)); !bytes.Equal(again.Records, whole.Records) {
		t.Error("a view changed when the log grew")
	}
}
