// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// srk is the storage root key while it is in use.
type srk struct {
	handle    tpm2.TPMHandle
	public    *Public
	transient bool // to be flushed after use
}

// flush frees the slot of a transient key.
func (s *srk) flush(t transport.TPM) error {
	if !s.transient {
		return nil
	}
	s.transient = false
	return flush(t, s.handle)
}

func flush(t transport.TPM, h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(t); err != nil {
		return fmt.Errorf("flush handle 0x%08x: %w", uint32(h), err)
	}
	return nil
}

// findSRK finds the storage root key or makes it. The key at 0x81000001 is taken
// where it is a storage key that never leaves this TPM. Where there is none, the
// ECC P-256 key of the TCG's template is made and kept there. Where something else
// is there, or there is no room, the same key is derived each time and not kept: it
// comes from the owner seed and is the same until TPM2_Clear.
func findSRK(t transport.TPM, auths Auths) (*srk, error) {
	public, err := readPublic(t, srkHandle)
	switch {
	case err == nil && storage(public):
		return &srk{handle: srkHandle, public: public}, nil
	case err == nil, errors.Is(err, errPublic):
		return primarySRK(t, auths)
	case !absent(err):
		return nil, fmt.Errorf("find the storage root key: %w", err)
	}
	s, err := primarySRK(t, auths)
	if err != nil {
		return nil, err
	}
	_, err = tpm2.EvictControl{
		Auth:             auths.owner(),
		ObjectHandle:     tpm2.NamedHandle{Handle: s.handle, Name: tpm2.TPM2BName{Buffer: s.public.name}},
		PersistentHandle: srkHandle,
	}.Execute(t)
	switch {
	case errors.Is(err, tpm2.TPMRCNVSpace), errors.Is(err, tpm2.TPMRCNVDefined):
		return s, nil // no room, or somebody was faster: derived each time
	case err != nil:
		err = fmt.Errorf("keep the storage root key at 0x%08x: %w", uint32(srkHandle), auths.ownerError(err))
		return nil, errors.Join(err, s.flush(t))
	}
	if err := s.flush(t); err != nil {
		return nil, err
	}
	return &srk{handle: srkHandle, public: s.public}, nil
}

// srkNamed finds the storage root key of that name, or fails with [ErrOtherTPM].
func srkNamed(t transport.TPM, name Name, auths Auths) (*srk, error) {
	public, err := readPublic(t, srkHandle)
	switch {
	case err == nil && public.name.Equal(name):
		return &srk{handle: srkHandle, public: public}, nil
	case err == nil, errors.Is(err, errPublic), absent(err):
	default:
		return nil, fmt.Errorf("find the storage root key: %w", err)
	}
	s, err := primarySRK(t, auths)
	if err != nil {
		return nil, err
	}
	if !s.public.name.Equal(name) {
		err := fmt.Errorf("%w: the storage root key here is %s, the attestation key was made under %s", ErrOtherTPM, s.public.name, name)
		return nil, errors.Join(err, s.flush(t))
	}
	return s, nil
}

// primarySRK derives the key of the TCG's ECC P-256 template.
func primarySRK(t transport.TPM, auths Auths) (*srk, error) {
	h, public, err := createPrimary(t, auths.owner(), tpm2.ECCSRKTemplate)
	if err != nil {
		return nil, fmt.Errorf("make the storage root key: %w", auths.ownerError(err))
	}
	return &srk{handle: h, public: public, transient: true}, nil
}

func createPrimary(t transport.TPM, hierarchy tpm2.AuthHandle, template tpm2.TPMTPublic) (tpm2.TPMHandle, *Public, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return 0, nil, err
	}
	public, err := ParsePublic(rsp.OutPublic.Bytes())
	if err == nil && !fits(public.area, template) {
		err = errors.New("the TPM made another key than it was asked for")
	}
	if err != nil {
		return 0, nil, errors.Join(err, flush(t, rsp.ObjectHandle))
	}
	return rsp.ObjectHandle, public, nil
}

// storage reports whether p can be the parent of keys that never leave this TPM.
func storage(p *Public) bool {
	a := p.area.ObjectAttributes
	return resident(a) == nil && a.Restricted && a.Decrypt && !a.SignEncrypt && a.UserWithAuth
}

// readPublic reads the public area at a handle.
func readPublic(t transport.TPM, h tpm2.TPMHandle) (*Public, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read the public area at 0x%08x: %w", uint32(h), err)
	}
	p, err := ParsePublic(rsp.OutPublic.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w at 0x%08x: %w", errPublic, uint32(h), err)
	}
	return p, nil
}

// errPublic marks a public area that this package does not take.
var errPublic = errors.New("public area is not usable")

// absent reports whether nothing is at a handle. The TPM says TPM_RC_HANDLE, the
// reference code of some older ones TPM_RC_REFERENCE_H0.
func absent(err error) bool {
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCReferenceH0)
}

// auth is the key as the parent of a command. Storage root keys of the TCG's template
// have an empty authorization value.
func (s *srk) auth(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: s.handle, Name: tpm2.TPM2BName{Buffer: s.public.name}, Auth: session}
}
