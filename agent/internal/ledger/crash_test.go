// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/durable/durabletest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestCrashMatrix breaks every system call on the files and every command to the TPM of
// a scenario, each in every way, and looks at what a healthy start finds afterwards.
// Cases 23, 24, 25, 26, 36 and 83.
func TestCrashMatrix(t *testing.T) {
	for _, disk := range []bool{false, true} {
		t.Run(fmt.Sprintf("log on a disk %t", disk), func(t *testing.T) { testCrashes(t, disk, 0) })
	}
	t.Run("events in a PCR of their own", func(t *testing.T) { testCrashes(t, false, second) })
}

func testCrashes(t *testing.T, disk bool, events uint32) {
	count := func() int {
		m := newMachine()
		s := newScenario(m, disk, events)
		m.faults.Break(0, durabletest.None, nil)
		s.run(t)
		n, _ := m.faults.Steps()
		return n
	}()
	stride := matrixStride
	if testing.Short() {
		stride = max(stride, 7)
	}
	cases, clean, desynchronised := 0, 0, 0
	for _, mode := range durabletest.Modes {
		errs := []error{syscall.ENOSPC}
		if !mode.Kills() {
			errs = append(errs, syscall.EIO)
		}
		afters := []string{"restart"}
		if mode.Kills() {
			afters = append(afters, "power cut")
			if disk {
				afters = append(afters, "cache lost", "power cut, log kept")
			}
		}
		for _, e := range errs {
			for _, after := range afters {
				for k := 1; k <= count; k += stride {
					cases++
					name := fmt.Sprintf("%v at step %d with %v, then %s", mode, k, e, after)
					if crash(t, disk, events, name, k, mode, e, after) {
						clean++
					} else {
						desynchronised++
					}
					if t.Failed() {
						t.FailNow()
					}
				}
			}
		}
	}
	t.Logf("crash matrix: N=%d (%d steps of the scenario, stride %d), %d clean, %d desynchronised", cases, count, stride, clean, desynchronised)
	// Nothing else touched log or PCR, so that the ledger has no reason to give up.
	if desynchronised > 0 {
		t.Errorf("%d of %d crashes left log and PCR desynchronised", desynchronised, cases)
	}
	if count < 100 {
		t.Errorf("the scenario has %d steps: it does not do what it should", count)
	}
}

// crash runs the scenario with one fault, then a healthy start, and reports whether
// that is synchronised.
func crash(t *testing.T, disk bool, events uint32, name string, k int, mode durabletest.Mode, e error, after string) bool {
	m := newMachine()
	s := newScenario(m, disk, events)
	m.faults.Break(k, mode, e)
	s.name = name
	killed := s.run(t)
	_, broken := m.faults.Steps()
	s.name = fmt.Sprintf("%s (%s)", name, broken)
	if broken == "" || killed != mode.Kills() {
		t.Errorf("%s: broken %q, killed %v", s.name, broken, killed)
	}

	return recovers(t, s, after)
}

// recovers is a healthy start after a crash, and reports whether that is synchronised.
func recovers(t *testing.T, s *scenario, after string) bool {
	m := s.m
	m.faults.Break(0, durabletest.None, nil)
	m.log.Kill()
	if after != "restart" {
		m.log.PowerCut()
		m.state.PowerCut()
	}
	// A kernel that crashes into another one (kdump) loses what was not synced and
	// leaves the TPM alone.
	boot := after != "restart" && after != "cache lost"
	if boot {
		if after == "power cut" {
			m.log.Clear()
		}
		m.tpm.reset()
		m.kernel = "kernel-3"
	}
	l, err := m.open()
	if err != nil {
		t.Errorf("%s: healthy start: %v", s.name, err)
		return false
	}
	if st := l.State(); !st.Synchronised {
		if _, err := l.Append(context.Background(), appEvent("late")); !errors.Is(err, ledger.ErrDesynchronised) {
			t.Errorf("%s: desynchronised, and Append says %v", s.name, err)
		}
		t.Logf("%s: %s", s.name, st.Reason)
		return false
	}
	for _, e := range []pcr.Event{agentEvent(pcr.EventAgent), appEvent("late")} { // as every agent does
		if _, err := l.Append(context.Background(), e); err != nil {
			t.Errorf("%s: append after a healthy start: %v", s.name, err)
		}
	}
	s.hold(t, l)
	got := apps(t, l.View(), m.tpm.now())
	if boot {
		if want := []string{"log-start", "agent-start", "late"}; !slices.Equal(got, want) {
			t.Errorf("%s: log of a new boot is %v, want %v", s.name, got, want)
		}
		return true
	}
	s.acknowledged = append(s.acknowledged, "agent-start", "late")
	if !subsequence(s.acknowledged, got) {
		t.Errorf("%s: acknowledged %v, the log has %v", s.name, s.acknowledged, got)
	}
	if !subsequence(got, append(s.attempted, "agent-start", "late")) {
		t.Errorf("%s: attempted %v, the log has %v", s.name, s.attempted, got)
	}
	whole, _ := l.View().Log(0)
	if !bytes.Equal(m.log.Get(ledger.LogFile), whole.Records) {
		t.Errorf("%s: the log file holds something else than the log", s.name)
	}
	return true
}

