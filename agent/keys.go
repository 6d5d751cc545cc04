// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/store/snproot"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/sealing"
)

// storeFolder holds the sealed blobs, in the state folder, whose lock covers it.
const storeFolder = "sealed"

// vault is the store of sealed blobs with a memory of how it stood last: status must
// not wait for an operation that waits for the firmware.
type vault struct {
	tried chan struct{} // closed when opening was tried once

	mu    sync.Mutex
	store *sealing.Store // nil while there is none
	err   error          // why there is none
	state sealing.State  // as it was last seen
}

// Errors of a store that is not there.
var (
	errNoStore      = errors.New("the store of sealed blobs is not open")
	errNoDerivation = errors.New("the firmware of this machine derives no keys, so that nothing would bind sealed blobs to chip and launch measurement: " +
		"keys.without_derived_keys accepts that the TPM alone protects them")
)

func (v *vault) set(f func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	f()
}

// keepStore opens the store of sealed blobs and brings it up to date. It runs beside
// everything else: to ask the firmware for a key may take a minute on a busy host.
func (d *Daemon) keepStore(ctx context.Context, p parts) {
	first := sync.OnceFunc(func() { close(d.vault.tried) })
	defer first()
	said := ""
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		ready, err := d.tryStore(ctx, p)
		first()
		if ready {
			break
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			level := slog.LevelWarn
			if sealing.CodeOf(err) == sealing.NoRecovery {
				level = slog.LevelInfo // as installed, before anybody chose
			}
			d.log.Log(ctx, level, "sealed blobs cannot be opened", "error", err)
		}
		if code := sealing.CodeOf(err); code != "" && code != sealing.RootUnavailable && code != sealing.Interrupted {
			return // waiting does not help: somebody has to do something
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
	d.vault.mu.Lock()
	store, state := d.vault.store, d.vault.state
	d.vault.mu.Unlock()
	d.log.Info("store of sealed blobs is open", "slot", state.Slot.String(), "blobs", state.Blobs, "counted", state.Counted)
	if state.Differ {
		d.log.Warn("the configuration names other recovery recipients than the store was made with; they are not used")
	}
	if state.Rewrap {
		d.rewrapRaised(ctx, store)
	}
}

// rewrapRaised seals to the machine as it is now what was sealed to an older TCB: the
// committed TCB never goes down again, so that nothing is lost by it.
func (d *Daemon) rewrapRaised(ctx context.Context, store *sealing.Store) {
	r, err := store.Rewrap(ctx)
	d.refreshStore(ctx)
	switch {
	case err != nil:
		d.log.Error("sealed blobs stay sealed to an older TCB", "error", err)
	case len(r.Kept) > 0:
		d.log.Warn("some sealed blobs do not open and stay as they are", "written", r.Written, "kept", len(r.Kept))
	default:
		d.log.Info("sealed blobs were sealed anew to this machine", "written", r.Written)
	}
}

// tryStore opens the store where it is not open, and looks at how it stands.
func (d *Daemon) tryStore(ctx context.Context, p parts) (ready bool, err error) {
	d.vault.mu.Lock()
	store := d.vault.store
	d.vault.mu.Unlock()
	if store == nil {
		store, err = d.openStore(ctx, p)
		d.vault.set(func() { d.vault.store, d.vault.err = store, err })
		if err != nil {
			return false, err
		}
	}
	d.refreshStore(ctx)
	d.vault.mu.Lock()
	defer d.vault.mu.Unlock()
	return d.vault.state.Ready, d.vault.state.Err
}

func (d *Daemon) openStore(ctx context.Context, p parts) (*sealing.Store, error) {
	root, err := d.rootPlatform()
	if err != nil {
		return nil, err
	}
	auths, err := readAuths(d.o.Config.TPM)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(d.o.Config.State.Folder, storeFolder)
	dir, err := openFolder(path)
	if err != nil {
		return nil, fmt.Errorf("open folder of sealed blobs %s: %w", path, err)
	}
	k := d.o.Config.Keys
	store, err := sealing.Open(ctx, sealing.Config{
		Files: sealedFiles{dir}, Platform: root, TPM: &tpmroot.TPM{Device: p.device, Auths: auths},
		Quota:      sealing.Quota{Secrets: k.SecretsPerApp, Bytes: int64(k.BytesPerApp)},
		Recipients: k.RecoveryRecipients, LoseOnHardwareChange: k.LoseOnHardwareChange,
	})
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	d.set(func(q *parts) { q.sealed = dir })
	return store, nil
}

// rootPlatform is the machine as far as sealing asks it, nil where it derives no keys
// and the configuration accepts that.
func (d *Daemon) rootPlatform() (sealing.Platform, error) {
	switch derives, err := d.platform.derives(); {
	case derives:
		return snproot.Platform{Report: d.sealingReport, Derive: d.sealingKey, Probe: d.sealingProbe}, nil
	case d.o.Config.Keys.WithoutDerivedKeys:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNoDerivation, err)
	}
	return nil, errNoDerivation
}

