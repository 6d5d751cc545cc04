// SPDX-License-Identifier: Apache-2.0

// Package vault opens the store of sealed blobs, keeps it up to date, remembers for the
// status how it is, and answers for it: [Secrets] to apps, [Admin] to administrators.
//
// To ask the firmware for a key may take a minute on a busy host. So the store opens while
// the agent already answers, and the status is told from memory. What is on disk, and what
// a crash leaves of it, is up to the store.
package vault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/cvm-agentd/agentd/agent/internal/apps"
	"github.com/cvm-agentd/agentd/agent/internal/enrol"
	"github.com/cvm-agentd/agentd/agent/internal/reports"
	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/store"
	"github.com/cvm-agentd/agentd/internal/store/tpmroot"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/turn"
	"github.com/cvm-agentd/agentd/sealing"
)

// Errors of a store that is not open.
var (
	// ErrClosed is returned while the store is not open; it wraps the reason.
	ErrClosed = errors.New("the store of sealed blobs is not open")
	// ErrNoDerivation is returned if the platform derives no keys.
	ErrNoDerivation = errors.New("the firmware of this machine derives no keys, so that nothing would bind sealed blobs to chip and launch measurement: " +
		"set keys.without_derived_keys to accept that the TPM alone protects them")
	// ErrEphemeral is returned if the TPM is made anew at each boot.
	ErrEphemeral = errors.New("the TPM of this machine is made anew at each boot (tpm.ephemeral), so that what is sealed to it is lost with the boot: " +
		"set keys.without_tpm to accept that the keys that the firmware derives protect sealed blobs alone, and that nothing notices an older state of the files")
)

// Config is what a Vault works with. All fields are required.
type Config struct {
	Supervisor *startup.Supervisor
	Device     *startup.Part[*tpm.Device]
	Apps       *startup.Part[*apps.Apps]
	Platform   *reports.Watched
	AK         func() (*tpmkeys.AK, bool) // attestation key in use, and whether there is one
	Folder     string                     // of the sealed blobs; the lock of the state folder covers it
	TPM        config.TPM
	Keys       config.Keys
	Log        *slog.Logger
}

// A Vault is the store of sealed blobs, or the reason why there is none. Its methods may
// be called by many goroutines.
type Vault struct {
	c       Config
	tried   chan struct{}   // closed by Run after the first attempt to open the store
	appKeys tpmkeys.AppKeys // keys of apps in the TPM

	mu    sync.Mutex   // guards all below
	store *store.Store // nil until it opens; written by Run, with folder and err
	dir   *durable.Dir
	err   error                    // why there is no store
	state store.State              // as it was last seen; written by refresh
	pens  map[string]*rate.Limiter // of the writes that apps ask for, by app; written by mayWrite
}

// New returns a Vault whose store is not open.
func New(c Config) *Vault {
	return &Vault{c: c, tried: make(chan struct{}), pens: make(map[string]*rate.Limiter)}
}

