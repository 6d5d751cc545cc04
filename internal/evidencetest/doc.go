// SPDX-License-Identifier: Apache-2.0

// Package evidencetest makes evidence for tests without a TPM or a processor: a software AK,
// quotes that are laid out by hand, reports under a root of its own. A test can change every
// field before what commits to it is computed and signed. So it can break one rule and keep the
// rest.
//
// The private keys in testdata are public. They vouch for nothing.
package evidencetest
