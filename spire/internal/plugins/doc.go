// SPDX-License-Identifier: Apache-2.0

// Package plugins tests the plugins together: SPIRE's own test server loads them, and evidence is that of
// simulated machines.
package plugins
