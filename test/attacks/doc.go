// SPDX-License-Identifier: Apache-2.0

// Package attacks runs whole attacks on simulated machines, with the commands that people
// run. Each of them once succeeded. A test has the name of what its attack achieved then,
// and checks that this fails now: by exit codes, ids of checks and words of the basis, never
// by sentences.
//
// The attackers have what the threat model gives them: the host has the disk and the vTPM,
// root of the guest has the TPM device and reports of the processor.
package attacks
