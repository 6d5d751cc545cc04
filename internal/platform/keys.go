// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/secret"
	"github.com/cvm-agentd/agentd/sealing"
)

// Keys are the keys that a platform's firmware derives for this guest on this chip. Nothing
// but the TCB version can be chosen: the root is the chip's own key, and launch measurement,
// guest policy, TCB version and privilege level are always mixed in. Without the guest policy
// a host could launch the same image with debugging and read the key; without the TCB an
// older, broken firmware could derive it; under another root it would be a cloud's key and
// not the chip's.
type Keys interface {
	// Reading asks for what goes into a key that is derived now. It is unverified, and used
	// to explain, never to decide who gets a key: a key that was derived for other values
	// is another key.
	Reading(ctx context.Context) (sealing.Reading, error)

	// DeriveKey asks for the key under a TCB version: the committed one, or an older one to
	// open what was sealed before an upgrade. Firmware older than it cannot derive the key.
	// Zero is refused with [ErrTCBZero]. The request waits in the same queue as reports. The
	// caller wipes the key.
	DeriveKey(ctx context.Context, tcb sealing.TCB) (*secret.Secret, error)

	// Vary tries what else the keys depend on, on the machine of that reading, and returns
	// nothing if that cannot be tried. Requests are scarce on some hosts: it makes about ten.
	Vary(ctx context.Context, now sealing.Reading) ([]Finding, error)
}

// Errors of key derivation, besides those of reports.
var (
	// ErrZeroKey is returned if the firmware answered with an all-zero key, which every
	// attacker knows. Firmware was seen to do so when asked for a TCB that it does not have.
	ErrZeroKey = errors.New("derived key is all zero")
	// ErrTCBZero is returned for a request that would let any firmware derive the key.
	ErrTCBZero = errors.New("derived key request without a TCB version")
)

// TakeKey moves a key that a firmware answered into a secret, and overwrites b. It refuses an
// all-zero key with [ErrZeroKey] and another size than 32 bytes with [ErrMalformed].
func TakeKey(b []byte) (*secret.Secret, error) {
	defer clear(b)
	if len(b) != sealing.KeySize {
		return nil, fmt.Errorf("derived key of %d bytes, want %d: %w", len(b), sealing.KeySize, ErrMalformed)
	}
	k, err := secret.Take(b)
	if err != nil {
		return nil, err
	}
	if k.IsZero() {
		k.Wipe()
		return nil, ErrZeroKey
	}
	return k, nil
}
