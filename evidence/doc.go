// SPDX-License-Identifier: Apache-2.0

// Package evidence is the format of agentd's evidence: the types, their strict
// decoding, the labelled hashes, and the commitments that tie an SNP report, a
// TPM quote, a measurement log and one caller's statement together.
//
// The package is pure. It reads no file, opens no device and gives no verdict;
// package verify does that. The complete specification, from which a verifier
// can be written in another language, is docs/evidence.md.
//
// # Shape
//
// A caller's request becomes a [Statement]. The statements of one batch are the
// leaves of a Merkle tree (RFC 6962). A [Snapshot] is one such tree together with
// the TPM quote over it, the PCR values that the quote selects and the head of the
// measurement log at that moment. The agent key signs the snapshot of the batch
// ([BatchMessage]); an attestation report vouches for the agent key ([ReportData]).
//
// Evidence is fresh when the report commits to the batch itself, and anchored
// when it commits to an earlier snapshot, the anchor, which the quote of the batch
// then commits to by its digest ([AnchorDigest]).
//
//	statement ─ leaf ─┐
//	                  root, size ─┬─ quote ─┬─ agent signature
//	other leaves ─────┘           │         │
//	anchor digest or nothing ─────┘         │
//	log head ───────────────────────────────┴─ report data (fresh)
//
// # Labelled hashes
//
// Every composite hash is taken over [Preimage], which prefixes the label and
// each part with its length in eight bytes, big-endian. Two different lists of
// parts never give the same bytes, so that no input collides with another by
// moving a boundary. The labels are listed in labels.go.
//
// # Evolution
//
// A document names its version in its member "type". Decoders refuse members
// that they do not know, so any new member comes with a new version.
package evidence
