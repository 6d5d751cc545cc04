// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// A TPM keeps a secret that leaves it only here, and counts up only. Package tpmroot
// has the one over real commands. Records are opaque bytes that the store keeps in
// files of mode 0600 or inside sealed blobs; some hold authorization values.
type TPM interface {
	// Seal makes a new random secret of 32 bytes inside this TPM's hierarchy. ID is
	// the name of the sealed object (34 bytes), which is no secret.
	Seal(ctx context.Context) (record []byte, id []byte, s *secret.Secret, err error)

	// Unseal opens a record. Errors: [TPMCleared], [OtherTPM], [TPMSecretDamaged];
	// everything else says nothing about the record.
	Unseal(ctx context.Context, record []byte) (*secret.Secret, error)

	// PlanCounter draws authorization and place of a counter, and changes nothing.
	PlanCounter(ctx context.Context) (record []byte, err error)

	// DefineCounter makes the planned counter, or finds it made, and returns its value.
	DefineCounter(ctx context.Context, record []byte) (uint64, error)

	// ReadCounter returns the value. The error is [CounterLost] where there is no
	// such counter or it does not take the authorization in the record.
	ReadCounter(ctx context.Context, record []byte) (uint64, error)

	// Increment adds one and returns the new value.
	Increment(ctx context.Context, record []byte) (uint64, error)

	// RemoveCounter gives the counter's space back. Records of it are [CounterLost]
	// from then on.
	RemoveCounter(ctx context.Context, record []byte) error
}
