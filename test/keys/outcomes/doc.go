// SPDX-License-Identifier: Apache-2.0

// Package outcomes does to simulated machines everything that docs/sealing.md says
// something about, through the commands and sockets of a running agent, and writes the
// tables there. What is changed on disk or in the TPM is changed while the machine is
// off, as an attacker on the host would.
package outcomes
