// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/agent/internal/vtpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/pcr"
)

const (
	akFile = "ak.json" // holds the attestation key, in the state folder
	maxAK  = 64 << 10  // bytes of it that are read
)

// errAK: there is a stored attestation key, and it is of no use here. Verifiers may
// have enrolled it, so that nothing but a command replaces it.
var errAK = errors.New("the stored attestation key cannot be used")

// provision finds the attestation key of this machine, and makes one only where none
// was ever stored.
func (d *Daemon) provision(ctx context.Context, p parts) error {
	if p.ak != nil {
		return nil
	}
	stored, ak, err := d.storedAK(ctx, p)
	if errors.Is(err, errAK) {
		return fmt.Errorf("%w; bring back what fits, or accept a new key, which verifiers have to enrol: `agentctl key replace-ak` keeps the old one in a file", err)
	}
	if err != nil {
		return err
	}
	if stored == nil {
		if ak, err = d.newAK(ctx, p); err != nil {
			return err
		}
		d.log.Info("made an attestation key", "name", ak.Name())
	}
	return d.useAK(p, ak)
}

// storedAK loads the attestation key that the state folder holds; nothing without an
// error where it holds none. The error is [errAK] where it does not load and never
// will; what is stored comes beside it.
func (d *Daemon) storedAK(ctx context.Context, p parts) (stored []byte, ak *tpmkeys.AK, err error) {
	stored, err = p.state.Read(akFile, maxAK)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read the attestation key: %w", err)
	}
	blob, err := tpmkeys.ParseBlob(stored)
	if err != nil {
		return stored, nil, fmt.Errorf("%w: %s in %s: %w", errAK, akFile, d.o.Config.State.Folder, err)
	}
	ak, err = d.load(ctx, p, blob)
	if errors.Is(err, tpmkeys.ErrOtherTPM) || errors.Is(err, tpmkeys.ErrDamaged) {
		return stored, nil, fmt.Errorf("%w: %s in %s: %w", errAK, akFile, d.o.Config.State.Folder, err)
	}
	return stored, ak, err
}

// load has the TPM load the key in blob, or make one where that is nil.
func (d *Daemon) load(ctx context.Context, p parts, blob *tpmkeys.Blob) (ak *tpmkeys.AK, err error) {
	auths, err := readAuths(d.o.Config.TPM)
	if err != nil {
		return nil, err
	}
	err = p.device.Do(ctx, func(t transport.TPM) (err error) {
		ak, err = tpmkeys.Provision(t, blob, auths)
		return err
	})
	switch {
	case errors.Is(err, tpmkeys.ErrOtherTPM), errors.Is(err, tpmkeys.ErrDamaged):
		return nil, err // the TPM works
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNoTPM, err)
	}
	return ak, nil
}

// newAK makes a key and stores it, in the place of what was stored.
func (d *Daemon) newAK(ctx context.Context, p parts) (*tpmkeys.AK, error) {
	ak, err := d.load(ctx, p, nil)
	if err != nil {
		return nil, err
	}
	b, err := ak.Blob().Encode()
	if err == nil {
		err = p.state.Replace(akFile, b)
	}
	if err != nil {
		// What is on disk is looked at again; this key frees its place in the TPM.
		return nil, fmt.Errorf("store the attestation key: %w", errors.Join(err, p.device.Do(ctx, ak.Flush)))
	}
	return ak, nil
}

// useAK lets quotes be made with the key.
func (d *Daemon) useAK(p parts, ak *tpmkeys.AK) error {
	selection, err := pcr.ParseSelection(d.o.Config.TPM.PCRs)
	if err != nil {
		return &refusal{err}
	}
	d.set(func(q *parts) {
		q.ak, q.tpm = ak, &vtpm.TPM{Device: p.device, AK: ak, Selection: selection}
	})
	return nil
}

// noteAK remembers for the status whether the key in use still loads, and says what to do
// where it does not. Everything that is up stands on that key, so that only a start begins
// with another. What is sealed opens until then, from memory, and not after: rewrap gives
// it to the TPM as it is now, once a counter that went with the clear was given up.
func (d *Daemon) noteAK(err error) error {
	gone := errors.Is(err, tpmkeys.ErrOtherTPM) || errors.Is(err, tpmkeys.ErrDamaged)
	if gone {
		err = fmt.Errorf("%w: %w: it loaded when the agent started, so that the TPM was cleared or replaced since; "+
			"first save what is sealed, which a restart loses (`agentctl key rewrap`; where that says counter-lost `agentctl key accept-rollback`, then rewrap again); "+
			"then restart the agent (systemctl restart agentd), and where it says so accept a new key with `agentctl key replace-ak`", errAK, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case gone:
		d.lost = err
	case err == nil:
		d.lost = nil
	}
	return err
}
