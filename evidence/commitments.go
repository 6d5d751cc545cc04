// SPDX-License-Identifier: Apache-2.0

package evidence

// TreeHead names one Merkle tree: root and number of leaves. Every commitment
// takes both, since a root alone is also the root of other shapes of tree.
type TreeHead struct {
	Root Digest `json:"root"` // RFC 6962, section 2.1, SHA-256
	Size uint64 `json:"size"` // statements, 1 to MaxBatch
}

// LogHead names one state of the measurement log: how many records it holds and
// the digest that chains them. See [NextLogHead].
type LogHead struct {
	Count  uint64 `json:"count"`  // number of records
	Digest Digest `json:"digest"` // all zero where Count is 0
}

// Bytes is the 40-byte form that enters the commitments: count in eight bytes,
// big-endian, then the digest.
func (h LogHead) Bytes() []byte { return append(be64(h.Count), h.Digest[:]...) }

// NextLogHead is the head after record, the exact CEL-TLV bytes of one record,
// was appended to a log with head h.
func NextLogHead(h LogHead, record []byte) LogHead {
	return LogHead{Count: h.Count + 1, Digest: Sum256(LabelLog, h.Digest[:], record)}
}

// QuoteData is the qualifying data that the AK quotes for a batch: 32 bytes.
// Anchor is the anchor digest, or nil for a fresh batch.
func QuoteData(t TreeHead, anchor *Digest) Digest {
	return Sum256(LabelQuote, t.Root[:], be64(t.Size), optional(anchor))
}

// BatchMessage is what the agent key signs for a batch (Ed25519, RFC 8032, over
// these bytes as they are). Without this signature, whoever runs the vTPM or can
// open the TPM device could mint quotes with invented callers.
func BatchMessage(t TreeHead, anchor *Digest, attest []byte, head LogHead) []byte {
	return Preimage(LabelBatch, t.Root[:], be64(t.Size), optional(anchor), attest, head.Bytes())
}

// ReportData is the 64 bytes that a report carries for a snapshot: the agent key
// and AK it vouches for, and the quote, tree and log it was made for. Attest is a
// TPMS_ATTEST and ak a TPMT_PUBLIC, both exactly as the TPM produced them.
func ReportData(t TreeHead, agentKey, ak, attest []byte, head LogHead) [64]byte {
	return Sum512(LabelReport, t.Root[:], be64(t.Size), agentKey, ak, attest, head.Bytes())
}

// AnchorDigest names an anchor to the quotes that stand on it: all that its
// report commits to, and the report itself.
func AnchorDigest(t TreeHead, agentKey, ak, attest []byte, head LogHead, report []byte) Digest {
	return Sum256(LabelAnchor, t.Root[:], be64(t.Size), agentKey, ak, attest, head.Bytes(), report)
}

func optional(d *Digest) []byte {
	if d == nil {
		return nil
	}
	return d[:]
}
