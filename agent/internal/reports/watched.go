// SPDX-License-Identifier: Apache-2.0

// Package reports is the agent's one way to the platform: it opens the device when that is
// needed, staples certificates to its reports, and remembers for the status how it does.
package reports

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// reopenPause is the least time between two attempts to open a report device.
const reopenPause = 10 * time.Second

// A Watched is the platform with a memory of how it did. It opens the device when it is
// first used, and tries again later if that failed: a driver may be loaded after the agent
// has started.
type Watched struct {
	Open    func() (platform.Platform, error)
	Spacing time.Duration // least time between two requests, for the status
	Timeout time.Duration // of one request for a key, with its time in the queue
	Folder  string        // of the certificates to staple
	Log     *slog.Logger

	mu       sync.Mutex        // guards all below
	inner    platform.Platform // nil until it opens, and after Close
	stapled  [][]byte
	openErr  error // of the last attempt to open it
	openedAt time.Time
	lastErr  error  // of the last report, nil after a good one
	everErr  string // of the last report that failed
}

// device returns the platform, and opens it if that is due.
func (w *Watched) device() (platform.Platform, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inner != nil {
		return w.inner, nil
	}
	if w.openErr != nil && time.Since(w.openedAt) < reopenPause {
		return nil, w.openErr
	}
	w.openedAt = time.Now()
	inner, err := w.Open()
	if err == nil {
		err = inner.Staple(w.stapled)
	}
	if w.openErr = err; err != nil {
		return nil, err
	}
	w.inner = inner
	return inner, nil
}

// Kind returns the format of the reports, empty while the device does not open.
func (w *Watched) Kind() evidence.ReportKind {
	p, err := w.device()
	if err != nil {
		return ""
	}
	return p.Kind()
}

// Report asks the device, and remembers the result.
func (w *Watched) Report(ctx context.Context, data [64]byte) (platform.Report, error) {
	p, err := w.device()
	if err != nil {
		return platform.Report{}, err
	}
	r, err := p.Report(ctx, data)
	w.note(err)
	return r, err
}

// note remembers the result of asking for a report.
func (w *Watched) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil || !errors.Is(err, context.Canceled) { // a caller that left says nothing about the device
		w.lastErr = err
	}
	if w.lastErr != nil {
		w.everErr = w.lastErr.Error()
	}
}

// Keys returns the keys that the platform derives, nil if it derives none. The error says why
// the device does not open.
func (w *Watched) Keys() (platform.Keys, error) {
	p, err := w.device()
	if err != nil {
		return nil, err
	}
	k := p.Keys()
	if k == nil {
		return nil, nil
	}
	return watchedKeys{k, w}, nil
}

// watchedKeys bounds requests for keys in time. The store of sealed blobs reports their
// results, not the status of the platform: reports may work while keys do not.
type watchedKeys struct {
	platform.Keys
	w *Watched
}

// Reading asks for a report, and remembers the result.
func (k watchedKeys) Reading(ctx context.Context) (sealing.Reading, error) {
	ctx, cancel := context.WithTimeout(ctx, k.w.Timeout)
	defer cancel()
	r, err := k.Keys.Reading(ctx)
	k.w.note(err)
	return r, err
}

// DeriveKey asks for a key.
func (k watchedKeys) DeriveKey(ctx context.Context, tcb sealing.TCB) (*secret.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, k.w.Timeout)
	defer cancel()
	return k.Keys.DeriveKey(ctx, tcb)
}

// Staple reads the certificates of the folder again and hands them to the platform. It
// opens the device, so that the status shows from the start whether there is one.
func (w *Watched) Staple() {
	ders, errs := loadCertificates(w.Folder)
	for _, err := range append(errs, w.staple(ders)) {
		if err != nil {
			w.Log.Warn("certificates", "error", err)
		}
	}
	if _, err := w.device(); err != nil {
		w.Log.Warn("no reports", "error", err)
	}
}

// staple replaces the certificates that are added to the host's.
func (w *Watched) staple(ders [][]byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stapled = ders
	if w.inner == nil {
		return nil
	}
	return w.inner.Staple(ders)
}

// Status returns what the device did last, without asking it.
func (w *Watched) Status() api.PlatformStatus {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := api.PlatformStatus{State: api.StateOK, LastError: w.everErr, SpacingMilliseconds: uint64(w.Spacing.Milliseconds())}
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

// Close ends the device for good.
func (w *Watched) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inner == nil {
		return nil
	}
	err := w.inner.Close()
	w.inner, w.openErr, w.openedAt = nil, fmt.Errorf("%w: the agent is stopping", platform.ErrAbsent), time.Now()
	return err
}
