// SPDX-License-Identifier: Apache-2.0

// Package test runs agentd-spire in real servers and agents of SPIRE, with simulated machines, for
// `make test-spire`. The folder programs is a module of its own, which builds SPIRE's programs: nothing
// of theirs is linked into ours.
package test
