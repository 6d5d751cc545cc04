// SPDX-License-Identifier: Apache-2.0

package pcr

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/text"
)

// ManifestEntry is one file of an application.
type ManifestEntry struct {
	Path   string          `json:"path"`   // absolute, clean, UTF-8, at most 4096 bytes
	Mode   uint32          `json:"mode"`   // st_mode: permission and type bits (inode(7)); in JSON a decimal number
	Size   uint64          `json:"size"`   // bytes that were hashed
	Digest evidence.Digest `json:"digest"` // SHA-256 of a file's content, of a symbolic link's target
}

// File types of st_mode (inode(7)) that a manifest may contain. Other files, a FIFO or
// a device, have no content that a digest could cover.
const (
	modeType = 0o170000
	modeFile = 0o100000
	modeLink = 0o120000
)

// labelManifest is the label of the digest of a manifest: path, mode, size and digest of
// each entry.
const labelManifest = "agentd/manifest/1"

// ManifestDigest returns SHA-256 H("agentd/manifest/1", path, mode, size, digest, ...) over all
// entries in their order; mode is four bytes and size eight, big-endian.
func ManifestDigest(entries []ManifestEntry) evidence.Digest {
	h := NewManifestHash()
	for i := range entries {
		h.Add(&entries[i])
	}
	return h.Digest()
}

// A ManifestHash computes the digest of a manifest, one entry after the other: that of the root
// file system of a container would take much memory as a whole.
type ManifestHash struct{ sum hash.Hash }

// NewManifestHash returns the hash of a manifest without entries.
func NewManifestHash() *ManifestHash {
	h := &ManifestHash{sum: sha256.New()}
	h.part([]byte(labelManifest))
	return h
}

// Add adds the next entry. The caller gives them ascending by the bytes of the path, each once.
func (h *ManifestHash) Add(e *ManifestEntry) {
	h.part([]byte(e.Path))
	h.part(binary.BigEndian.AppendUint32(nil, e.Mode))
	h.part(binary.BigEndian.AppendUint64(nil, e.Size))
	h.part(e.Digest[:])
}

// Digest returns the digest of the entries so far.
func (h *ManifestHash) Digest() evidence.Digest { return evidence.Digest(h.sum.Sum(nil)) }

// part adds one part as evidence.Preimage does: its length in eight bytes, and its bytes.
func (h *ManifestHash) part(b []byte) {
	h.sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
	h.sum.Write(b)
}

// checkManifest reports the first entry that is not allowed: at least one and at most
// MaxManifest entries, ascending by the bytes of the path, regular files and symbolic
// links only. The text of the error begins with the position, as in "[3]: ...".
func checkManifest(entries []ManifestEntry) error {
	if len(entries) == 0 || len(entries) > MaxManifest {
		return fmt.Errorf(" has %d entries, want 1 to %d", len(entries), MaxManifest)
	}
	for i := range entries {
		e := &entries[i]
		if err := text.Check("path", e.Path, 1, evidence.MaxPath); err != nil {
			return fmt.Errorf("[%d]: %w", i, err)
		}
		if e.Path[0] != '/' {
			return fmt.Errorf("[%d]: path %q is not absolute", i, e.Path)
		}
		if i > 0 && e.Path <= entries[i-1].Path {
			return fmt.Errorf("[%d]: path %q is not in ascending order", i, e.Path)
		}
		if e.Size > 1<<53-1 { // no reader accepts more, see docs/evidence.md, section 2
			return fmt.Errorf("[%d]: %q has %d bytes, want at most 2^53 - 1", i, e.Path, e.Size)
		}
		if t := e.Mode & modeType; t != modeFile && t != modeLink {
			return fmt.Errorf("[%d]: %s has mode %#o, want a regular file or a symbolic link", i, e.Path, e.Mode)
		}
	}
	return nil
}

// Executable reports whether the entry is a regular file that some user may execute. The
// executable of a caller is covered only by such an entry.
func (e *ManifestEntry) Executable() bool { return e.Mode&modeType == modeFile && e.Mode&0o111 != 0 }
