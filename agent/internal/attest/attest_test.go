// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/agent/internal/ledger"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

func TestFreshAndAnchored(t *testing.T) {
	r := newRig(t, nil)
	fresh := r.ask(t, request(1, evidence.Fresh))
	if fresh.Anchor != nil {
		t.Error("fresh evidence has an anchor")
	}
	anchored := r.ask(t, request(2, evidence.Anchored))
	if anchored.Anchor == nil || anchored.Anchor.Tree != fresh.Batch.Tree {
		t.Error("the anchor of the evidence is not the fresh batch before it")
	}
	if r.platform.count() != 1 {
		t.Errorf("%d reports asked for, want 1", r.platform.count())
	}
	r.ask(t, request(3, evidence.Fresh))
	again := r.ask(t, request(4, evidence.Anchored))
	if again.Anchor.Tree == anchored.Anchor.Tree {
		t.Error("the newer report did not become the anchor")
	}
	if s := r.Stats(); s.Batches != (api.BatchCounts{Statements: 4, Fresh: 2, Anchored: 2, Largest: 1}) || s.Anchor == nil {
		t.Errorf("counters %+v", s)
	}
}

// A caller that asks for anchored evidence before there is any report waits for one.
func TestAnchoredWithoutAnchor(t *testing.T) {
	r := newRig(t, nil)
	if e := r.ask(t, request(1, evidence.Anchored)); e.Anchor != nil {
		t.Error("there was no anchor")
	}
}

// TestBatching tests cases 41 and 42: callers that come while a batch is in flight go
// into the next one, all together, and every answer is for its own nonce.
func TestBatching(t *testing.T) {
	r := newRig(t, nil)
	r.platform.shut()
	first := make(chan *evidence.Evidence)
	go func() {
		b, err := r.Attest(t.Context(), request(255, evidence.Fresh), caller)
		if err != nil {
			t.Error(err)
		}
		first <- decode(t, b, request(255, "").Nonce)
	}()
	<-r.platform.asked // the first root is fixed now

	const n = 100
	all := make([]*evidence.Evidence, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			b, err := r.Attest(t.Context(), request(byte(i), evidence.Fresh), caller)
			if err != nil {
				t.Error(err)
				return
			}
			all[i] = decode(t, b, request(byte(i), "").Nonce)
		})
	}
	until(t, "all callers wait", func() bool { return r.fresh.length() == n })
	r.platform.open()
	if e := <-first; e.Batch.Tree.Size != 1 {
		t.Errorf("first batch of %d statements, want 1", e.Batch.Tree.Size)
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for i, e := range all {
		if e.Batch.Tree.Size != n {
			t.Fatalf("caller %d is in a batch of %d, want %d", i, e.Batch.Tree.Size, n)
		}
		next := all[(i+1)%n]
		if err := evidence.CheckInclusion(e.Batch.Tree, evidence.Leaf(next.Statement), e.Inclusion); err == nil {
			t.Fatalf("proof of caller %d holds for another statement", i)
		}
	}
	if r.platform.count() != 2 {
		t.Errorf("%d reports for two batches", r.platform.count())
	}
}

// Anchored callers do not wait for a report that is under way.
func TestAnchoredPassesSlowReport(t *testing.T) {
	r := newRig(t, nil)
	r.ask(t, request(1, evidence.Fresh))
	<-r.platform.asked
	r.platform.shut()
	done := make(chan error, 1)
	go func() {
		_, err := r.Attest(t.Context(), request(2, evidence.Fresh), caller)
		done <- err
	}()
	<-r.platform.asked
	for i := range byte(10) {
		r.ask(t, request(10+i, evidence.Anchored))
	}
	select {
	case <-done:
		t.Fatal("the fresh caller was answered without a report")
	default:
	}
	r.platform.open()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestAnchorIsRenewed(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AnchorMaxAge = time.Minute })
	r.ask(t, request(1, evidence.Fresh))
	r.clock.add(2 * time.Minute)
	if e := r.ask(t, request(2, evidence.Anchored)); e.Anchor != nil {
		t.Error("an old anchor was not renewed")
	}
	r.clock.add(2 * time.Minute)
	r.platform.fail(platform.ErrBusy)
	if e := r.ask(t, request(3, evidence.Anchored)); e.Anchor == nil {
		t.Error("no report is available, and the old anchor was not used")
	}
	if _, err := r.Attest(t.Context(), request(4, evidence.Fresh), caller); !errors.Is(err, platform.ErrBusy) {
		t.Errorf("fresh evidence without a report: error %v, want ErrBusy", err)
	}
}

