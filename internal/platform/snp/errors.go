// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/cvm-agentd/agentd/internal/platform"
)

// Hypervisor's part of exitinfo2 (include/uapi/linux/sev-guest.h, SNP_GUEST_VMM_ERR_*).
const (
	vmmInvalidLength = 1 // the table does not fit
	vmmBusy          = 2 // throttled
)

// noFirmwareCall is what the kernel leaves in the firmware's part if there was no call; older kernels write the shorter one.
const (
	noFirmwareCall    = 0xFFFFFFFF
	noFirmwareCallOld = 0xFF
)

// errTableTooSmall is returned if the host wants more room for its certificates.
var errTableTooSmall = errors.New("certificate table does not fit")

// classify returns what went wrong with an exchange, nil if nothing did.
func classify(exitInfo uint64, err error) error {
	hypervisor, firmware := uint32(exitInfo>>32), uint32(exitInfo)
	if firmware == noFirmwareCall || firmware == noFirmwareCallOld {
		firmware = 0
	}
	switch {
	case err == nil && hypervisor == 0 && firmware == 0:
		return nil
	case errors.Is(err, syscall.ENOTTY):
		return fmt.Errorf("%w: the kernel gave the key up after a failed exchange; only a reboot brings it back (or this is not the device of SEV-SNP)", errors.Join(platform.ErrKeyWiped, err))
	case errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
		return errors.Join(platform.ErrAbsent, err)
	case errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Errorf("the host throttled the request for as long as the kernel tries: %w", errors.Join(platform.ErrTimedOut, err))
	case hypervisor == vmmBusy, errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.EINTR):
		return errors.Join(platform.ErrBusy, err)
	case hypervisor == vmmInvalidLength:
		return errTableTooSmall
	case hypervisor != 0:
		return fmt.Errorf("hypervisor error 0x%x: %w", hypervisor, errors.Join(platform.ErrFirmware, err))
	case firmware != 0:
		return fmt.Errorf("firmware status 0x%x: %w", firmware, errors.Join(platform.ErrFirmware, err))
	case errors.Is(err, syscall.EBADMSG):
		return fmt.Errorf("the answer does not decrypt: %w", errors.Join(platform.ErrMalformed, err))
	}
	return fmt.Errorf("%w: no status came with it", errors.Join(platform.ErrFirmware, err))
}
