// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/keys"
)

// SessionNonce is the size in bytes of nonces in sessions, the least that TPMs accept.
const SessionNonce = 16

// Primary is a primary key, the SRK or an EK, while it is in use.
type Primary struct {
	Handle    tpm2.TPMHandle
	Public    *keys.Public
	transient bool // to be flushed after use
}

// Auth returns the key as the parent of a command, under session. Storage root keys of the
// TCG's template have an empty authorization value.
func (p *Primary) Auth(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: p.Handle, Name: tpm2.TPM2BName{Buffer: p.Public.Name()}, Auth: session}
}

// Session returns an HMAC session that is salted to the key, so that an attacker who reads
// the bus cannot decrypt what the session encrypts.
func (p *Primary) Session(options ...tpm2.AuthOption) tpm2.Session {
	return tpm2.HMAC(tpm2.TPMAlgSHA256, SessionNonce, append(options, tpm2.Salted(p.Handle, p.Public.Area()))...)
}

// flush frees the slot of a transient key.
func (p *Primary) flush(t transport.TPM) error {
	if !p.transient {
		return nil
	}
	p.transient = false
	return flush(t, p.Handle)
}

func flush(t transport.TPM, h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(t); err != nil {
		return fmt.Errorf("flush handle 0x%08x: %w", uint32(h), err)
	}
	return nil
}

// createPrimary derives the key of template, and checks that the TPM made that key.
func createPrimary(t transport.TPM, hierarchy tpm2.AuthHandle, template tpm2.TPMTPublic) (*Primary, error) {
	rsp, err := tpm2.CreatePrimary{PrimaryHandle: hierarchy, InPublic: tpm2.New2B(template)}.Execute(t)
	if err != nil {
		return nil, err
	}
	public, err := madeFrom(rsp.OutPublic.Bytes(), template)
	if err != nil {
		return nil, errors.Join(err, flush(t, rsp.ObjectHandle))
	}
	return &Primary{Handle: rsp.ObjectHandle, Public: public, transient: true}, nil
}

// madeFrom parses the public area of a new key, and checks that it is of template.
func madeFrom(b []byte, template tpm2.TPMTPublic) (*keys.Public, error) {
	public, err := keys.ParsePublic(b)
	if err == nil && !tpmwire.MadeFrom(public.Area(), template) {
		err = errors.New("the TPM made another key than it was asked for")
	}
	return public, err
}

// errPublic marks a public area that this package does not accept.
var errPublic = errors.New("public area is not usable")

// readPublic reads the public area at a handle.
func readPublic(t transport.TPM, h tpm2.TPMHandle) (*keys.Public, error) {
	rsp, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	if err != nil {
		return nil, fmt.Errorf("read the public area at 0x%08x: %w", uint32(h), err)
	}
	p, err := keys.ParsePublic(rsp.OutPublic.Bytes())
	if err != nil {
		return nil, fmt.Errorf("%w at 0x%08x: %w", errPublic, uint32(h), err)
	}
	return p, nil
}

// Absent reports whether err says that nothing is at a handle. The TPM says TPM_RC_HANDLE,
// the reference code of some older ones TPM_RC_REFERENCE_H0.
func Absent(err error) bool {
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCReferenceH0)
}

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

// Places of keys and certificates by convention (TCG TPM v2.0 Provisioning
// Guidance, section 7.8; TCG EK Credential Profile, section 2.2.1).
const (
	srkHandle    = tpm2.TPMHandle(0x81000001) // SRK
	rsaEKHandle  = tpm2.TPMHandle(0x81010001) // EK, template L-1
	eccEKHandle  = tpm2.TPMHandle(0x81010002) // EK, template L-2
	rsaCertIndex = tpm2.TPMHandle(0x01c00002) // certificate of the EK of L-1
	eccCertIndex = tpm2.TPMHandle(0x01c0000a) // certificate of the EK of L-2
)

// akTemplate is the attestation key: ECDSA over SHA-256 on P-256, restricted. noDA,
// because an attacker cannot guess its authorization value of 32 random bytes, while
// without noDA any program could lock the key by failing on purpose.
var akTemplate = tpm2.TPMTPublic{
	Type:    tpm2.TPMAlgECC,
	NameAlg: tpm2.TPMAlgSHA256,
	ObjectAttributes: tpm2.TPMAObject{
		FixedTPM:            true,
		FixedParent:         true,
		SensitiveDataOrigin: true,
		UserWithAuth:        true,
		NoDA:                true,
		Restricted:          true,
		SignEncrypt:         true,
	},
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme: tpm2.TPMTECCScheme{
			Scheme:  tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		CurveID: tpm2.TPMECCNistP256,
		KDF:     tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
}
