// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"

	"github.com/cvm-agentd/agentd/internal/secret"
)

// A TPM keeps a secret that leaves it only here, and counts only up. Package tpmroot
// implements it over TPM commands. Records are opaque bytes that the store keeps in files
// of mode 0600 or in sealed blobs. Some contain authorization values.
type TPM interface {
	// Seal makes a new random secret of 32 bytes inside this TPM's hierarchy. ID is
	// the name of the sealed object (34 bytes), which is not a secret.
	Seal(ctx context.Context) (record []byte, id []byte, s *secret.Secret, err error)

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