// Run opens the store, in as many attempts as that takes, and brings it up to date.
func (v *Vault) Run(ctx context.Context) {
	first := sync.OnceFunc(func() { close(v.tried) })
	defer first()
	said := ""
	for pause := startup.FirstPause; ; pause = min(2*pause, startup.LongestPause) {
		ready, err := v.try(ctx)
		first()
		if ready {
			break
		}
		if err != nil && err.Error() != said {
			said = err.Error()
			level := slog.LevelWarn
			if sealing.CodeOf(err) == api.CodeNoRecovery {
				level = slog.LevelInfo // as installed, before an administrator chose
			}
			v.c.Log.Log(ctx, level, "sealed blobs cannot be opened", "error", err)
		}
		if code := sealing.CodeOf(err); code != "" && code != api.CodeRootUnavailable && code != api.CodeInterrupted {
			return // waiting does not help: an administrator has to act
		}
		if errors.Is(err, ErrEphemeral) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
	s, state := v.now()
	v.c.Log.Info("store of sealed blobs is open", "slot", state.Slot.String(), "blobs", state.Blobs, "counted", state.Counted, "store_key", state.StoreKey.String())
	if u := state.Upgraded; u != nil {
		v.c.Log.Info("the store of sealed blobs was upgraded: every blob that opened is signed now", "result", u.String())
	}
	if state.NewKey {
		v.c.Log.Warn("the store of sealed blobs has a new store key: keep it with the recovery identity", "store_key", state.StoreKey.String())
	}
	if state.Unproven > 0 {
		v.c.Log.Warn("sealed blobs were recovered although nothing told who wrote them: an attacker may have chosen what they contain", "blobs", state.Unproven)
	}
	if state.Differ {
		v.c.Log.Warn("the configuration names other recovery recipients than the store was made with; they are not used")
	}
	if state.Rewrap {
		v.rewrapRaised(ctx, s)
	}
}

// rewrapRaised seals to the machine as it is now what was sealed to an older TCB. The
// committed TCB never goes down again, so that this loses nothing.
func (v *Vault) rewrapRaised(ctx context.Context, s *store.Store) {
	r, err := s.Rewrap(ctx)
	v.refresh(ctx)
	switch {
	case err != nil:
		v.c.Log.Error("sealed blobs stay sealed to an older TCB", "error", err)
	case len(r.Kept) > 0:
		v.c.Log.Warn("some sealed blobs do not open and stay as they are", "written", r.Written, "kept", len(r.Kept))
	default:
		v.c.Log.Info("sealed blobs were sealed again to this machine", "written", r.Written)
	}
}

// try opens the store if it is not open, and reports whether it is ready for use.
func (v *Vault) try(ctx context.Context) (ready bool, err error) {
	if s, _ := v.now(); s == nil {
		s, dir, err := v.open(ctx)
		v.mu.Lock()
		v.store, v.dir, v.err = s, dir, err
		v.mu.Unlock()
		if err != nil {
			return false, err
		}
	}
	v.refresh(ctx)
	_, state := v.now()
	return state.Ready, state.Err
}

// Turns returns what the queue of the store counts, and false if the store is not open.
func (v *Vault) Turns() (turn.Stats, bool) {
	s, _ := v.now()
	if s == nil {
		return turn.Stats{}, false
	}
	return s.Turns(), true
}

// now returns the store, nil if it is not open, and its state as it was last seen.
func (v *Vault) now() (*store.Store, store.State) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.store, v.state
}

func (v *Vault) open(ctx context.Context) (*store.Store, *durable.Dir, error) {
	if v.c.TPM.Ephemeral && !v.c.Keys.WithoutTPM {
		return nil, nil, ErrEphemeral
	}
	keys, err := v.keys(ctx)
	if err != nil {
		return nil, nil, err
	}
	auths, err := enrol.ReadAuths(v.c.TPM)
	if err != nil {
		return nil, nil, err
	}
	device, up := v.c.Device.Now()
	if !up {
		return nil, nil, v.c.Supervisor.Missing()
	}
	dir, err := durable.Make(v.c.Folder)
	if err != nil {
		return nil, nil, fmt.Errorf("open folder of sealed blobs %s: %w", v.c.Folder, err)
	}
	k := v.c.Keys
	var root store.TPM // none if it would not last
	if !v.c.TPM.Ephemeral {
		root = &tpmroot.TPM{Device: device, Auths: auths}
	}
	s, err := store.Open(ctx, store.Config{
		Files: files{dir}, Platform: keys, TPM: root,
		Quota:      store.Quota{Secrets: k.SecretsPerApp, Bytes: int64(k.BytesPerApp)},
		Recipients: k.RecoveryRecipients, LoseOnHardwareChange: k.LoseOnHardwareChange, ReleaseKey: v.releaseKey,
	})
	if err != nil {
		return nil, nil, errors.Join(err, dir.Close())
	}
	return s, dir, nil
}

