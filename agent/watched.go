// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
)

// reopenPause is the least time between two attempts to open a report device.
const reopenPause = 10 * time.Second

// watched is the platform with a memory of how it did. It opens the device when it is
// asked for the first time, and again later where there was none: a driver may be
// loaded after the agent has started.
type watched struct {
	open    func() (Platform, error)
	spacing time.Duration

	mu       sync.Mutex
	inner    Platform
	stapled  [][]byte
	openErr  error
	openedAt time.Time
	lastErr  error // of the last report, nil after a good one
	everErr  string
}

// device is the platform, opened where that is due.
func (w *watched) device() (Platform, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inner != nil {
		return w.inner, nil
	}
	if w.openErr != nil && time.Since(w.openedAt) < reopenPause {
		return nil, w.openErr
	}
	w.openedAt = time.Now()
	inner, err := w.open()
	if err == nil {
		err = inner.Staple(w.stapled)
	}
	if w.openErr = err; err != nil {
		return nil, err
	}
	w.inner = inner
	return inner, nil
}

// Kind names the format of the reports.
func (w *watched) Kind() evidence.ReportKind {
	p, err := w.device()
	if err != nil {
		return ""
	}
	return p.Kind()
}

// Report asks the device, and remembers what came of it.
func (w *watched) Report(ctx context.Context, data [64]byte) (platform.Report, error) {
	p, err := w.device()
	if err != nil {
		return platform.Report{}, err
	}
	r, err := p.Report(ctx, data)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil || !errors.Is(err, context.Canceled) { // somebody who went away says nothing of the device
		w.lastErr = err
	}
	if w.lastErr != nil {
		w.everErr = w.lastErr.Error()
	}
	return r, err
}

// derives reports whether the platform derives keys; the error says why there is none.
func (w *watched) derives() (bool, error) {
	p, err := w.device()
	if err != nil {
		return false, err
	}
	_, ok := p.(platform.KeyDeriver)
	return ok, nil
}

// DeriveKey asks the device for a key. What comes of it is told by the store of sealed
// blobs, not here: reports may work where keys do not.
func (w *watched) DeriveKey(ctx context.Context, r platform.KeyRequest) (platform.DerivedKey, error) {
	p, err := w.device()
	if err != nil {
		return platform.DerivedKey{}, err
	}
	k, ok := p.(platform.KeyDeriver)
	if !ok {
		return platform.DerivedKey{}, errNoDerivation
	}
	return k.DeriveKey(ctx, r)
}

// errNoProbe: a platform of another kind than those that this program brings.
var errNoProbe = errors.New("this platform does not tell on what its keys depend")

// Fingerprint tries out on what the platform's keys depend.
func (w *watched) Fingerprint(ctx context.Context, k platform.KeyProbe) ([32]byte, error) {
	p, err := w.device()
	if err != nil {
		return [32]byte{}, err
	}
	prober, ok := p.(platform.KeyProber)
	if !ok {
		return [32]byte{}, errNoProbe
	}
	return prober.Fingerprint(ctx, k)
}

// staple replaces the certificates that are added to the host's.
func (w *watched) staple(ders [][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stapled = ders
	if w.inner == nil {
		return nil
	}
	return w.inner.Staple(ders)
}

// status is what the device did last, without a word to it.
func (w *watched) status() api.PlatformStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := api.PlatformStatus{State: api.StateOK, LastError: w.everErr, SpacingMilliseconds: uint64(w.spacing.Milliseconds())}
	switch {
	case w.openErr != nil:
		s.State, s.Reason = api.StateAbsent, w.openErr.Error()
	case w.lastErr != nil:
		s.State, s.Reason = api.StateDegraded, w.lastErr.Error()
	}
	if w.inner != nil {
		s.Kind = w.inner.Kind()
	}
	return s
}

func (w *watched) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inner == nil {
		return nil
	}
	err := w.inner.Close()
	w.inner, w.openErr, w.openedAt = nil, fmt.Errorf("%w: the agent is stopping", platform.ErrAbsent), time.Now()
	return err
}
