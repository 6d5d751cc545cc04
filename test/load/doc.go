// SPDX-License-Identifier: Apache-2.0

// Package load asks one agent for evidence from many clients at once, and verifies
// every answer.
package load
