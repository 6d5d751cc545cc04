// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Labels of the composite hashes, with the list of parts after each.
const (
	labelStatement = "agentd/statement/2" // leaf of the Merkle tree: statement
	labelQuote     = "agentd/quote/1"     // qualifying data: root, size, anchor digest
	labelBatch     = "agentd/batch/2"     // agent signature: root, size, anchor digest, time, TPMS_ATTEST, log head
	labelReport    = "agentd/report/2"    // report data: root, size, time, agent key, AK, TPMS_ATTEST, log head
	labelAnchor    = "agentd/anchor/2"    // anchor digest: root, size, time, agent key, AK, TPMS_ATTEST, log head, report
	labelLog       = "agentd/log/1"       // log head: previous digest, record
	labelKeyProof  = "agentd/key-proof/1" // signature by the caller's key: nonce, audience, agent key, uid, pid, start time
)

// A TreeHead names one Merkle tree by its root and its number of leaves. Every commitment
// takes both, since a root alone is also the root of trees of other shapes.
type TreeHead struct {
	Root Digest `json:"root"` // RFC 6962, section 2.1, with SHA-256
	Size uint64 `json:"size"` // statements, 1 to MaxBatch
}

// A LogHead names one state of the measurement log. See [NextLogHead].
type LogHead struct {
	Count  uint64 `json:"count"`  // records in the log
	Digest Digest `json:"digest"` // chained digest of the records; all zero if Count is 0
}

// Bytes returns the 40 bytes by which h enters the commitments: the count in eight bytes,
// big-endian, then the digest.
func (h LogHead) Bytes() []byte { return append(be64(h.Count), h.Digest[:]...) }

// NextLogHead returns the head after record was appended to a log with head h. Record is
// the exact bytes of one CEL-TLV record (docs/evidence.md, section 9).
func NextLogHead(h LogHead, record []byte) LogHead {
	return LogHead{Count: h.Count + 1, Digest: Sum256(labelLog, h.Digest[:], record)}
}

// QuoteData returns the qualifying data that the AK quotes for a batch: 32 bytes, SHA-256.
// Anchor is the anchor digest, or nil for fresh evidence (docs/evidence.md, section 6).
func QuoteData(t TreeHead, anchor *Digest) Digest {
	return Sum256(labelQuote, t.Root[:], be64(t.Size), optional(anchor))
}

// BatchMessage returns the message that the agent key signs for a batch, with Ed25519 (RFC
// 8032) over these bytes as they are. Without this signature, an attacker who runs the vTPM,
// or can open the TPM device, could mint quotes with invented callers. Anchor is the anchor
// digest, or nil for fresh evidence.
func BatchMessage(s *Snapshot, anchor *Digest) []byte {
	t := s.Tree
	return Preimage(labelBatch, t.Root[:], be64(t.Size), optional(anchor), be64(s.Time), s.Quote.Attest, s.LogHead.Bytes())
}

// ReportData returns the 64 bytes, SHA-512, that a report contains for a snapshot. They
// commit to the agent key (32 bytes, Ed25519) and the AK, and to the quote, the tree, the time
// and the log of the snapshot. Ak is a TPMT_PUBLIC, exactly as the TPM produced it.
func ReportData(s *Snapshot, agentKey, ak []byte) [64]byte {
	t := s.Tree
	return sha512.Sum512(Preimage(labelReport, t.Root[:], be64(t.Size), be64(s.Time), agentKey, ak, s.Quote.Attest, s.LogHead.Bytes()))
}

// AnchorDigest returns the digest by which later quotes name an anchor: SHA-256 over all
// that its report commits to, and over the report itself.
func AnchorDigest(s *Snapshot, agentKey, ak, report []byte) Digest {
	t := s.Tree
	return Sum256(labelAnchor, t.Root[:], be64(t.Size), be64(s.Time), agentKey, ak, s.Quote.Attest, s.LogHead.Bytes(), report)
}

// KeyProofMessage returns the message that a caller signs with the private half of its
// PublicKey, to prove that it has that key. Of s it takes nonce, audience, and the caller's
// uid, number and start time: a proof of another request, of another process, or of a process
// that had its number before, is of another message. AgentKey, 32 bytes, names the running agent:
// a machine of the same image has another one.
func KeyProofMessage(s *Statement, agentKey []byte) []byte {
	c := &s.Caller
	return Preimage(labelKeyProof, s.Nonce, []byte(s.Audience), agentKey, be64(uint64(c.UID)), be64(uint64(c.PID)), be64(c.Started))
}

func optional(d *Digest) []byte {
	if d == nil {
		return nil
	}
	return d[:]
}

// be64 returns n as eight bytes, big-endian: every integer enters a labelled hash so.
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Preimage returns the encoding of label and parts that every composite hash is taken over:
// the length in bytes of each as an unsigned 64-bit big-endian integer, then its bytes, the
// label first. An absent part is encoded as one of length zero. For the label "agentd/log/1"
// and the parts "ab" and "" it is, in hexadecimal:
//
//	000000000000000c 6167656e74642f6c6f672f31   12 bytes of label
//	0000000000000002 6162
//	0000000000000000
func Preimage(label string, parts ...[]byte) []byte {
	n := 8 + len(label)
	for _, p := range parts {
		n += 8 + len(p)
	}
	b := make([]byte, 0, n)
	b = binary.BigEndian.AppendUint64(b, uint64(len(label)))
	b = append(b, label...)
	for _, p := range parts {
		b = binary.BigEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

// Sum256 returns SHA-256 (FIPS 180-4) over [Preimage] of label and parts.
func Sum256(label string, parts ...[]byte) Digest { return sha256.Sum256(Preimage(label, parts...)) }
