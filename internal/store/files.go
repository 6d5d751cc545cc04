// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/secret"
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

// blobFiles lists the files with names that blobFile makes.
func (s *Store) blobFiles() ([]string, error) {
	names, err := s.config.Files.List()
	if err != nil {
		return nil, fmt.Errorf("list the files of the store: %w", err)
	}
	return slices.DeleteFunc(names, func(name string) bool {
		h, ok := strings.CutPrefix(name, blobPrefix)
		h, ok2 := strings.CutSuffix(h, blobSuffix)
		return !ok || !ok2 || len(h) != 2*len(sealing.ID{})
	}), nil
}

// secretFile returns the file of the record of the TPM's secret of that name. The name
// begins with the two bytes of its hash algorithm.
func secretFile(name []byte) string {
	if len(name) > 2 {
		name = name[2:]
	}
	return secretPrefix + hex.EncodeToString(name[:min(16, len(name))]) + secretSuffix
}

// A TPM keeps a secret that leaves it only here, and counts only up. Package tpmroot
// implements it over TPM commands. Records are opaque bytes that the store keeps in files
// of mode 0600 or in sealed blobs. Some contain authorization values.
type TPM interface {
	// Seal makes a new random secret of 32 bytes inside this TPM's hierarchy. ID is
	// the name of the sealed object (34 bytes), which is not a secret.
	Seal(ctx context.Context) (record []byte, id []byte, s *secret.Secret, err error)

	// Name returns the name of the sealed object of a record, without asking the TPM. The
	// code is [api.CodeTPMSecretDamaged] if it has none.
	Name(record []byte) (id []byte, err error)

	// Unseal opens a record. The code is [api.CodeTPMCleared], [api.CodeOtherTPM] or
	// [api.CodeTPMSecretDamaged]; any other error says nothing about the record.
	Unseal(ctx context.Context, record []byte) (*secret.Secret, error)

	// PlanCounter draws authorization and place of a counter, and changes nothing.
	PlanCounter(ctx context.Context) (record []byte, err error)

	// DefineCounter makes the planned counter, or finds it made, and returns its value.
	DefineCounter(ctx context.Context, record []byte) (uint64, error)

	// ReadCounter returns the value. The code is [api.CodeCounterLost] if there is no such
	// counter, or if it does not accept the authorization in the record.
	ReadCounter(ctx context.Context, record []byte) (uint64, error)

	// Increment adds one and returns the new value.
	Increment(ctx context.Context, record []byte) (uint64, error)

	// RemoveCounter frees the counter's space. From then on the code for its records is
	// [api.CodeCounterLost].
	RemoveCounter(ctx context.Context, record []byte) error
}
