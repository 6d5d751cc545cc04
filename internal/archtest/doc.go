// SPDX-License-Identifier: Apache-2.0

// Package archtest holds the rules of the source tree as tests: which package may
// import which, what the daemon must not contain, how files look, and that builds
// are reproducible. A rule worth keeping is a test that fails.
package archtest
