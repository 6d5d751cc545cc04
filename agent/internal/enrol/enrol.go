// SPDX-License-Identifier: Apache-2.0

// Package enrol owns the attestation key (AK) of this machine: it finds the stored key or
// makes the first one, answers enrolment, and replaces a key that the TPM does not load.
//
// The key is a file in the state folder. A crash leaves the old key stored, or the new one
// with the old one in a file of its own.
package enrol

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/startup"
	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/config"
	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/text"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/internal/tpm/trial"
)

const (
	akFile    = "ak.json"     // contains the attestation key, in the state folder
	akRSAFile = "ak-rsa.json" // contains the one of RSA
	maxAK     = 64 << 10      // bytes of either that are read
)

// Errors of the attestation key and of the TPM that contains it.
var (
	// ErrUnusable is returned for a stored key that cannot be used on this machine.
	// Verifiers may have enrolled it, so that only a command replaces it.
	ErrUnusable = errors.New("the stored attestation key cannot be used")
	// ErrNoTPM is returned while the TPM does not do what it is asked for.
	ErrNoTPM = errors.New("the agent has no TPM that works")
)

// Config is what an Enroller works with. All fields are required; without Choice no platform
// vouches for a key.
type Config struct {
	Supervisor *startup.Supervisor
	State      *startup.Part[*durable.Dir]
	Device     *startup.Part[*tpm.Device]
	TPM        config.TPM
	Folder     string // of State, for texts

	// Choice returns what the machine is, see [reports.Watched.Choice].
	Choice func(context.Context) (platform.Choice, error)
	Log    *slog.Logger
}

// An Enroller owns the attestation key. Its methods may be called by many goroutines.
type Enroller struct {
	c   Config
	key *startup.Part[*tpmkeys.AK] // set by Provision and by ReplaceAK, which exclude each other

	endorsements endorsements
	parent       error // that of tpmkeys.ErrParent; written and read by Provision and ReplaceAK

	mu   sync.Mutex // guards lost, which Note writes
	lost error      // why the key in use does not load any more
}

// New returns an Enroller that has no key yet.
func New(c Config) *Enroller {
	return &Enroller{c: c, key: startup.NewPart[*tpmkeys.AK](c.Supervisor)}
}

// file returns the name of the file of the agent's own attestation key. Each kind has one of its own, so
// that a change of the configuration and back loses no key that verifiers enrolled.
func (e *Enroller) file() string {
	if e.c.TPM.AK == tpmkeys.AKOwnRSA {
		return akRSAFile
	}
	return akFile
}

// Key returns the attestation key in use, and whether there is one.
func (e *Enroller) Key() (*tpmkeys.AK, bool) { return e.key.Now() }

// Provision finds the attestation key of this machine, and makes one only if none was ever
// stored, or if the TPM is made anew at each boot and the stored one is of another boot. It is
// a step of the start.
func (e *Enroller) Provision(ctx context.Context) error {
	if _, up := e.key.Now(); up {
		return nil
	}
	if e.parent != nil {
		return e.parent // each try could count as an attack on the TPM
	}
	if adopted, err := e.adopt(ctx); adopted || err != nil {
		return err
	}
	stored, ak, err := e.stored(ctx)
	if e.c.TPM.Ephemeral && errors.Is(err, tpmkeys.ErrOtherTPM) {
		e.c.Log.Info("the attestation key is of an earlier boot: tpm.ephemeral says that the TPM is made anew at each", "reason", err)
		stored, err = nil, nil
	}
	switch {
	case errors.Is(err, tpmkeys.ErrOtherTPM):
		err = fmt.Errorf("%w. If this machine's vTPM is made anew at each boot, set tpm.ephemeral = true in the configuration", withReplace(err))
	case errors.Is(err, ErrUnusable):
		err = withReplace(err)
	}
	if errors.Is(err, tpmkeys.ErrParent) {
		e.parent = err
	}
	if err != nil {
		return err
	}
	if stored == nil {
		if ak, err = e.make(ctx); err != nil {
			return err
		}
		e.c.Log.Info("made an attestation key", "name", ak.Name())
	}
	e.key.Set(ak)
	return nil
}

// withReplace says what to do about a stored key that cannot be used.
func withReplace(err error) error {
	return fmt.Errorf("%w; bring back what fits, or accept a new key, which verifiers have to enrol: `agentctl key replace-ak` keeps the old one in a file", err)
}

