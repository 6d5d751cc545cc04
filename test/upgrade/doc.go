// SPDX-License-Identifier: Apache-2.0

// Package upgrade moves stores of sealed blobs between simulated machines under different launch
// measurements, as docs/upgrades.md describes, and attacks each step.
package upgrade
