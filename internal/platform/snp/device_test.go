// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/sealing"
	report "github.com/cvm-agentd/agentd/verify/snp"
)

func machine(t *testing.T, o soft.Options) *soft.Platform {
	t.Helper()
	p, err := soft.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func TestReport(t *testing.T) {
	p := machine(t, soft.Options{VMPL: 1})
	got, err := p.Report(context.Background(), platform.Fixed([64]byte{7}))
	if err != nil || got.TableError != nil || len(got.Certificates) != 3 {
		t.Fatalf("%d certificates, %v, %v", len(got.Certificates), got.TableError, err)
	}
	r, err := report.ParseReport(got.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if r.ReportData != [64]byte{7} || r.VMPL != 1 {
		t.Errorf("report data %x, VMPL %d", r.ReportData[:1], r.VMPL)
	}
	if p.Exchanges() != 1 {
		t.Errorf("%d exchanges for one report", p.Exchanges())
	}
}

// cases 40, 43: each fault has its error, and none is answered with a storm.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name      string
		faults    soft.Faults
		want      error
		exchanges int // for two reports, one after the other
		table     bool
		certs     int
	}{
		{"none", soft.Faults{}, nil, 2, true, 3},
		{"busy", soft.Faults{Busy: true}, platform.ErrBusy, 2, true, 0},
		{"wiped key", soft.Faults{KeyWiped: true}, platform.ErrKeyWiped, 1, true, 0},
		{"wrong VMPL", soft.Faults{WrongVMPL: true}, platform.ErrVMPL, 2, true, 0},
		{"wrong report data", soft.Faults{WrongReportData: true}, platform.ErrMalformed, 2, true, 0},
		{"wrong size", soft.Faults{ShortReport: true}, platform.ErrMalformed, 2, true, 0},
		{"invalid parameters", soft.Faults{Status: 0x16}, platform.ErrFirmware, 2, true, 0},
		{"another status", soft.Faults{Status: 0x99}, platform.ErrFirmware, 2, true, 0},
		{"firmware error", soft.Faults{FirmwareError: 0x21}, platform.ErrFirmware, 2, true, 0},
		{"garbage table", soft.Faults{GarbageTable: true}, nil, 2, false, 0},
		{"no table", soft.Faults{NoTable: true}, nil, 2, true, 0},
		{"a table of a gigabyte", soft.Faults{HugeTable: true}, nil, 4, false, 0},
		{"a table of five pages", soft.Faults{GrownTable: true}, nil, 3, true, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := machine(t, soft.Options{})
			p.SetFaults(c.faults)
			for range 2 {
				got, err := p.Report(context.Background(), platform.Fixed([64]byte{1}))
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
					t.Fatalf("%v, want %v", err, c.want)
				}
				if err != nil {
					continue
				}
				if (got.TableError == nil) != c.table || len(got.Certificates) != c.certs {
					t.Errorf("%d certificates, table error %v", len(got.Certificates), got.TableError)
				}
			}
			if p.Exchanges() != c.exchanges {
				t.Errorf("%d exchanges, want %d", p.Exchanges(), c.exchanges)
			}
		})
	}
}

// case 40: a wiped key stays wiped, and nothing is sent any more.
func TestWipedKeyIsForGood(t *testing.T) {
	p := machine(t, soft.Options{})
	p.SetFaults(soft.Faults{KeyWiped: true})
	_, err := p.Report(context.Background(), platform.Fixed([64]byte{}))
	if !errors.Is(err, platform.ErrKeyWiped) {
		t.Fatal(err)
	}
	p.SetFaults(soft.Faults{})
	for range 10 {
		if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrKeyWiped) {
			t.Fatal(err)
		}
		if _, err := p.DeriveKey(context.Background(), sealing.TCBOf(1)); !errors.Is(err, platform.ErrKeyWiped) {
			t.Fatal(err)
		}
	}
	if p.Exchanges() != 1 {
		t.Errorf("%d exchanges, want 1", p.Exchanges())
	}
}

// case 38: a host that does not answer delays no caller past its time.
func TestStall(t *testing.T) {
	soft.SharedAuthority() // keys are made outside of the bubble's time
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		p.SetFaults(soft.Faults{Stall: true})
		start := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := p.Report(ctx, platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrTimedOut) || time.Since(start) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		// The first request is still with the host: no other is sent.
		start = time.Now()
		if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrTimedOut) || time.Since(start) != snp.DefaultTimeout {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		gone, leave := context.WithCancel(context.Background())
		leave()
		if _, err := p.Report(gone, platform.Fixed([64]byte{})); !errors.Is(err, context.Canceled) || errors.Is(err, platform.ErrTimedOut) {
			t.Errorf("caller went away: %v", err)
		}
		if p.Exchanges() != 1 {
			t.Errorf("%d exchanges while the host stalls, want 1", p.Exchanges())
		}
		p.SetFaults(soft.Faults{})
		if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); err != nil {
			t.Errorf("after the stall: %v", err)
		}
	})
}