// TestTPMReset holds case 35 as far as the batcher sees it.
func TestTPMReset(t *testing.T) {
	r := newRig(t, nil)
	r.ask(t, request(1, evidence.Fresh))
	r.tpm.set(func(f *fakeTPM) { f.resets++ })
	if e := r.ask(t, request(2, evidence.Anchored)); e.Anchor != nil {
		t.Error("the anchor of the evidence is from before the reset")
	}
}

// A vTPM that contradicts the log gets no report, in either lane.
func TestPCRMismatch(t *testing.T) {
	r := newRig(t, nil)
	r.ask(t, request(1, evidence.Fresh))
	r.tpm.set(func(f *fakeTPM) { f.lie = true })
	for _, f := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
		_, err := r.Attest(t.Context(), request(2, f), caller)
		if !errors.Is(err, ErrPCRMismatch) || !strings.Contains(err.Error(), "PCR 14") {
			t.Errorf("%s: error %v, want ErrPCRMismatch that names PCR 14", f, err)
		}
	}
	if r.platform.count() != 1 {
		t.Error("a report was asked for over a quote that lies")
	}
	if s := r.Stats(); s.Batches.Failed != 2 || s.LastError == "" || !strings.Contains(s.QuoteError, "PCR 14") {
		t.Errorf("counters %+v", s)
	}
	r.tpm.set(func(f *fakeTPM) { f.lie = false })
	r.platform.fail(platform.ErrBusy) // a quote that holds is one, whatever becomes of the report
	if _, err := r.Attest(t.Context(), request(3, evidence.Fresh), caller); !errors.Is(err, platform.ErrBusy) {
		t.Fatalf("error %v, want ErrBusy", err)
	}
	if s := r.Stats(); s.QuoteError != "" || s.LastError == "" {
		t.Errorf("counters after a good quote %+v", s)
	}
}

