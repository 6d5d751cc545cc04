// SPDX-License-Identifier: Apache-2.0

// Package tpmroot is the TPM's part of sealing: a secret that only this TPM gives
// back, and a counter that only goes up.
//
// The secret is a sealed data object (TPM2_Create, TPM 2.0 Part 3, section 12.1)
// under the storage root key, with an authorization value of its own, so that other
// programs that may use the TPM cannot unseal it. It travels encrypted to the storage
// root key by its recorded name. An attacker between this program and the TPM sees nothing,
// and that name shows whether the owner seed was replaced (TPM2_Clear).
//
// The counter is an NV index of type counter in the owner's range, with an
// authorization value of its own. A TPM never lets a counter start below the highest
// value that any counter in it ever had, so that defining it again turns nothing back.
// The party that runs the TPM can turn everything back.
package tpmroot