// keys returns the keys of the platform, nil if it derives none and the configuration accepts
// that.
func (v *Vault) keys(ctx context.Context) (platform.Keys, error) {
	switch k, err := v.c.Platform.Keys(ctx); {
	case k != nil:
		return k, nil
	case v.c.Keys.WithoutDerivedKeys && (err == nil || errors.Is(err, platform.ErrAbsent)):
		return nil, nil // with another error, it may derive some
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNoDerivation, err)
	}
	return nil, ErrNoDerivation
}

// refreshTime is how long the state of the store may take: other operations come first.
const refreshTime = 10 * time.Second

// refresh remembers the state of the store. A caller who left does not prevent that.
func (v *Vault) refresh(ctx context.Context) {
	s, _ := v.now()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshTime)
	defer cancel()
	state, err := s.State(ctx)
	if err != nil {
		return // too many operations are waiting, or the agent is stopping
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.state = state
}

// learn refreshes the state if the outcome of an operation contradicts what is remembered:
// the store opened, or was locked, in between.
func (v *Vault) learn(ctx context.Context, err error) {
	_, state := v.now()
	locked := err != nil && state.Ready && sealing.CodeOf(err) == api.CodeRootUnavailable
	if err == nil && !state.Ready || locked {
		v.refresh(ctx)
	}
}

// files is the folder of sealed blobs as package sealing uses it.
type files struct{ *durable.Dir }

func (f files) WriteDurable(name string, b []byte) error { return f.Replace(name, b) }
func (f files) List() ([]string, error)                  { return f.Names() }

// opened waits until opening the store was tried once.
func (v *Vault) opened(ctx context.Context) (*store.Store, error) {
	if err := v.c.Supervisor.Ready(ctx); err != nil {
		return nil, err
	}
	select {
	case <-v.tried:
	case <-ctx.Done():
		return nil, fmt.Errorf("wait until sealed blobs can be opened: %w", ctx.Err())
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.store == nil {
		return nil, fmt.Errorf("%w: %w", ErrClosed, v.err)
	}
	return v.store, nil
}

// declared returns the declared app that match accepts. The digest is zero unless the app is
// measured.
func (v *Vault) declared(match func(apps.Status) bool) (store.Caller, bool) {
	if a, up := v.c.Apps.Now(); up {
		for _, x := range a.List() {
			if x.Unit != "" && match(x) {
				return store.Caller{App: sealing.App{Name: x.Name, Unit: x.Unit, User: x.User}, Digest: x.Digest}, true
			}
		}
	}
	return store.Caller{}, false
}

// declaredContainer returns the declared app of a name that is a container of an engine, of any if
// that is empty. The digest is zero: each of its containers has its own.
func (v *Vault) declaredContainer(name, engine string) (store.Caller, bool) {
	if a, up := v.c.Apps.Now(); up {
		for _, x := range a.Containers() {
			if x.Name == name && (engine == "" || x.Engine == engine) {
				return store.Caller{App: store.Container(x.Name, x.Engine)}, true
			}
		}
	}
	return store.Caller{}, false
}

// Status returns the last known state of the store, without asking a device.
func (v *Vault) Status() api.KeyStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.state
	out := api.KeyStatus{
		State: api.StateOK, Blobs: s.Blobs, Generation: s.Generation, Counted: s.Counted, Rewrap: s.Rewrap, Orphans: s.Orphans, Unproven: s.Unproven,
	}
	if !s.StoreKey.IsZero() {
		out.StoreKey = s.StoreKey.String()
	}
	if s.Slot != 0 {
		out.Slot = s.Slot.String()
	}
	switch err := v.err; {
	case v.store == nil && err == nil:
		out.State, out.Reason = api.StateAbsent, api.ReasonStarting
	case v.store == nil:
		out.State, out.Reason = api.StateAbsent, err.Error()
	case !s.Ready && s.Err == nil:
		out.State, out.Reason = api.StateDegraded, api.ReasonStarting
	case !s.Ready:
		out.State, out.Reason, out.Code = api.StateDegraded, s.Err.Error(), sealing.CodeOf(s.Err)
	}
	return out
}

// Close wipes the keys that the store keeps in memory, and closes its folder.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.store == nil {
		return nil
	}
	v.store.Close()
	return v.dir.Close()
}
