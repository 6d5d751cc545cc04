// SPDX-License-Identifier: Apache-2.0

// Package registers reads and extends the PCRs of a TPM over a transport, and checks that a
// PCR can have a measurement log. Package pcr has the values and the log themselves.
package registers