func TestErrorsReachEveryCaller(t *testing.T) {
	tests := []struct {
		name   string
		break_ func(*rig)
		want   error
	}{
		{"desynchronised", func(r *rig) { r.ledger.fail(ledger.ErrDesynchronised) }, ledger.ErrDesynchronised},
		{"no quote", func(r *rig) { r.tpm.err = errors.New("hangs") }, ErrTPM},
		{"a quote that does not hold", func(r *rig) { r.tpm.err = fmt.Errorf("%w: not signed", tpmkeys.ErrQuote) }, ErrBadQuote},
		{"throttled (case 38)", func(r *rig) { r.platform.shut() }, platform.ErrTimedOut},
		{"key wiped (case 40)", func(r *rig) { r.platform.err = platform.ErrKeyWiped }, platform.ErrKeyWiped},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // no time passes while anything works
				r := newRig(t, func(c *Config) {
					c.ReportTimeout = time.Hour // ends no other failure before it is told
					if errors.Is(tt.want, platform.ErrTimedOut) {
						c.ReportTimeout = 10 * time.Millisecond
					}
				})
				tt.break_(r)
				var wg sync.WaitGroup
				for i := range byte(5) {
					wg.Go(func() {
						if _, err := r.Attest(t.Context(), request(i, evidence.Fresh), caller); !errors.Is(err, tt.want) {
							t.Errorf("error %v, want %v", err, tt.want)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

func TestLogParts(t *testing.T) {
	r := newRig(t, nil)
	ask := func(mode api.LogMode, start uint64) (*evidence.Evidence, error) {
		q := request(1, evidence.Fresh)
		q.Log, q.LogStart = mode, start
		b, err := r.Attest(t.Context(), q, caller)
		if err != nil {
			return nil, err
		}
		return decode(t, b, q.Nonce), nil
	}
	whole, err := r.ledger.View().Log(0)
	if err != nil {
		t.Fatal(err)
	}
	end := r.ledger.View().Head.Count
	last, err := r.ledger.View().Log(end - 1)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		mode  api.LogMode
		start uint64
		want  string // records, "-" for no log
		err   error
	}{
		{"", 0, string(whole.Records), nil},
		{api.LogWhole, 0, string(whole.Records), nil},
		{api.LogFrom, end - 1, string(last.Records), nil},
		{api.LogFrom, end, "", nil},
		{api.LogFrom, end + 1, "", ErrLogStart},
		{api.LogNone, 0, "-", nil},
		{api.LogNone, 1, "", ErrRequest},
		{api.LogWhole, 1, "", ErrRequest},
		{"all", 0, "", ErrRequest},
	}
	for _, tt := range tests {
		e, err := ask(tt.mode, tt.start)
		if !errors.Is(err, tt.err) || (err == nil) != (tt.err == nil) {
			t.Errorf("log %q from %d: error %v, want %v", tt.mode, tt.start, err, tt.err)
			continue
		}
		if err != nil {
			continue
		}
		got := "-"
		if e.Log != nil {
			got = string(e.Log.Records)
		}
		if got != tt.want {
			t.Errorf("log %q from %d: records %q, want %q", tt.mode, tt.start, got, tt.want)
		}
	}
}

// TestFirmwareLog: it is in evidence exactly if it was asked for and can be read.
func TestFirmwareLog(t *testing.T) {
	log := []byte("event log")
	for _, c := range []struct {
		name  string
		read  func() ([]byte, error)
		asked bool
		want  string
	}{
		{"asked for", func() ([]byte, error) { return log, nil }, true, string(log)},
		{"not asked for", func() ([]byte, error) { return log, nil }, false, ""},
		{"none", func() ([]byte, error) { return nil, nil }, true, ""},
		{"not configured", nil, true, ""},
		{"not readable", func() ([]byte, error) { return nil, errors.New("no") }, true, ""},
		{"too long", func() ([]byte, error) { return make([]byte, evidence.MaxFirmwareLog+1), nil }, true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(k *Config) { k.FirmwareLog = c.read })
			q := request(1, evidence.Fresh)
			q.FirmwareLog = c.asked
			b, err := r.Attest(t.Context(), q, caller)
			if err != nil {
				t.Fatal(err)
			}
			if e := decode(t, b, q.Nonce); string(e.FirmwareLog) != c.want {
				t.Errorf("%d bytes, want %d", len(e.FirmwareLog), len(c.want))
			}
		})
	}
}

func TestBadRequests(t *testing.T) {
	r := newRig(t, nil)
	q := request(1, evidence.Fresh)
	q.Nonce = q.Nonce[:15]
	if _, err := r.Attest(t.Context(), q, caller); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), "nonce") {
		t.Errorf("short nonce: error %v", err)
	}
	if _, err := r.Attest(t.Context(), request(1, "newest"), caller); !errors.Is(err, ErrRequest) {
		t.Errorf("unknown freshness: error %v", err)
	}
}

func TestOverload(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxWaiting = 2 })
	r.platform.shut()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go r.Attest(ctx, request(0, evidence.Fresh), caller)
	<-r.platform.asked
	for i := range byte(2) {
		go r.Attest(ctx, request(1+i, evidence.Fresh), caller)
	}
	until(t, "two callers wait", func() bool { return r.fresh.length() == 2 })
	if _, err := r.Attest(ctx, request(9, evidence.Fresh), caller); !errors.Is(err, ErrOverloaded) {
		t.Errorf("error %v, want ErrOverloaded", err)
	}
	cancel()
	until(t, "those that gave up have left", func() bool { return r.fresh.length() == 0 })
	if r.fresh.held() != 0 {
		t.Errorf("%d bytes are kept for no caller", r.fresh.held())
	}
}

func TestStopAnswersEveryone(t *testing.T) {
	r := newRig(t, nil)
	r.platform.shut()
	errs := make(chan error, 3)
	for i := range byte(3) {
		go func() {
			_, err := r.Attest(context.Background(), request(i, evidence.Fresh), caller)
			errs <- err
		}()
		if i == 0 {
			<-r.platform.asked
		}
	}
	until(t, "two callers wait", func() bool { return r.fresh.length() == 2 })
	r.cancel()
	for range 3 {
		if err := <-errs; !errors.Is(err, ErrStopping) {
			t.Errorf("error %v", err)
		}
	}
	if _, err := r.Attest(t.Context(), request(9, evidence.Fresh), caller); !errors.Is(err, ErrStopping) {
		t.Errorf("after the stop: error %v, want ErrStopping", err)
	}
}

