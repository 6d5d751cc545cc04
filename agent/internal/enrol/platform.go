// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// vouched are the attestation keys that machines vouch for. Another key there would give
// evidence that verifiers refuse.
var vouched = map[platform.Machine]tpmkeys.AKChoice{platform.MachineAzure: tpmkeys.AKAzure}

// found is what a key of the platform is found with.
type found struct {
	named []byte        // TPMT_PUBLIC that the platform's reports name
	auths tpmkeys.Auths // of the hierarchies
}

// finders find the keys of platforms in the TPM.
var finders = map[tpmkeys.AKChoice]func(transport.TPM, found) (*tpmkeys.AK, error){
	tpmkeys.AKAzure: func(t transport.TPM, _ found) (*tpmkeys.AK, error) { return tpmkeys.Kept(t, tpmkeys.AzureAK) },
	tpmkeys.AKSVSM:  func(t transport.TPM, by found) (*tpmkeys.AK, error) { return tpmkeys.Named(t, by.named) },
	tpmkeys.AKGCPECC: func(t transport.TPM, by found) (*tpmkeys.AK, error) {
		return tpmkeys.Google(t, tpmkeys.AKGCPECC, by.auths)
	},
	tpmkeys.AKGCPRSA: func(t transport.TPM, by found) (*tpmkeys.AK, error) {
		return tpmkeys.Google(t, tpmkeys.AKGCPRSA, by.auths)
	},
}

// choicePatience is how long the start waits to learn what the machine is: a device that is
// being opened may hang.
const choicePatience = 20 * time.Second

// which returns the choice of the attestation key, without auto. An error says that it cannot be
// told now: making a key of its own meanwhile would give the machine a key that its platform
// does not vouch for.
func (e *Enroller) which(ctx context.Context) (tpmkeys.AKChoice, error) {
	want := e.c.TPM.AK
	if e.c.Choice == nil {
		return tpmkeys.AKOwn, nil
	}
	if want != "" && want != tpmkeys.AKAuto && !want.Own() {
		return want, nil
	}
	ctx, cancel := context.WithTimeout(ctx, choicePatience)
	defer cancel()
	c, err := e.c.Choice(ctx)
	switch {
	case want.Own() && vouched[c.Machine] != "":
		return "", fmt.Errorf("%w: tpm.ak is %q, and the platform vouches for the key %q alone: remove tpm.ak from the configuration", ErrNoTPM, want, vouched[c.Machine])
	case want.Own():
		return want, nil
	case vouched[c.Machine] != "":
		return vouched[c.Machine], nil
	case c.AK != nil:
		return tpmkeys.AKSVSM, nil
	case c.Machine == platform.MachineSVSM && err != nil: // its manifest may name a key
		return "", fmt.Errorf("find out whether the SVSM vouches for an attestation key (tpm.ak is \"auto\"): %w", err)
	case c.Machine != "", errors.Is(err, platform.ErrAbsent):
		return tpmkeys.AKOwn, nil
	case err != nil:
		return "", fmt.Errorf("find out which attestation key the platform vouches for (tpm.ak is \"auto\"): %w", err)
	}
	return tpmkeys.AKOwn, nil
}

// adopt uses the key that the platform keeps in the TPM, and reports whether that is the one to
// use. Nothing is stored: what the state folder has stays as it is.
func (e *Enroller) adopt(ctx context.Context) (bool, error) {
	kind, err := e.which(ctx)
	if err != nil || kind.Own() {
		return false, err
	}
	find, known := finders[kind]
	if !known {
		return true, fmt.Errorf("%w: this version does not use the attestation key that tpm.ak = %q names", ErrNoTPM, kind)
	}
	var by found
	if by.auths, err = ReadAuths(e.c.TPM); err != nil {
		return true, err
	}
	if kind == tpmkeys.AKSVSM {
		if by.named, err = e.named(ctx); err != nil {
			return true, err
		}
	}
	var ak *tpmkeys.AK
	err = e.do(ctx, func(t transport.TPM) (err error) {
		ak, err = find(t, by)
		return err
	})
	if err != nil {
		return true, fmt.Errorf("%w: %w", ErrNoTPM, err)
	}
	e.c.Log.Info("uses the attestation key of the platform", "which", string(kind), "name", ak.Name())
	e.key.Set(ak)
	return true, nil
}

// named returns the TPMT_PUBLIC of the attestation key that the platform's reports name.
func (e *Enroller) named(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, choicePatience)
	defer cancel()
	c, err := e.c.Choice(ctx)
	if err != nil {
		return nil, fmt.Errorf("find out which attestation key the SVSM vouches for: %w", err)
	}
	if c.AK == nil {
		return nil, fmt.Errorf("%w: tpm.ak is %q, and no manifest of an SVSM names an attestation key of this TPM: remove tpm.ak from the configuration, and enrol the agent's own key", ErrNoTPM, e.c.TPM.AK)
	}
	return c.AK, nil
}
