// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"context"
	"unsafe"
)

// KernelOver is the kernel's transport with f in the place of the system call: f
// gets the address of the 32-byte structure, as the kernel does.
func KernelOver(f func(command Command, arg unsafe.Pointer) error) Transport {
	return &kernel{fd: -1, ioctl: func(_ int, command Command, arg *guestRequest) error {
		return f(command, unsafe.Pointer(arg))
	}}
}

// Classify names the failure of an exchange.
var Classify = classify

// KeyProbe is keyProbe.
type KeyProbe = keyProbe

// Fingerprint is fingerprint.
func (d *Device) Fingerprint(ctx context.Context, p KeyProbe) ([32]byte, error) {
	return d.fingerprint(ctx, p)
}
