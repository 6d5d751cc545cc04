// SPDX-License-Identifier: Apache-2.0

//go:build race

package verify

// raceEnabled: nothing here runs at once but tests, and the detector makes each
// appraisal ten times slower.
const raceEnabled = true