func (d *Daemon) sealingReport(ctx context.Context, data [64]byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.o.Config.Report.Timeout))
	defer cancel()
	r, err := d.platform.Report(ctx, data)
	return r.Bytes, err
}

func (d *Daemon) sealingKey(ctx context.Context, tcb uint64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.o.Config.Report.Timeout))
	defer cancel()
	k, err := d.platform.DeriveKey(ctx, platform.KeyRequest{TCB: tcb})
	if errors.Is(err, platform.ErrZeroKey) {
		return nil, &sealing.Error{Code: sealing.BadDerivedKey, Detail: fmt.Sprintf("derive a key under TCB %s", sealing.TCBOf(tcb)), Err: err}
	}
	if err != nil {
		return nil, err
	}
	return k.Secret(), nil
}

// sealingProbe asks for the fingerprint of a key that sealing does not use.
func (d *Daemon) sealingProbe(ctx context.Context, k sealing.KeyProbe) ([32]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(d.o.Config.Report.Timeout))
	defer cancel()
	return d.platform.Fingerprint(ctx, platform.KeyProbe(k))
}

// refreshStore remembers how the store stands.
func (d *Daemon) refreshStore(ctx context.Context) {
	d.vault.mu.Lock()
	store := d.vault.store
	d.vault.mu.Unlock()
	if store == nil {
		return
	}
	state, err := store.State(ctx)
	if err != nil {
		return // whoever asked went away, or the agent is stopping
	}
	d.vault.set(func() { d.vault.state = state })
}

// sealedFiles is the folder of sealed blobs in the words of package sealing.
type sealedFiles struct{ *durable.Dir }

func (f sealedFiles) WriteDurable(name string, b []byte) error { return f.Replace(name, b) }
func (f sealedFiles) List() ([]string, error)                  { return f.Names() }

// openedStore waits until opening the store was tried once.
func (d *Daemon) openedStore(ctx context.Context) (*sealing.Store, error) {
	if _, err := d.ready(ctx); err != nil {
		return nil, missing(err)
	}
	select {
	case <-d.vault.tried:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait until sealed blobs can be opened: %w", ctx.Err())
	}
	d.vault.mu.Lock()
	defer d.vault.mu.Unlock()
	if d.vault.store == nil {
		return nil, fmt.Errorf("%w: %w", errNoStore, d.vault.err)
	}
	return d.vault.store, nil
}

// keyStatus is how the store stood last, without a word to any device.
func (d *Daemon) keyStatus() api.KeyStatus {
	d.vault.mu.Lock()
	defer d.vault.mu.Unlock()
	s := d.vault.state
	out := api.KeyStatus{
		State: api.StateOK, Blobs: s.Blobs, Generation: s.Generation, Counted: s.Counted, Rewrap: s.Rewrap, Orphans: s.Orphans,
	}
	if s.Slot != 0 {
		out.Slot = s.Slot.String()
	}
	switch err := d.vault.err; {
	case d.vault.store == nil && err == nil:
		out.State, out.Reason = api.StateAbsent, api.ReasonStarting
	case d.vault.store == nil:
		out.State, out.Reason = api.StateAbsent, err.Error()
	case !s.Ready && s.Err == nil:
		out.State, out.Reason = api.StateDegraded, api.ReasonStarting
	case !s.Ready:
		out.State, out.Reason, out.Code = api.StateDegraded, s.Err.Error(), sealing.CodeOf(s.Err)
	}
	return out
}

func (d *Daemon) closeStore() {
	d.vault.mu.Lock()
	store := d.vault.store
	d.vault.mu.Unlock()
	if store != nil {
		store.Close()
	}
}