// stored loads the attestation key that the state folder contains, nil without an error if
// it contains none. The error is [ErrUnusable] if the key does not load and never will;
// then the stored bytes are returned too.
func (e *Enroller) stored(ctx context.Context) (stored []byte, ak *tpmkeys.AK, err error) {
	state, up := e.c.State.Now()
	if !up {
		return nil, nil, e.c.Supervisor.Missing()
	}
	stored, err = state.Read(e.file(), maxAK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the attestation key: %w", err)
	}
	blob, err := tpmkeys.ParseBlob(stored)
	if errors.Is(err, tpmkeys.ErrLater) { // not unusable: it is not to be replaced
		return nil, nil, fmt.Errorf("%s in %s: %w: install that version, or a later one; nothing was changed", e.file(), e.c.Folder, err)
	}
	if err != nil {
		return stored, nil, fmt.Errorf("%w: %s in %s: %w", ErrUnusable, e.file(), e.c.Folder, err)
	}
	ak, err = e.load(ctx, blob)
	if unusable(err) {
		return stored, nil, fmt.Errorf("%w: %s in %s: %w", ErrUnusable, e.file(), e.c.Folder, err)
	}
	return stored, ak, err
}

// unusable reports whether err says that the TPM works and does not load the key.
func unusable(err error) bool {
	return errors.Is(err, tpmkeys.ErrOtherTPM) || errors.Is(err, tpmkeys.ErrDamaged) || errors.Is(err, tpmkeys.ErrParent)
}

// load makes the TPM load the key in blob, or make one if blob is nil.
func (e *Enroller) load(ctx context.Context, blob *tpmkeys.Blob) (ak *tpmkeys.AK, err error) {
	auths, err := ReadAuths(e.c.TPM)
	if err != nil {
		return nil, err
	}
	err = e.do(ctx, func(t transport.TPM) (err error) {
		ak, err = tpmkeys.ProvisionAs(t, e.c.TPM.AK, blob, auths)
		return err
	})
	if err != nil && !unusable(err) {
		err = fmt.Errorf("%w: %w", ErrNoTPM, err)
	}
	return ak, err
}

// do runs f on the TPM.
func (e *Enroller) do(ctx context.Context, f func(transport.TPM) error) error {
	device, up := e.c.Device.Now()
	if !up {
		return e.c.Supervisor.Missing()
	}
	return device.Do(ctx, f)
}

// make makes a key and stores it, in the place of what was stored.
func (e *Enroller) make(ctx context.Context) (*tpmkeys.AK, error) {
	ak, err := e.load(ctx, nil)
	if err != nil {
		return nil, err
	}
	state, _ := e.c.State.Now()
	b, err := ak.Blob().Encode()
	if err == nil {
		err = state.Replace(e.file(), b)
	}
	if err != nil {
		// The next attempt reads again what is on disk; this key frees its place in the TPM.
		return nil, fmt.Errorf("store the attestation key: %w", errors.Join(err, e.do(ctx, ak.Flush)))
	}
	return ak, nil
}

// Note records in the status whether the key in use still loads, and says what to do if it
// does not. All parts depend on that key, so only a restart can use another. Sealed secrets
// open from memory until then, and not after. Rewrap seals them to the TPM as it is now; if
// the clear destroyed the counter, accept-rollback comes first.
func (e *Enroller) Note(err error) error {
	gone := unusable(err)
	if gone {
		err = fmt.Errorf("%w: %w: it loaded when the agent started, so that the TPM was cleared or replaced since; "+
			"first save what is sealed, which a restart loses (`agentctl key rewrap`; if that says counter-lost `agentctl key accept-rollback`, then rewrap again); "+
			"then restart the agent (systemctl restart agentd), and if it says so accept a new key with `agentctl key replace-ak`", ErrUnusable, err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case gone:
		e.lost = err
	case err == nil:
		e.lost = nil
	}
	return err
}

// Lost returns why the key in use does not load any more, nil if it does.
func (e *Enroller) Lost() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}

// Close frees the place of the key in the TPM. After a resource manager the key goes with
// the connection; a TPM without one keeps it.
func (e *Enroller) Close(ctx context.Context) {
	if ak, up := e.key.Now(); up {
		_ = e.do(ctx, ak.Flush)
	}
}

// ReadAuths reads the authorization files that the configuration names.
func ReadAuths(c config.TPM) (tpmkeys.Auths, error) {
	return tpmkeys.ReadAuths(c.OwnerAuthFile, c.EndorsementAuthFile)
}

// Try tries what the agent needs of the TPM. It changes nothing, and works also while there is
// no attestation key.
func (e *Enroller) Try(ctx context.Context) (api.Probed, error) {
	if err := e.c.Supervisor.Wait(ctx); err != nil {
		return api.Probed{}, err
	}
	device, up := e.c.Device.Now()
	if !up {
		return api.Probed{}, e.c.Supervisor.Missing()
	}
	auths, err := ReadAuths(e.c.TPM)
	if err != nil {
		return api.Probed{}, err
	}
	out := api.Probed{Findings: []api.ProbeFinding{}}
	for _, f := range trial.Run(ctx, device, auths) {
		out.Findings = append(out.Findings, api.ProbeFinding{Name: f.Name, OK: f.OK, Text: text.OneLine(f.Text), Todo: text.OneLine(f.Todo)})
	}
	return out, ctx.Err()
}
