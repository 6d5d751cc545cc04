// SPDX-License-Identifier: Apache-2.0

package ledger_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/evidence"
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
	m.disk = true
	appendAll(t, m.restart(t), appEvent("a"))
	m.tpm.reset()
	m.kernel = "kernel-2"
	if got := apps(t, m.restart(t).View(), m.tpm.now()); !slices.Equal(got, []string{"log-start"}) {
		t.Errorf("log of a new boot is %v", got)
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
		if !s.Full || !s.Synchronised || s.Bytes > s.Limit || s.Limit != int64(m.limit) || s.Records != uint64(len(got)) {
			t.Errorf("%+v", s)
		}
		if _, err := l.Append(background, pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: "x"}}); !errors.Is(err, ledger.ErrFull) {
			t.Errorf("a smaller event after it: %v", err)
		}
		if before, now := s.Refused, l.State().Refused; now != before+1 {
			t.Errorf("%d refused events were counted, and %d before one more", now, before)
		}
		if err := hold(l); err != nil {
			t.Error(err)
		}
		l = m.restart(t)
	}
}

// Events of applications end before the log does: what the agent has to record goes in after them,
// and the log says of no failure. Case 128.
func TestEventsLeaveRoom(t *testing.T) {
	m := newMachine()
	m.limit = 64 << 10
	l := m.restart(t)
	must(l.Append(background, agentEvent(pcr.EventAgent)))
	var err error
	said := 0
	for ; err == nil; said++ {
		_, err = l.Append(background, emittedEvent(strings.Repeat("x", pcr.MaxEmitted)))
	}
	if s := l.State(); !errors.Is(err, ledger.ErrReserved) || s.Full || s.Failure != "" || s.Refused != 0 || !s.Synchronised {
		t.Fatalf("after %d: %v, %+v", said, err, s)
	}
	if s := l.State(); s.Bytes > s.Limit*3/4 || s.Bytes < s.Limit*2/3 {
		t.Errorf("events fill %d of %d bytes", s.Bytes, s.Limit)
	}
	if _, err := l.Append(background, emittedEvent("x")); !errors.Is(err, ledger.ErrReserved) {
		t.Logf("a smaller one: %v", err)
	}
	more := 0
	for ; err != nil && more < 8; more++ {
		must(l.Append(background, appEvent(fmt.Sprint("app", more))))
	}
	if more != 8 || l.State().Full {
		t.Errorf("%d records of the agent after the events, %+v", more, l.State())
	}
	if _, err := l.Append(background, emittedEvent(strings.Repeat("x", pcr.MaxEmitted))); !errors.Is(err, ledger.ErrReserved) {
		t.Errorf("one more: %v", err)
	}
	apps(t, l.View(), m.tpm.now())
	if err := hold(l); err != nil {
		t.Error(err)
	}
	last := l.View().Head.Count - 1
	if r, err := l.View().Record(last); err != nil || must(r.Event()).App.App != "app7" {
		t.Errorf("record %d: %+v, %v", last, r, err)
	}
	if _, err := l.View().Record(last + 1); err == nil {
		t.Error("a record after the last")
	}
}

func TestRefusedEvents(t *testing.T) {
	m := newMachine()
	l := m.restart(t)
	for _, e := range []pcr.Event{
		{Type: pcr.EventStart}, {Type: pcr.EventStart, Start: startOf(t, l)}, {Type: pcr.EventFull}, {Type: "x"}, {Type: pcr.EventGap},
		{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: strings.Repeat("x", pcr.MaxReason+1)}},
		{Type: pcr.EventStop, Stop: &pcr.StopEvent{AgentKey: make([]byte, 32)}}, // nothing started
	} {
		if _, err := l.Append(background, e); err == nil {
			t.Errorf("%+v was recorded", e)
		}
		if s := l.State(); !s.Synchronised {
			t.Fatalf("%+v: %s", e, s.Reason)
		}
	}
	if got := apps(t, l.View(), m.tpm.now()); len(got) != 1 {
		t.Errorf("log is %v", got)
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
		_ = l.State() // does not wait
		return errors.New("mine")
	})
	if err == nil || err.Error() != "mine" {
		t.Errorf("Hold says %v", err)
	}
	ctx, cancel := context.WithCancel(background)
	defer cancel()
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

// TestRoomForStart: whatever filled the log, an agent can stop and another one, with more
// declarations, start, as long as the log is not closed. No evidence is accepted from an agent
// whose start is not recorded. Case 103.
func TestRoomForStart(t *testing.T) {
	gap := func(size int) pcr.Event {
		return pcr.Event{Type: pcr.EventGap, Gap: &pcr.GapEvent{Reason: strings.Repeat("x", size)}}
	}
	start := func(declared int) pcr.Event {
		e := agentEvent(pcr.EventAgent)
		for i := range declared {
			e.Agent.Declarations = append(e.Agent.Declarations, pcr.Declaration{App: fmt.Sprintf("later-%02d", i), Digest: evidence.Digest{1}})
		}
		return e
	}
	for size := 1; size < 250; size += 8 {
		m := newMachine()
		m.limit = 32 << 10
		l := m.restart(t)
		appendAll(t, l, start(20))
		fits := 0
		for err := error(nil); err == nil; fits++ {
			_, err = l.Append(background, gap(size))
		}
		m = newMachine()
		m.limit = 32 << 10
		l = m.restart(t)
		appendAll(t, l, start(20))
		for range fits - 1 {
			appendAll(t, l, gap(size))
		}
		appendAll(t, l, stopEvent())
		l = m.restart(t)
		appendAll(t, l, start(30))
		if l.View().AgentKey == nil {
			t.Error("the log names no agent that runs")
		}
		if _, err := l.Append(background, gap(size)); !errors.Is(err, ledger.ErrFull) || l.State().Bytes > int64(m.limit) {
			t.Errorf("the next record: %v, %d bytes", err, l.State().Bytes)
		}
	}
}
