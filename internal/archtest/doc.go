// SPDX-License-Identifier: Apache-2.0

// Package archtest contains the rules of the source tree as tests: the order of packages,
// the public packages, what each may link, how files look, and that builds are
// reproducible. If a change breaks a rule, a test fails.
package archtest
