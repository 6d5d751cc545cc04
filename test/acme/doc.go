// SPDX-License-Identifier: Apache-2.0

// Package acme has a real step-ca issue certificates for keys in the TPM of a simulated machine, on the
// word of a real agentd-verifier, and refuse what does not fit. `make test-acme` builds step-ca, from the
// module in programs, and runs it.
package acme
