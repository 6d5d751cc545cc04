// SPDX-License-Identifier: Apache-2.0

package choose

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/configfs"
	"github.com/cvm-agentd/agentd/internal/platform/snp"
	"github.com/cvm-agentd/agentd/internal/platform/svsm"
	"github.com/cvm-agentd/agentd/internal/tpm"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
)

// lookForSVSM looks whether the kernel lets the agent ask for services of an SVSM: it shows the
// attributes for that only to a guest above VMPL 0.
func lookForSVSM(ctx context.Context, d *Devices, t platform.TPM) finding {
	if f := lookForEntry(ctx, d, t); !f.there {
		return f
	}
	has, err := d.Entry.Has(configfs.ServiceProvider)
	switch {
	case err != nil:
		return finding{err: fmt.Errorf("look for an SVSM: %w", err)}
	case !has:
		return finding{says: "the guest runs at VMPL 0, with no SVSM below it"}
	}
	return finding{there: true, says: "configfs-tsm has a service provider: the guest runs above an SVSM"}
}

// openSVSM opens the SVSM's reports, and the SNP driver's device for derived keys.
func openSVSM(ctx context.Context, d *Devices, t platform.TPM, o snp.Options) (platform.Platform, bool, error) {
	device, up := t()
	if !up && !d.OwnAK {
		return nil, false, fmt.Errorf("look for the attestation key of the SVSM's vTPM: the TPM is not up yet: %w", platform.ErrNotYet)
	}
	floor, err := configfs.Floor(d.Entry)
	if err != nil {
		return nil, false, err
	}
	// Keys and plain reports are of the guest's own level, which the kernel knows.
	o.VMPL, o.Spacing = max(o.VMPL, floor), max(o.Spacing, d.SVSMSpacing)
	driver, err := d.SEVGuest()
	if err != nil && !errors.Is(err, platform.ErrAbsent) {
		return nil, false, fmt.Errorf("open the device that derives keys: %w", err)
	}
	if err != nil {
		driver, o.WithoutKeys = nil, true
	}
	carrier := configfs.ForServices(d.Entry, driver)
	p, err := snp.New(carrier, o)
	if err != nil {
		return nil, false, errors.Join(err, carrier.Close())
	}
	has := hasKey(device)
	if d.OwnAK {
		has = nil
	}
	s, err := svsm.New(ctx, p, has)
	if err != nil {
		return nil, false, errors.Join(err, p.Close())
	}
	return s, !o.WithoutKeys, nil
}

// hasKey returns what looks for a key in the TPM.
func hasKey(d *tpm.Device) svsm.Has {
	return func(ctx context.Context, public []byte) (there bool, err error) {
		err = d.Do(ctx, func(t transport.TPM) (err error) {
			_, there, err = tpmkeys.Persistent(t, public)
			return err
		})
		return there, err
	}
}

// says tells people what the SVSM says of its vTPM.
func says(d *svsm.Device) string {
	if d.AK() == nil {
		return "the SVSM names its endorsement key: evidence has the binding svsm once the attestation key is enrolled with that"
	}
	return "the SVSM names the attestation key"
}
