// SPDX-License-Identifier: Apache-2.0

// Package reader contains a verifier of evidence in Python, written from docs/evidence.md and
// docs/measurements.md alone. Its test runs it over the corpus and the examples. A disagreement with
// our own verifier shows a fault in one of the two, or a place of the text that can be read in two
// ways.
//
// The reader does not look at the policy, and knows no raw material of other systems.
package reader
