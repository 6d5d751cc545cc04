// SPDX-License-Identifier: Apache-2.0

// Package reports is the agent's one way to the platform: it opens the device when that is
// needed, staples certificates to its reports, and remembers for the status how it does.
package reports

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/metrics"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/sealing"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// reopenPause is the least time between two attempts to open a report device.
const reopenPause = 10 * time.Second

// Counts are what happened to requests since the agent started. A request whose caller left is
// counted and did not fail.
type Counts struct {
	Reports, FailedReports uint64
	Keys, FailedKeys       uint64
}

// openPatience is how long looking for the platform and opening it may take.
const openPatience = 30 * time.Second

// A Watched is the platform with a memory of how it did. It opens the device when it is
// first used, and tries again later if that failed: a driver may be loaded after the agent
// has started. Devices can hang, so they are opened in a goroutine of their own.
type Watched struct {
	Open    platform.Open
	TPM     platform.TPM  // for Open
	Spacing time.Duration // least time between two requests, for the status
	Timeout time.Duration // of one request for a key, with its time in the queue
	Folder  string        // of the certificates to staple
	Log     *slog.Logger

	mu       sync.Mutex        // guards all below; nothing asks a device under it
	inner    platform.Platform // nil until it opens, and after Close
	choice   platform.Choice   // of the last attempt to open it
	signer   signer            // of the last good report of a plain guest
	opening  chan struct{}     // closed when the attempt under way ends; nil if there is none
	cancel   func()            // ends the attempt under way, if it looks at its context
	closed   bool
	stapled  [][]byte
	openErr  error // of the last attempt to open it, nil before the first
	openedAt time.Time
	counts   Counts
	took     *metrics.Histogram // time of reports, in seconds; nil before the first
	lastErr  error              // of the last report, nil after a good one
	everErr  string             // of the last report that failed
}

// device returns the platform, and opens it if that is due. It waits no longer than ctx.
func (w *Watched) device(ctx context.Context) (platform.Platform, error) {
	w.mu.Lock()
	if inner, err, known := w.known(); known {
		w.mu.Unlock()
		return inner, err
	}
	if w.opening == nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), openPatience)
		w.opening, w.cancel = make(chan struct{}), cancel
		go w.attempt(ctx, cancel, w.opening)
	}
	opening := w.opening
	w.mu.Unlock()
	select {
	case <-opening:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait until the platform is opened: %w", ctx.Err())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.inner, w.openErr
}

// known returns the platform, or why there is none, and false if it is to be opened. The caller
// has mu.
func (w *Watched) known() (platform.Platform, error, bool) {
	switch {
	case w.inner != nil:
		return w.inner, nil, true
	case w.closed:
		return nil, w.openErr, true
	case w.openErr != nil && !errors.Is(w.openErr, platform.ErrNotYet) && time.Since(w.openedAt) < reopenPause:
		return nil, w.openErr, true
	}
	return nil, nil, false
}

// attempt opens the platform once. If the agent stopped meanwhile, it closes it again.
func (w *Watched) attempt(ctx context.Context, cancel func(), done chan struct{}) {
	defer cancel()
	inner, choice, err := w.Open(ctx, w.TPM)
	w.mu.Lock()
	defer w.mu.Unlock()
	defer close(done)
	w.opening, w.openedAt, w.choice = nil, time.Now(), choice
	if err == nil && w.closed {
		_ = inner.Close()
		return
	}
	if err == nil {
		if err = inner.Staple(w.stapled); err != nil {
			_ = inner.Close()
		}
	}
	if w.closed {
		return
	}
	if w.openErr = err; err != nil {
		return
	}
	w.inner = inner
	if w.Log != nil {
		w.Log.Info("platform", "machine", choice.Machine, "reports", choice.Source, "derivedKeys", choice.Keys, "because", choice.Why)
	}
}

// Choice returns what the machine is, and opens the platform if that is due. The error says why
// that is not known, and is [platform.ErrNotYet] while the TPM is needed and not up.
func (w *Watched) Choice(ctx context.Context) (platform.Choice, error) {
	_, err := w.device(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.choice, err
}

// Kind returns the format of the reports, empty if the device is not open.
func (w *Watched) Kind() evidence.ReportKind {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inner == nil {
		return ""
	}
	return w.inner.Kind()
}

// Report asks the device, and remembers the result. That there is no data says nothing about
// the device.
func (w *Watched) Report(ctx context.Context, data platform.Data) (platform.Report, error) {
	p, err := w.device(ctx)
	if err != nil {
		return platform.Report{}, err
	}
	var without error
	var begin time.Time // when it was the turn of the report
	r, err := p.Report(ctx, func(ctx context.Context) (over [64]byte, err error) {
		over, without = data(ctx)
		begin = time.Now()
		return over, without
	})
	if err == nil {
		w.found(signerOf(p.Kind(), r))
	}
	if without == nil {
		w.note(err)
		if !begin.IsZero() {
			w.Took().Observe(time.Since(begin).Seconds())
		}
	}
	return r, err
}

// Took returns how long the platform took for reports, in seconds.
func (w *Watched) Took() *metrics.Histogram {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.took == nil {
		w.took = metrics.NewHistogram(metrics.Seconds...)
	}
	return w.took
}

// note remembers the result of asking for a report.
func (w *Watched) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.Reports++
	if err == nil || !errors.Is(err, context.Canceled) { // a caller that left says nothing about the device
		w.lastErr = err
		if err != nil {
			w.counts.FailedReports++
		}
	}
	if w.lastErr != nil {
		w.everErr = w.lastErr.Error()
	}
}

