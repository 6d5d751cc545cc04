// SPDX-License-Identifier: Apache-2.0

package azure

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// signature is how the report of a paravisor begins (see [tpmwire.HCL]).
const signature = "HCLA"

// Look reports whether the vTPM has the report of a paravisor, and says what it found.
//
// The index alone does not tell: elsewhere, each program with the authorization of the TPM's
// owner can define an index of this number, and write what a paravisor would. So Look asks who
// made it. A TPM lets only the authorization of the platform make an index with the attribute
// PLATFORMCREATE, and not the owner's (TPM 2.0 Part 2, TPMA_NV; Part 3, TPM2_NV_DefineSpace). A
// paravisor makes its index so, and no program of the guest can change or remove it. So what Look
// calls absent there cannot be an attacker's doing. What cannot be told is an error: an attacker
// who locks an index could otherwise choose a weaker way.
//
// The host can imitate all of this, if it runs the vTPM. Then no report comes, until an
// administrator names the platform. A host can do that to each machine of its own anyway.
func Look(ctx context.Context, t platform.TPM, auths func() (tpmkeys.Auths, error)) (there bool, says string, err error) {
	device, up := t()
	if !up {
		return false, "", fmt.Errorf("look for a report of a paravisor: the TPM is not up yet: %w", platform.ErrNotYet)
	}
	auths = Options{Auths: auths}.withDefaults().Auths
	err = device.Do(ctx, func(x transport.TPM) (err error) {
		there, says, err = look(x, auths)
		return err
	})
	if err != nil {
		return false, "", fmt.Errorf("look for a report of a paravisor: %w", err)
	}
	return there, says, nil
}

// look reads no file of authorizations if the TPM has no such index.
func look(t transport.TPM, auths func() (tpmkeys.Auths, error)) (there bool, says string, err error) {
	i, err := find(t, nvReport)
	if err != nil {
		return false, "", err
	}
	if i == nil {
		return false, "the TPM does not have a report of a paravisor", nil
	}
	another := fmt.Sprintf("NV index 0x%08x of the TPM is not the report of a paravisor: it ", uint32(nvReport))
	if not := i.unlike(); not != "" {
		return false, another + not, nil
	}
	if !i.area.Attributes.PlatformCreate {
		return false, another + "was made with the authorization of the TPM's owner, and a paravisor makes its own with that of the platform", nil
	}
	a, err := auths()
	if err != nil {
		return false, "", err
	}
	begins, err := i.read(t, a, 0, len(signature))
	switch {
	case errors.Is(err, tpm2.TPMRCNVUninitialized):
		return false, another + "was never written", nil
	case err != nil:
		return false, "", fmt.Errorf("%w; if this machine has no paravisor, set platform in /etc/agentd/config.toml, and find out which program made that index", err)
	case string(begins) != signature:
		return false, fmt.Sprintf("%sbegins with %x, want the text %s", another, begins, signature), nil
	}
	return true, fmt.Sprintf("the TPM has a report of a paravisor (NV index 0x%08x)", uint32(nvReport)), nil
}
