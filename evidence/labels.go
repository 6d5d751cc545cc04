// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
)

// Labels of the composite hashes. A label is used for one purpose only, and the
// number at its end changes whenever the list of parts behind it does.
const (
	LabelStatement = "agentd/statement/1" // leaf of the Merkle tree: statement
	LabelQuote     = "agentd/quote/1"     // qualifying data: root, size, anchor digest
	LabelBatch     = "agentd/batch/1"     // agent signature: root, size, anchor digest, TPMS_ATTEST, log head
	LabelReport    = "agentd/report/1"    // report data: root, size, agent key, AK, TPMS_ATTEST, log head
	LabelAnchor    = "agentd/anchor/1"    // anchor digest: root, size, agent key, AK, TPMS_ATTEST, log head, report
	LabelLog       = "agentd/log/1"       // log head: previous digest, record
	LabelManifest  = "agentd/manifest/1"  // application manifest: path, mode, size, digest of each entry
)

// Preimage encodes label and parts so that no two lists encode alike: the length
// in bytes of each as an unsigned 64-bit big-endian integer, then its bytes, the
// label first. A part that is absent is encoded as one of length zero.
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

// Sum256 is SHA-256 (FIPS 180-4) over [Preimage] of label and parts.
func Sum256(label string, parts ...[]byte) Digest {
	return sha256.Sum256(Preimage(label, parts...))
}

// Sum512 is SHA-512 (FIPS 180-4) over [Preimage] of label and parts.
func Sum512(label string, parts ...[]byte) [64]byte {
	return sha512.Sum512(Preimage(label, parts...))
}

// be64 is n as eight bytes, big-endian: how every integer enters a labelled hash.
func be64(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }
