// SPDX-License-Identifier: Apache-2.0

package choose

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/azure"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// A finding is what a look at one device gave.
type finding struct {
	there bool
	says  string // what was found, or is missing; for people
	err   error  // why it cannot be told now, nil if it can
}

// NV indices by which the TPM of Google Cloud is known.
const (
	nvGoogleRSA = 0x01c10001 // template of Google's RSA attestation key
	nvGoogleECC = 0x01c10003 // template of Google's ECC attestation key
)

// lookForParavisor looks for the report of a paravisor in the TPM.
func lookForParavisor(ctx context.Context, d *Devices, t platform.TPM) finding {
	there, says, err := azure.Look(ctx, t, d.Auths)
	return finding{there: there, says: says, err: err}
}

// lookForIndex looks for NV indices of the TPM, and finds any of them.
func lookForIndex(what string, indices ...tpm2.TPMHandle) func(context.Context, *Devices, platform.TPM) finding {
	return func(ctx context.Context, _ *Devices, t platform.TPM) finding {
		device, up := t()
		if !up {
			return finding{err: fmt.Errorf("look for %s: the TPM is not up yet: %w", what, platform.ErrNotYet)}
		}
		f := finding{says: "the TPM does not have " + what}
		err := device.Do(ctx, func(t transport.TPM) error {
			for _, i := range indices {
				_, err := tpm2.NVReadPublic{NVIndex: i}.Execute(t)
				if err == nil {
					f = finding{there: true, says: fmt.Sprintf("the TPM has %s (NV index 0x%08x)", what, uint32(i))}
					return nil
				}
				if !tpmkeys.Absent(err) {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return finding{err: fmt.Errorf("look for %s: %w", what, err)}
		}
		return f
	}
}

// lookForEntry looks whether root handed an entry of configfs-tsm over, and its reports are of
// SEV-SNP.
func lookForEntry(_ context.Context, d *Devices, _ platform.TPM) finding {
	err := configfs.CheckProvider(d.Entry)
	switch {
	case errors.Is(err, platform.ErrAbsent):
		return finding{says: err.Error()}
	case err != nil:
		return finding{err: err}
	}
	return finding{there: true, says: "configfs-tsm has an entry for the agent"}
}

// lookForDriver looks whether the device of the SNP driver opens.
func lookForDriver(_ context.Context, d *Devices, _ platform.TPM) finding {
	k, err := d.SEVGuest()
	switch {
	case errors.Is(err, platform.ErrAbsent):
		return finding{says: err.Error()}
	case err != nil:
		return finding{err: err}
	}
	if err := k.Close(); err != nil {
		return finding{err: fmt.Errorf("close the report device: %w", err)}
	}
	return finding{there: true, says: "the SNP driver has a device"}
}
