// SPDX-License-Identifier: Apache-2.0

// Package agent is the service: [Run] builds its parts, connects them, runs them until it is
// told to end, and stops them. The command that is installed and the one for development
// differ only in the [Machine] that they pass; this package knows no simulator.
//
// # Who calls whom
//
// The server answers requests by calling the parts, each of which is a package below
// internal: attest makes evidence, from quotes of vtpm, reports of the platform and the
// ledger; apps measures applications into the ledger; enrol shows, activates and replaces
// the attestation key; vault answers for sealed blobs; status reads all of them. startup
// brings up what they need. No part calls the server or this package.
//
// # Who owns which state
//
//	identity   the agent key, in memory; the digests of executable and configuration
//	startup    what is up, and why the rest is not
//	enrol      the attestation key, ak.json in the state folder
//	ledger     the measurement log, the PCR, ledger.json in the state folder
//	apps       the declarations in force, and what was measured by them
//	attest     the callers that wait for evidence, and the anchor
//	reports    the report device, and the certificates stapled to its reports
//	vault      the store of sealed blobs, the folder sealed in the state folder
//
// Each guards its state with a lock of its own. A daemon has no lock: its fields are
// written before the first goroutine starts.
//
// # Start
//
// The sockets exist first, so that callers that connect early wait instead of being turned
// away. Then the parts are brought up. A mistake that only a person can repair (a bad
// configuration, a PCR that cannot contain a log, a second daemon) ends the start with an
// error. What may come later (no TPM yet, a TPM that hangs, a full disk) does not: the
// status says what is missing, requests that need it are refused with the same reason, and
// the agent keeps trying. So a machine without a TPM or report device has a running agent
// that says so, and no crash loop.
//
// # Stop and crash
//
// Requests that reached the agent are answered before it ends. A crash needs no repair: the
// measurement log is complete on disk after every event, the key file and the store replace
// files atomically, and all else is in memory and made anew by the next start.
package agent