// TestCrashInRecovery breaks the start that follows a crash as well: for every state that
// a crash of the scenario leaves, the process that mends it is killed at each of its steps
// in each way, and then comes a healthy start. Cases 24 and 83.
func TestCrashInRecovery(t *testing.T) {
	if testing.Short() {
		t.Skip("repeats the scenario some thousand times")
	}
	t.Run("log on a disk", func(t *testing.T) { testCrashesInRecovery(t, true, 0) })
	t.Run("log in memory, events in a PCR of their own", func(t *testing.T) { testCrashesInRecovery(t, false, second) })
}

func testCrashesInRecovery(t *testing.T, disk bool, events uint32) {
	type fault struct {
		k    int
		mode durabletest.Mode
	}
	crashed := func(f fault) *scenario {
		m := newMachine()
		s := newScenario(m, disk, events)
		m.faults.Break(f.k, f.mode, syscall.EIO)
		if !s.run(t) {
			return nil
		}
		m.log.Kill()
		return s
	}
	seen := map[string]bool{}
	var faults []fault
	for _, mode := range durabletest.Modes {
		for k := 1; mode.Kills(); k++ {
			s := crashed(fault{k, mode})
			if s == nil {
				break
			}
			left := fmt.Sprintf("%x %x %x %x %x", s.m.tpm.both(), s.m.log.Get(ledger.LogFile), s.m.log.Get("."+ledger.LogFile+".new"),
				s.m.state.Get(ledger.StateFile), s.m.state.Get("."+ledger.StateFile+".new"))
			if !seen[left] {
				seen[left] = true
				faults = append(faults, fault{k, mode})
			}
		}
	}
	n := 0
	for _, first := range faults {
		for _, mode := range durabletest.Modes {
			for j := 1; mode.Kills(); j += matrixStride {
				s := crashed(first)
				s.m.faults.Break(j, mode, syscall.EIO)
				func() {
					defer func() { _ = recover() }()
					_, _ = s.m.open()
				}()
				_, broken := s.m.faults.Steps()
				if broken == "" {
					break
				}
				n++
				after := "restart"
				if disk && n%2 != 0 {
					after = "cache lost"
				}
				s.name = fmt.Sprintf("%v at step %d, then %v at step %d of the start (%s), then %s", first.mode, first.k, mode, j, broken, after)
				if !recovers(t, s, after) {
					t.Errorf("%s: desynchronised", s.name)
				}
				if t.Failed() {
					t.FailNow()
				}
			}
		}
	}
	t.Logf("crashes in recovery: N=%d, from %d states", n, len(faults))
	if len(faults) < 30 || n*matrixStride < 2000 {
		t.Errorf("only %d crashes from %d states", n, len(faults))
	}
}

// TestNothingPassesTheMatrixBy: the ledger touches files and TPM by nothing but the
// interfaces whose every call is a step of the matrix, so that a call which is added to it
// is broken as the others are.
func TestNothingPassesTheMatrixBy(t *testing.T) {
	const module = "github.com/cvm-agentd/agentd/"
	pure := []string{"bytes", "cmp", "context", "errors", "fmt", "io/fs", "slices", "sync", "syscall", module + "evidence", module + "internal/strictjson", module + "internal/text", module + "internal/turn", module + "pcr"}
	constants := []string{"syscall.EWOULDBLOCK", "syscall.EFBIG", "fs.ErrNotExist"}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			if seen[path] = true; !slices.Contains(pure, path) || i.Name != nil {
				t.Errorf("%s imports %s", name, i.Path.Value)
			}
		}
		ast.Inspect(f, func(node ast.Node) bool {
			s, ok := node.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && (x.Name == "syscall" || x.Name == "fs") && !slices.Contains(constants, x.Name+"."+s.Sel.Name) {
				t.Errorf("%s uses %s.%s", name, x.Name, s.Sel.Name)
			}
			return true
		})
	}
	for _, path := range pure { // so that no file was missed, and the list stays short
		if !seen[path] {
			t.Errorf("%s is allowed, and no file imports it", path)
		}
	}
}

