// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/keys"
)

// WithSRK runs f with the storage root key of that name, or fails with [ErrOtherTPM]. If
// name is empty, it is the key at 0x81000001, which is made if it is absent.
func WithSRK(t transport.TPM, name keys.Name, auths Auths, f func(*Primary) error) error {
	find := func() (*Primary, error) { return findSRK(t, auths) }
	if len(name) > 0 {
		find = func() (*Primary, error) { return srkNamed(t, name, auths) }
	}
	s, err := find()
	if err != nil {
		return err
	}
	return errors.Join(f(s), s.flush(t))
}

// withParent runs f as [WithSRK] does. If another program gave the key at 0x81000001 an
// authorization value, it runs f again with the key derived: that is the same key without
// the value.
func withParent(t transport.TPM, name keys.Name, auths Auths, f func(*Primary) error) error {
	return WithSRK(t, name, auths, func(p *Primary) error {
		err := f(p)
		if !Refused(err) || p.transient {
			return err
		}
		derived, err := primarySRK(t, auths)
		if err != nil {
			return err
		}
		return errors.Join(f(derived), derived.flush(t))
	})
}

// findSRK finds the storage root key or makes it. It uses the key at 0x81000001 if that
// is a storage key that never leaves this TPM. If no key is there, it makes the ECC P-256
// key of the TCG's template and keeps it there. If something else is there, or the TPM has
// no room, it derives the same key each time and does not keep it: the key comes from the
// owner seed and is the same until TPM2_Clear.
func findSRK(t transport.TPM, auths Auths) (*Primary, error) {
	public, err := readPublic(t, srkHandle)
	switch {
	case err == nil && storage(public):
		return &Primary{Handle: srkHandle, Public: public}, nil
	case err == nil, errors.Is(err, errPublic):
		return primarySRK(t, auths)
	case !Absent(err):
		return nil, fmt.Errorf("find the storage root key: %w", err)
	}
	s, err := primarySRK(t, auths)
	if err != nil {
		return nil, err
	}
	_, err = tpm2.EvictControl{
		Auth:             auths.Owned(),
		ObjectHandle:     tpm2.NamedHandle{Handle: s.Handle, Name: tpm2.TPM2BName{Buffer: s.Public.Name()}},
		PersistentHandle: srkHandle,
	}.Execute(t)
	switch {
	case errors.Is(err, tpm2.TPMRCNVSpace), errors.Is(err, tpm2.TPMRCNVDefined):
		return s, nil // no room, or another program was faster: derived each time
	case err != nil:
		err = fmt.Errorf("keep the storage root key at 0x%08x: %w", uint32(srkHandle), auths.OwnerError(err))
		return nil, errors.Join(err, s.flush(t))
	}
	if err := s.flush(t); err != nil {
		return nil, err
	}
	return &Primary{Handle: srkHandle, Public: s.Public}, nil
}

// srkNamed finds the storage root key of that name, or fails with [ErrOtherTPM].
func srkNamed(t transport.TPM, name keys.Name, auths Auths) (*Primary, error) {
	public, err := readPublic(t, srkHandle)
	switch {
	case err == nil && public.Name().Equal(name):
		return &Primary{Handle: srkHandle, Public: public}, nil
	case err == nil, errors.Is(err, errPublic), Absent(err):
	default:
		return nil, fmt.Errorf("find the storage root key: %w", err)
	}
	s, err := primarySRK(t, auths)
	if err != nil {
		return nil, err
	}
	if !s.Public.Name().Equal(name) {
		err := fmt.Errorf("%w: the storage root key here is %s, the attestation key was made under %s", ErrOtherTPM, s.Public.Name(), name)
		return nil, errors.Join(err, s.flush(t))
	}
	return s, nil
}

// primarySRK derives the key of the TCG's ECC P-256 template.
func primarySRK(t transport.TPM, auths Auths) (*Primary, error) {
	s, err := createPrimary(t, auths.Owned(), tpm2.ECCSRKTemplate)
	if err != nil {
		return nil, fmt.Errorf("make the storage root key: %w", auths.OwnerError(err))
	}
	return s, nil
}

// storage reports whether p can be the parent of keys that never leave this TPM.
func storage(p *keys.Public) bool {
	a := p.Area().ObjectAttributes
	return a.FixedTPM && a.FixedParent && a.SensitiveDataOrigin && !a.EncryptedDuplication &&
		a.Restricted && a.Decrypt && !a.SignEncrypt && a.UserWithAuth
}
