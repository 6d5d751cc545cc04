// SPDX-License-Identifier: Apache-2.0

// Package evidence is the format of agentd's evidence: the types, their strict decoding, and
// the hashes that tie a platform's report, a TPM quote, a measurement log and one caller's
// statement together.
//
// The package is pure. It reads no file, opens no device and gives no verdict: what it
// decodes is unverified, and package verify judges it. docs/evidence.md is the complete
// specification, from which a verifier can be written in another language.
//
// # Shape
//
// A caller's request becomes a [Statement]. The statements of one batch are the leaves of a
// Merkle tree (RFC 6962). A [Snapshot] is one such tree with the TPM quote over it, the
// values of the quoted PCRs, and the head of the measurement log at that moment.
// The agent key signs the snapshot of the batch ([BatchMessage]). An attestation report
// names the agent key ([ReportData]), at the request of a program in the guest.
//
// Evidence is fresh if the report commits to the batch itself. It is anchored if the report
// commits to an earlier snapshot, the anchor. The quote of the batch then commits to the
// anchor by its digest ([AnchorDigest]).
//
//	statement ─ leaf ─┐
//	                  root, size ─┬─ quote ─┬─ agent signature
//	other leaves ─────┘           │         │
//	anchor digest or nothing ─────┘         │
//	log head ───────────────────────────────┴─ report data (fresh)
//
// # Hashes
//
// Every composite hash is taken over a label and a list of parts, each after its length in
// eight bytes, big-endian. Two different lists never give the same bytes, so no input collides
// with another by moving a boundary. docs/evidence.md, section 5, lists the labels.
//
// # Evolution
//
// A document names its version in its member "type". Decoders refuse members that they do not
// know, so any new member comes with a new version.
package evidence
