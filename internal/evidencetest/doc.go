// SPDX-License-Identifier: Apache-2.0

// Package evidencetest makes evidence out of nothing, for tests: a software AK, quotes
// laid out by hand, reports under a root of its own. Every field can be changed before
// what commits to it is computed and signed, so that a test can break one rule and
// leave all others kept. No TPM and no processor is involved.
//
// The private keys in testdata are public. They vouch for nothing.
package evidencetest
