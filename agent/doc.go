// SPDX-License-Identifier: Apache-2.0

// Package agent puts the agent together: configuration, TPM, platform, ledger,
// applications, attester and sockets, in the order in which they need each other.
// The command that is installed and the one for development differ only in the
// [Machine] that they hand over; this package knows of no simulator.
//
// # Start
//
// The sockets exist first, so that nobody who connects early is turned away. Then
// the parts are brought up. What cannot change without a hand on the machine (a bad
// configuration, a PCR that cannot hold a log, a second daemon) ends the start with
// an error. What may come later (no TPM yet, a TPM that hangs, a full disk) does
// not: the daemon says in its status what is missing, refuses what needs it with
// the same reason, and keeps trying. A machine without a TPM or report device
// therefore has a running agent that says so, and no crash loop.
//
// # Stop
//
// Requests that reached the agent are answered before it ends. The measurement log
// needs no stop: it is complete on disk after every event.
package agent
