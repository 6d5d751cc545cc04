// SPDX-License-Identifier: Apache-2.0

package store

import (
	"encoding/hex"
	"strings"

	"github.com/cvm-agentd/agentd/sealing"
)

// Files is one private directory, locked for this process, with mode 0600 on every
// file. A name is 1 to 100 bytes of [a-z0-9.-].
type Files interface {
	// Read returns a file of at most limit bytes. The error is fs.ErrNotExist if absent.
	Read(name string, limit int64) ([]byte, error)
	// WriteDurable gives a file new content. A reader finds the old content or the new,
	// also after a crash. When it returns nil, the new content is on disk. After an error
	// either may be there.
	WriteDurable(name string, b []byte) error
	// List returns the names of all files, in any order.
	List() ([]string, error)
	// Remove deletes a file that the store itself has replaced.
	Remove(name string) error
}

// Names in the directory of a store.
const (
	manifestFile = "manifest.sealed"
	plannedFile  = "counter.planned"
	blobPrefix   = "blob-"      // id in hexadecimal, then blobSuffix
	blobSuffix   = ".sealed"    //
	secretPrefix = "tpmsecret-" // first 16 bytes of the digest in the object's name, then secretSuffix
	secretSuffix = ".tpm"
)

func blobFile(id sealing.ID) string { return blobPrefix + hex.EncodeToString(id[:]) + blobSuffix }

// isBlobFile reports whether name is one that blobFile makes.
func isBlobFile(name string) bool {
	h, ok := strings.CutPrefix(name, blobPrefix)
	h, ok2 := strings.CutSuffix(h, blobSuffix)
	return ok && ok2 && len(h) == 2*len(sealing.ID{})
}

// secretFile returns the file of the record of the TPM's secret of that name. The name
// begins with the two bytes of its hash algorithm.
func secretFile(name []byte) string {
	if len(name) > 2 {
		name = name[2:]
	}
	return secretPrefix + hex.EncodeToString(name[:min(16, len(name))]) + secretSuffix
}
