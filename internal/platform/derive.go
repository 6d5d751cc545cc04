// SPDX-License-Identifier: Apache-2.0

package platform

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
)

// A KeyDeriver is a platform whose firmware derives keys for this guest on this chip.
type KeyDeriver interface {
	// DeriveKey asks for the key of the request. It waits its turn in the same
	// queue as reports.
	DeriveKey(ctx context.Context, r KeyRequest) (DerivedKey, error)
}

// KeyRequest says which derived key is meant. Everything that keeps the key from
// others is no choice and so has no field: the root is the chip's own key, and
// launch measurement, guest policy, TCB version and VM privilege level are always
// mixed in. Without guest policy a host could launch the same image with debugging
// and read the key; without the TCB an older, broken firmware could derive it; under
// another root it would be a cloud's key and not the chip's.
type KeyRequest struct {
	// TCB is the TCB_VERSION to mix in, as it stands in a report: the committed
	// one, or an older one to open what was sealed before an upgrade. Firmware
	// older than it cannot derive the key. Zero is refused: any firmware could.
	TCB uint64
}

// Errors of key derivation, beside those of reports.
var (
	// ErrZeroKey: the firmware answered with an all-zero key, which everybody knows.
	ErrZeroKey = errors.New("derived key is all zero")
	// ErrTCBZero: the request would let any firmware derive the key.
	ErrTCBZero = errors.New("derived key request without a TCB version")
)

// DerivedKey is a secret of 32 bytes. It prints as a placeholder and has no
// encoding, so that it cannot end in a log or a document by accident.
type DerivedKey struct {
	secret [32]byte
}

// NewDerivedKey takes the 32 bytes that a firmware answered, and refuses the
// all-zero key with [ErrZeroKey]: firmware was seen to answer so when asked for a
// TCB that it does not have.
func NewDerivedKey(b []byte) (DerivedKey, error) {
	if len(b) != len(DerivedKey{}.secret) {
		return DerivedKey{}, fmt.Errorf("derived key of %d bytes, want %d: %w", len(b), len(DerivedKey{}.secret), ErrMalformed)
	}
	var zero [32]byte
	if subtle.ConstantTimeCompare(b, zero[:]) == 1 {
		return DerivedKey{}, ErrZeroKey
	}
	return DerivedKey{[32]byte(b)}, nil
}

// Secret is a copy of the key, for a key derivation function. Clear it after use.
func (k DerivedKey) Secret() []byte { return append([]byte(nil), k.secret[:]...) }

// Equal compares in constant time.
func (k DerivedKey) Equal(other DerivedKey) bool {
	return subtle.ConstantTimeCompare(k.secret[:], other.secret[:]) == 1
}

// Format prints a placeholder under every verb.
func (k DerivedKey) Format(s fmt.State, _ rune) { fmt.Fprint(s, "[derived key]") }

// MarshalText refuses.
func (k DerivedKey) MarshalText() ([]byte, error) {
	return nil, errors.New("a derived key has no encoding")
}