// Keys returns the keys that the platform derives, nil if it derives none. The error says why
// the device does not open.
func (w *Watched) Keys(ctx context.Context) (platform.Keys, error) {
	p, err := w.device(ctx)
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
	s, err := k.Keys.DeriveKey(ctx, tcb)
	k.w.mu.Lock()
	defer k.w.mu.Unlock()
	k.w.counts.Keys++
	if err != nil && !errors.Is(err, context.Canceled) {
		k.w.counts.FailedKeys++
	}
	return s, err
}

// Counts returns what happened to requests.
func (w *Watched) Counts() Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

// Turns returns what the queue of the platform counts, and false if it is not open or has none.
func (w *Watched) Turns() (turn.Stats, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q, ok := w.inner.(interface{ Turns() turn.Stats }); ok {
		return q.Turns(), true
	}
	return turn.Stats{}, false
}

// Staple reads the certificates of the folder again and hands them to the platform. It
// opens the device if it can, so that the status shows from the start whether there is one.
func (w *Watched) Staple() {
	ders, errs := loadCertificates(w.Folder)
	for _, err := range append(errs, w.staple(ders)) {
		if err != nil {
			w.Log.Warn("certificates", "error", err)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), openPatience)
	defer cancel()
	if _, err := w.device(ctx); err != nil && !errors.Is(err, platform.ErrNotYet) {
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
	s := api.PlatformStatus{
		State: api.StateOK, LastError: w.everErr, SpacingMilliseconds: uint64(w.Spacing.Milliseconds()),
		Machine: string(w.machine()), Source: string(w.choice.Source), Why: w.choice.Why,
	}
	if w.signer.says != "" {
		s.Why += "; " + w.signer.says
	}
	switch {
	case w.inner == nil && w.openErr == nil:
		s.State, s.Reason = api.StateUnknown, api.ReasonStarting
	case errors.Is(w.openErr, platform.ErrNotYet):
		s.State, s.Reason = api.StateUnknown, w.openErr.Error()
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

// Close ends the device for good. It does not wait for one that is being opened.
func (w *Watched) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil
	}
	w.closed, w.openErr = true, fmt.Errorf("%w: the agent is stopping", platform.ErrAbsent)
	if w.opening != nil {
		w.cancel()
	}
	if w.inner == nil {
		return nil
	}
	err := w.inner.Close()
	w.inner = nil
	return err
}

// certificateSuffixes are the endings of the files that are read from the folder of stapled
// certificates. Other files are ignored.
var certificateSuffixes = []string{".pem", ".crt", ".cer", ".der"}

// Caps on the folder of certificates.
const (
	maxCertificateFiles = 64        // names in it, of any kind
	maxCertificateFile  = 256 << 10 // bytes of one file: a chain in PEM fits many times
)

// loadCertificates reads the certificates that are stapled to evidence, as X.509 DER in the
// order of the file names. A file that is not a certificate is ignored and reported; the
// other files stay usable. A folder that does not exist contains none.
//
// Verifiers trust no certificate for being stapled. But an attacker who can write here can
// fill the available room, and one who can place a link makes the agent read the files of
// other users. So folder and files must belong to root or to the agent's own user, only
// these may be able to write, and links are not followed.
func loadCertificates(folder string) ([][]byte, []error) {
	dir, err := os.OpenFile(folder, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []error{fmt.Errorf("open the folder of stapled certificates, which must not be a link: %w", err)}
	}
	defer dir.Close()
	if err := ownedAndClosed(dir); err != nil {
		return nil, []error{fmt.Errorf("ignore the folder of stapled certificates %s: %w", folder, err)}
	}
	names, err := dir.Readdirnames(maxCertificateFiles + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, []error{fmt.Errorf("read the folder of stapled certificates: %w", err)}
	}
	if len(names) > maxCertificateFiles {
		return nil, []error{fmt.Errorf("ignore the folder of stapled certificates %s: it contains more than %d files", folder, maxCertificateFiles)}
	}
	slices.Sort(names)
	var out [][]byte
	var errs []error
	for _, name := range names {
		if !slices.Contains(certificateSuffixes, strings.ToLower(filepath.Ext(name))) {
			continue
		}
		path := filepath.Join(folder, name)
		ders, err := readCertificates(dir, name)
		if err != nil {
			errs = append(errs, fmt.Errorf("ignore stapled certificate %s: %w", path, err))
			continue
		}
		for _, der := range ders {
			switch {
			case slices.ContainsFunc(out, func(o []byte) bool { return string(o) == string(der) }):
			case len(out) == evidence.MaxCertificates:
				errs = append(errs, fmt.Errorf("ignore stapled certificate %s: evidence contains at most %d", path, evidence.MaxCertificates))
			default:
				out = append(out, der)
			}
		}
	}
	return out, errs
}

func readCertificates(dir *os.File, name string) ([][]byte, error) {
	// O_NONBLOCK: opening a FIFO must not wait for a writer.
	fd, err := unix.Openat(int(dir.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errors.New("it is a symbolic link: put the file itself there")
	}
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file (%v)", st.Mode().Type())
	}
	if err := ownedAndClosed(f); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxCertificateFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxCertificateFile {
		return nil, fmt.Errorf("larger than %d bytes", maxCertificateFile)
	}
	return snp.DecodeCertificates(b)
}

// ownedAndClosed refuses what another user than root and the agent's own may change.
func ownedAndClosed(f *os.File) error {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return fmt.Errorf("read its owner: %w", err)
	}
	if s.Uid != 0 && int(s.Uid) != os.Geteuid() {
		return fmt.Errorf("it belongs to user %d, want root or the agent's user: chown it", s.Uid)
	}
	if s.Mode&0o022 != 0 {
		return fmt.Errorf("it has mode %04o, writable by others: chmod go-w it", s.Mode&0o7777)
	}
	return nil
}
