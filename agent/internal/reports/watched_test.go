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
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/sealing"
)

// fake is a platform that does as it is told.
type fake struct {
	err     error
	stapled int
	closed  bool
	ended   chan struct{} // closed by Close, unless nil
}

func (f *fake) Kind() evidence.ReportKind { return evidence.ReportSNP }
func (f *fake) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	_, err := data(ctx)
	return platform.Report{}, cmp.Or(err, f.err)
}
func (f *fake) Keys() platform.Keys        { return nil }
func (f *fake) Staple(ders [][]byte) error { f.stapled = len(ders); return nil }

func (f *fake) Close() error {
	if f.closed = true; f.ended != nil {
		close(f.ended)
	}
	return nil
}

// TestWatchedRemembers: status tells what the device did last, and what it ever did.
func TestWatchedRemembers(t *testing.T) {
	f := &fake{}
	w := &Watched{Open: platform.Always(f, platform.Choice{Machine: platform.MachineSNP})}
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
	w := &Watched{Open: func(context.Context, platform.TPM) (platform.Platform, platform.Choice, error) {
		opened++
		return nil, platform.Choice{}, fmt.Errorf("open /dev/sev-guest: %w", platform.ErrAbsent)
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

// TestWatchedWaitsForTheTPM: an attempt that needs a TPM that is not up is made again at once,
// and tells what was chosen when it succeeds.
func TestWatchedWaitsForTheTPM(t *testing.T) {
	up := false
	w := &Watched{
		TPM: func() (*tpm.Device, bool) { return nil, up },
		Open: func(_ context.Context, t platform.TPM) (platform.Platform, platform.Choice, error) {
			if _, up := t(); !up {
				return nil, platform.Choice{}, platform.ErrNotYet
			}
			return &fake{}, platform.Choice{Machine: platform.MachineGCP, Source: platform.SourceSEVGuest, Why: "a reason"}, nil
		},
	}
	if s := w.Status(); s.State != api.StateUnknown || s.Reason != api.ReasonStarting {
		t.Errorf("before: %+v", s)
	}
	if _, err := w.Choice(t.Context()); !errors.Is(err, platform.ErrNotYet) {
		t.Errorf("without the TPM: %v", err)
	}
	if s := w.Status(); s.State != api.StateUnknown || s.Reason != platform.ErrNotYet.Error() {
		t.Errorf("without the TPM: %+v", s)
	}
	up = true
	if c, err := w.Choice(t.Context()); err != nil || c.Machine != platform.MachineGCP {
		t.Errorf("with the TPM: %+v, %v", c, err)
	}
	if s := w.Status(); s.State != api.StateOK || s.Machine != "gcp" || s.Source != "sev-guest" || s.Why != "a reason" {
		t.Errorf("%+v", s)
	}
}

// TestWatchedDoesNotHang: a device that hangs while it is opened holds up only those that need
// it, for as long as they want. What opens after the end is closed.
func TestWatchedDoesNotHang(t *testing.T) {
	f, entered, leave := &fake{ended: make(chan struct{})}, make(chan struct{}), make(chan struct{})
	w := &Watched{Open: func(context.Context, platform.TPM) (platform.Platform, platform.Choice, error) {
		close(entered)
		<-leave // and does not look at its context
		return f, platform.Choice{}, nil
	}}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error)
	for range 2 {
		go func() {
			_, err := w.Report(ctx, platform.Fixed([64]byte{}))
			got <- err
		}()
	}
	<-entered
	if s := w.Status(); s.State != api.StateUnknown {
		t.Errorf("%+v", s)
	}
	if err := w.staple([][]byte{{1}}); err != nil || w.Kind() != "" {
		t.Errorf("%v, kind %q", err, w.Kind())
	}
	cancel()
	for range 2 {
		if err := <-got; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if err := errors.Join(w.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	close(leave)
	<-f.ended
	if _, err := w.Report(t.Context(), platform.Fixed([64]byte{})); !errors.Is(err, platform.ErrAbsent) {
		t.Error(err)
	}
}
