// SPDX-License-Identifier: Apache-2.0

// Package scripts runs the commands as people do: scripts in testdata drive agentctl
// against simulated machines.
package scripts
