// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Parent is the storage root key while [WithSRK] runs: what other objects of this
// TPM are made under, and what sessions are salted to.
type Parent struct {
	Handle tpm2.TPMHandle
	Public *Public
}

// Auth is the key as the parent of a command, under session. Storage root keys of the
// TCG's template have an empty authorization value.
func (p Parent) Auth(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: p.Handle, Name: tpm2.TPM2BName{Buffer: p.Public.name}, Auth: session}
}

// WithSRK runs f with the storage root key of that name, or fails with [ErrOtherTPM].
// Where name is empty it is the one at 0x81000001, made where there is none.
func WithSRK(t transport.TPM, name Name, auths Auths, f func(Parent) error) error {
	find := func() (*srk, error) { return findSRK(t, auths) }
	if len(name) > 0 {
		find = func() (*srk, error) { return srkNamed(t, name, auths) }
	}
	s, err := find()
	if err != nil {
		return err
	}
	return errors.Join(f(Parent{Handle: s.handle, Public: s.public}), s.flush(t))
}
