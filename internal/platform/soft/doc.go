// SPDX-License-Identifier: Apache-2.0

// Package soft is an AMD SEV-SNP platform in software, for development and tests:
// a security processor that makes reports in the real format and derives keys as
// the real one does, under the same device code that the agent uses on hardware.
//
// It protects nothing and vouches for nothing. Its reports are signed under a root
// of its own, whose subject says that it is a test root, and no verifier accepts
// them unless it was given that root by name.
package soft
