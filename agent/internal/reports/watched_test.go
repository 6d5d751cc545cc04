// SPDX-License-Identifier: Apache-2.0

package reports

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// fake is a platform that does as it is told.
type fake struct {
	err     error
	stapled int
	closed  bool
}

func (f *fake) Kind() evidence.ReportKind { return evidence.ReportSNP }
func (f *fake) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	_, err := data(ctx)
	return platform.Report{}, cmp.Or(err, f.err)
}
func (f *fake) Keys() platform.Keys        { return nil }
func (f *fake) Staple(ders [][]byte) error { f.stapled = len(ders); return nil }
func (f *fake) Close() error               { f.closed = true; return nil }

// TestWatchedRemembers: status tells what the device did last, and what it ever did.
func TestWatchedRemembers(t *testing.T) {
	f := &fake{}
	w := &Watched{Open: func() (platform.Platform, error) { return f, nil }}
	if err := w.staple([][]byte{{1}, {2}}); err != nil {
		t.Fatal(err)
	}
	report := func(err error) api.PlatformStatus {
		f.err = err
		w.Report(t.Context(), platform.Fixed([64]byte{}))
		return w.Status()
	}
	if s := report(nil); s.State != api.StateOK || s.Kind != evidence.ReportSNP || f.stapled != 2 {
		t.Errorf("%+v with %d stapled", s, f.stapled)
	}
	if s := report(platform.ErrBusy); s.State != api.StateDegraded || s.Reason == "" {
		t.Errorf("%+v", s)
	}
	if s := report(context.Canceled); s.State != api.StateDegraded {
		t.Errorf("a caller that went away changed the state: %+v", s)
	}
	if s := report(nil); s.State != api.StateOK || s.LastError == "" {
		t.Errorf("%+v", s)
	}
	noQuote := errors.New("no quote")
	_, err := w.Report(t.Context(), func(context.Context) ([64]byte, error) { return [64]byte{}, noQuote })
	if s := w.Status(); !errors.Is(err, noQuote) || s.State != api.StateOK {
		t.Errorf("%v: nothing to report on changed the state: %+v", err, s)
	}
	if n, want := w.Counts(), (Counts{Reports: 4, FailedReports: 1}); n != want {
		t.Errorf("counted %+v, want %+v: neither a caller that left nor one without data is a failure", n, want)
	}
	if err := w.Close(); err != nil || !f.closed {
		t.Errorf("%v, closed %v", err, f.closed)
	}
	if _, err := w.Report(t.Context(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrAbsent) {
		t.Errorf("closed: %v", err)
	}
}

// fakeKeys fails as it is told.
type fakeKeys struct {
	platform.Keys
	err error
}

func (k *fakeKeys) DeriveKey(context.Context, sealing.TCB) (*secret.Secret, error) { return nil, k.err }

// TestKeysAreCounted: requests for keys are counted apart from reports, and their failures.
func TestKeysAreCounted(t *testing.T) {
	w := &Watched{Timeout: time.Minute}
	inner := &fakeKeys{}
	k := watchedKeys{inner, w}
	for _, inner.err = range []error{nil, platform.ErrBusy, context.Canceled, platform.ErrZeroKey} {
		if _, err := k.DeriveKey(t.Context(), sealing.TCB{}); !errors.Is(err, inner.err) {
			t.Error(err)
		}
	}
	if n, want := w.Counts(), (Counts{Keys: 4, FailedKeys: 2}); n != want {
		t.Errorf("counted %+v, want %+v", n, want)
	}
	if _, queue := w.Turns(); queue {
		t.Error("a platform that is not open has a queue")
	}
}

// TestWatchedWithoutDevice: without a device the agent runs, and does not try to open one at
// each request.
func TestWatchedWithoutDevice(t *testing.T) {
	opened := 0
	w := &Watched{Open: func() (platform.Platform, error) {
		opened++
		return nil, fmt.Errorf("open /dev/sev-guest: %w", platform.ErrAbsent)
	}}
	for range 10 {
		if _, err := w.Report(t.Context(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrAbsent) {
			t.Fatal(err)
		}
	}
	if s := w.Status(); opened != 1 || s.State != api.StateAbsent || s.Reason == "" || s.Kind != "" {
		t.Errorf("opened %d times, %+v", opened, s)
	}
}
