// SPDX-License-Identifier: Apache-2.0

// Package delivery hands secrets to applications of simulated machines, as docs/delivery.md
// describes, with the commands that people run, and attacks each step.
package delivery