// scenario is what a daemon does: start, measure, be asked, stop, start, reload, measure.
type scenario struct {
	m            *machine
	name         string
	attempted    []string // in the order in which they were
	acknowledged []string // of these, those that were said to be recorded
}

// newScenario begins in the second boot of the machine, so that there is an earlier log, or the
// state of one, to be mistaken for this one.
func newScenario(m *machine, disk bool, events uint32) *scenario {
	m.disk, m.events = disk, events
	l := must(m.open())
	must(l.Append(context.Background(), appEvent("earlier boot")))
	m.log.Kill()
	if !disk {
		m.log.Clear()
	}
	m.tpm.reset()
	m.kernel = "kernel-2"
	return &scenario{m: m, attempted: []string{"log-start"}}
}

// run reports whether the process was killed in it.
func (s *scenario) run(t *testing.T) (killed bool) {
	t.Helper()
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(durabletest.Killed); !ok {
				panic(r)
			}
			killed = true
		}
	}()
	for process, events := range [][]pcr.Event{
		{agentEvent(pcr.EventAgent), appEvent("a"), emittedEvent("1"), appEvent("b"), stopEvent()},
		{agentEvent(pcr.EventAgent), sameEvent("a"), agentEvent(pcr.EventReload), appEvent("c"), emittedEvent("2"), {Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "overflow"}}},
	} {
		s.m.log.Kill()
		l, err := s.m.open()
		if err != nil {
			// Open says that it may be tried again.
			if l, err = s.m.open(); err != nil {
				continue
			}
		}
		if !l.State().Synchronised {
			t.Errorf("%s: process %d: %s", s.name, process, l.State().Reason)
		}
		for _, e := range events {
			s.append(l, e)
			s.hold(t, l)
		}
	}
	return false
}

func (s *scenario) append(l *ledger.Ledger, e pcr.Event) {
	what := string(e.Type)
	switch {
	case e.App != nil:
		what = e.App.App
	case e.Same != nil:
		what = "same " + e.Same.App
	case e.Emitted != nil:
		what = "said " + string(e.Emitted.Content)
	}
	s.attempted = append(s.attempted, what)
	if _, err := l.Append(context.Background(), e); err == nil {
		s.acknowledged = append(s.acknowledged, what)
	}
}

// hold asserts that whatever is attested to is what the PCR holds, and that it has
// everything that was acknowledged.
func (s *scenario) hold(t *testing.T, l *ledger.Ledger) {
	t.Helper()
	err := l.Hold(context.Background(), func(v ledger.View) error {
		got := apps(t, v, s.m.tpm.now())
		if s.m.events != 0 && !pcr.EqualRegisters(v.Registers, s.m.tpm.both()) {
			t.Errorf("%s: the log does not explain the PCR of events", s.name)
		}
		if start := must(startOf(t, l).Digests()); !pcr.Equal(start, s.m.tpm.start) {
			t.Errorf("%s: the log starts from a PCR that it does not explain", s.name)
		}
		if s.m.kernel == "kernel-2" && !subsequence(s.acknowledged, got) {
			t.Errorf("%s: acknowledged %v, held %v", s.name, s.acknowledged, got)
		}
		if !v.State.Synchronised || v.Head == (evidence.LogHead{}) {
			t.Errorf("%s: held a view with state %+v and head %v", s.name, v.State, v.Head)
		}
		return nil
	})
	if errors.Is(err, ledger.ErrDesynchronised) {
		t.Errorf("%s: %v", s.name, err)
	}
}

// subsequence reports whether b contains all of a in the same order.
func subsequence(a, b []string) bool {
	for _, s := range a {
		i := slices.Index(b, s)
		if i < 0 {
			return false
		}
		b = b[i+1:]
	}
	return true
}