// case 38: a throttle is waited out, up to what the kernel gives it.
func TestThrottle(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		for _, c := range []struct {
			throttle time.Duration
			want     error
		}{{10 * time.Second, nil}, {59 * time.Second, nil}, {62 * time.Second, platform.ErrTimedOut}} {
			p.SetFaults(soft.Faults{})
			if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); err != nil {
				t.Fatal(err)
			}
			p.SetFaults(soft.Faults{Throttle: c.throttle})
			if _, err := p.Report(context.Background(), platform.Fixed([64]byte{})); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("throttle %v: %v, want %v", c.throttle, err, c.want)
			}
		}
	})
}

// One queue: one request at a time, spaced, in the order they came.
func TestQueue(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{Device: snp.Options{Spacing: 2 * time.Second}})
		recorder := &record{Transport: p.Transport()}
		d, err := snp.New(recorder, snp.Options{Spacing: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				if _, err := d.Report(context.Background(), platform.Fixed([64]byte{byte(i)})); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait() // it stands in the queue before the next one comes
		}
		all.Wait()
		if !slices.IsSorted(recorder.order) || len(recorder.order) != 20 {
			t.Errorf("order %v", recorder.order)
		}
		for i := 1; i < len(recorder.at); i++ {
			if gap := recorder.at[i].Sub(recorder.at[i-1]); gap < 2*time.Second {
				t.Errorf("requests %d and %d are %v apart", i-1, i, gap)
			}
		}
		if recorder.overlap {
			t.Error("two requests at once")
		}
	})
}

// record notes what reaches the host.
type record struct {
	snp.Transport
	mu      sync.Mutex
	order   []byte
	at      []time.Time
	busy    bool
	overlap bool
}

func (r *record) Exchange(m *snp.Message) (uint64, error) {
	r.mu.Lock()
	r.order, r.at = append(r.order, m.Request[0]), append(r.at, time.Now())
	r.overlap = r.overlap || r.busy
	r.busy = true
	r.mu.Unlock()
	defer func() { r.mu.Lock(); r.busy = false; r.mu.Unlock() }()
	return r.Transport.Exchange(m)
}

// closing counts.
type closing struct {
	snp.Transport
	closed chan struct{}
}

func (c *closing) Close() error { close(c.closed); return nil } // twice would panic

// A device that is closed ends all waits, and its transport once nothing uses it.
func TestClose(t *testing.T) {
	soft.SharedAuthority()
	for _, stalled := range []bool{false, true} {
		t.Run(fmt.Sprintf("stalled %t", stalled), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := machine(t, soft.Options{})
				c := &closing{p.Transport(), make(chan struct{})}
				d, err := snp.New(c, snp.Options{})
				if err != nil {
					t.Fatal(err)
				}
				p.SetFaults(soft.Faults{Stall: stalled})
				var all sync.WaitGroup
				start := time.Now()
				if stalled {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					for range 3 {
						all.Go(func() {
							if _, err := d.Report(ctx, platform.Fixed([64]byte{})); err == nil {
								t.Error("answered")
							}
						})
					}
					synctest.Wait()
				}
				if err := errors.Join(d.Close(), d.Close()); err != nil {
					t.Error(err)
				}
				if stalled {
					synctest.Wait()
					select {
					case <-c.closed:
						t.Error("closed under a request")
					default:
					}
					all.Wait()
					p.SetFaults(soft.Faults{})
				}
				<-c.closed
				if got := time.Since(start); got > time.Second {
					t.Errorf("took %v", got)
				}
				if _, err := d.Report(context.Background(), platform.Fixed([64]byte{})); err == nil {
					t.Error("a closed device answers")
				}
			})
		})
	}
}

// TestData: what a report is over is asked for when its turn has come, while nothing else is
// asked of the device. If there is none, nothing is sent, and the next request waits no longer than it would have.
func TestData(t *testing.T) {
	soft.SharedAuthority()
	synctest.Test(t, func(t *testing.T) {
		p := machine(t, soft.Options{})
		recorder := &record{Transport: p.Transport()}
		d, err := snp.New(recorder, snp.Options{Spacing: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		report := func(data platform.Data) error { _, err := d.Report(context.Background(), data); return err }
		if err := report(platform.Fixed([64]byte{1})); err != nil {
			t.Fatal(err)
		}
		begin, none := time.Now(), errors.New("none")
		if err := report(func(context.Context) ([64]byte, error) { return [64]byte{}, none }); !errors.Is(err, none) || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %v, want the error of the data at the turn", err, time.Since(begin))
		}
		var asked int
		if err := report(func(context.Context) ([64]byte, error) { asked++; return [64]byte{2}, nil }); err != nil || time.Since(begin) != 2*time.Second {
			t.Errorf("%v after %v, want a report at once: nothing was sent before", err, time.Since(begin))
		}
		if asked != 1 || len(recorder.order) != 2 {
			t.Errorf("asked %d times, sent %v", asked, recorder.order)
		}
		ctx, cancel := context.WithCancel(context.Background())
		if _, err := d.Report(ctx, func(context.Context) ([64]byte, error) { cancel(); return [64]byte{3}, nil }); !errors.Is(err, context.Canceled) || len(recorder.order) != 2 {
			t.Errorf("%v, sent %v: the caller had left", err, recorder.order)
		}
		if err := report(func(context.Context) ([64]byte, error) { d.Close(); return [64]byte{4}, nil }); err == nil || len(recorder.order) != 2 {
			t.Errorf("%v, sent %v: the device was closed", err, recorder.order)
		}
	})
}