func (l *lane) length() int { l.mu.Lock(); defer l.mu.Unlock(); return len(l.waiting) }

func (l *lane) held() int { l.mu.Lock(); defer l.mu.Unlock(); return l.bytes }

// A lane holds a bounded number of bytes for callers, however few they are.
func TestWaitingBytes(t *testing.T) {
	const each = 1 << 20
	l := newLane("test", 1<<20, nil)
	for range maxWaitingBytes / each {
		if err := l.add(&waiter{statement: make([]byte, each)}); err != nil {
			t.Fatal(err)
		}
	}
	one := &waiter{statement: make([]byte, 1)}
	if err := l.add(one); !errors.Is(err, ErrOverloaded) {
		t.Errorf("one byte over the cap: error %v, want ErrOverloaded", err)
	}
	l.take()
	if err := l.add(one); err != nil {
		t.Errorf("after a batch was taken: %v", err)
	}
}

// TestUnusableFirmwareLogIsTold: the agent hands a log on that does not parse, and warns of it
// once, with place and reason.
func TestUnusableFirmwareLogIsTold(t *testing.T) {
	var lines bytes.Buffer
	r := newRig(t, func(c *Config) {
		c.FirmwareLog = func() ([]byte, error) { return []byte("no log"), nil }
		c.Log = slog.New(slog.NewTextHandler(&lines, nil))
	})
	for n := range byte(2) {
		q := request(n, evidence.Fresh)
		q.FirmwareLog = true
		if e := r.ask(t, q); string(e.FirmwareLog) != "no log" {
			t.Errorf("%q", e.FirmwareLog)
		}
	}
	if got := lines.String(); strings.Count(got, "does not parse") != 1 || !strings.Contains(got, "event 0 at byte 0") {
		t.Errorf("the log says %q", got)
	}
}

// A quote is made for no agent whose start the log does not contain, also if it was there before.
func TestUnrecordedAgent(t *testing.T) {
	r := newRig(t, func(c *Config) { c.AgentKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)) })
	for _, f := range []evidence.Freshness{evidence.Fresh, evidence.Anchored} {
		if _, err := r.Attest(t.Context(), request(1, f), caller); !errors.Is(err, ErrUnrecorded) {
			t.Errorf("%s: %v", f, err)
		}
	}
	r.Look(t.Context())
	if err := r.Ready(); !errors.Is(err, ErrUnrecorded) {
		t.Errorf("ready: %v", err)
	}
	if r.tpm.quotes != 0 || r.platform.count() != 0 {
		t.Errorf("%d quotes, %d reports", r.tpm.quotes, r.platform.count())
	}
}

// The PCR is compared with the log before a report is asked for, whether the quote shows it in a
// bank of the log or not. A look compares it in all banks.
func TestLogIsCompared(t *testing.T) {
	for _, hidden := range []bool{false, true} {
		for _, look := range []bool{false, true} {
			r := newRig(t, nil)
			r.ask(t, request(1, evidence.Fresh))
			r.ledger.pcr.change() // by another program
			r.tpm.set(func(f *fakeTPM) { f.hides = hidden })
			if look {
				r.Look(t.Context())
			} else if _, err := r.Attest(t.Context(), request(2, evidence.Fresh), caller); !errors.Is(err, ledger.ErrDesynchronised) {
				t.Errorf("hidden %t: %v", hidden, err)
			}
			if err := r.Ready(); !errors.Is(err, ledger.ErrDesynchronised) {
				t.Errorf("hidden %t, look %t: ready: %v", hidden, look, err)
			}
			if n := r.platform.count(); n != 1 {
				t.Errorf("hidden %t, look %t: %d reports", hidden, look, n)
			}
		}
	}
	r := newRig(t, nil)
	r.tpm.set(func(f *fakeTPM) { f.stale = bytes.Clone(r.ledger.pcr.value) }) // as if only another bank were extended
	r.ledger.pcr.change()
	r.ask(t, request(1, evidence.Fresh)) // the quote is what counts
	r.Look(t.Context())
	if err := r.Ready(); !errors.Is(err, ledger.ErrDesynchronised) {
		t.Errorf("a bank that is not quoted differs: ready: %v", err)
	}
}
