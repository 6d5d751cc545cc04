// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm"
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
		return nil, withoutECC(t, template, err)
	}
	public, err := madeFrom(rsp.OutPublic.Bytes(), template)
	if err != nil {
		return nil, errors.Join(err, flush(t, rsp.ObjectHandle))
	}
	return &Primary{Handle: rsp.ObjectHandle, Public: public, transient: true}, nil
}

// CheckECC asks whether the TPM has the curve NIST P-256 (TPM_CAP_ECC_CURVES, TPM 2.0 Part 3,
// section 30.2), on which the storage root key and the attestation key are.
func CheckECC(t transport.TPM) error {
	rsp, err := tpm2.GetCapability{Capability: tpm2.TPMCapECCCurves, PropertyCount: maxCurves}.Execute(t)
	if err != nil {
		return fmt.Errorf("list the TPM's curves: %w", err)
	}
	curves, err := rsp.CapabilityData.Data.ECCCurves()
	if err != nil {
		return fmt.Errorf("list the TPM's curves: %w", err)
	}
	if slices.Contains(curves.ECCCurves, tpm2.TPMECCNistP256) {
		return nil
	}
	return &tpm.StateError{
		Kind: tpm.ErrRefuses, Cause: "the TPM has no elliptic curve NIST P-256, which the agent's keys are on",
		Todo: "give the machine a TPM with ECC (`tpm2_getcap ecc-curves` lists the curves of this one)",
	}
}

// maxCurves caps the curves that a TPM may list; the registry of the TCG has about ten.
const maxCurves = 64

// withoutECC returns err, or that the TPM has no ECC if the key was to be of ECC.
func withoutECC(t transport.TPM, template tpm2.TPMTPublic, err error) error {
	if template.Type != tpm2.TPMAlgECC || Refused(err) {
		return err
	}
	if missing, ok := errors.AsType[*tpm.StateError](CheckECC(t)); ok {
		missing.Err = err
		return missing
	}
	return err
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

// Absent reports whether err says that nothing is at a handle. The TPM says TPM_RC_HANDLE, or of a
// transient object TPM_RC_REFERENCE_H0 and TPM_RC_REFERENCE_H1: the first and second handle.
func Absent(err error) bool {
	return errors.Is(err, tpm2.TPMRCHandle) || errors.Is(err, tpm2.TPMRCReferenceH0) || errors.Is(err, tpm2.TPMRCReferenceH1)
}

// ErrParent means that the storage root key of a stored key is at its place and refuses the
// empty authorization value, and that deriving gives another key. Trying again helps nothing,
// and can lock the TPM: see srk.
var ErrParent = errors.New("the storage root key has got an authorization value")

// WithSRK runs f with the storage root key of that name, or fails with [ErrOtherTPM]. If name
// is empty, it is the key at 0x81000001, which is made if it is absent.
//
// Another program may have given the key at 0x81000001 an authorization value. Then WithSRK
// runs f again with the key derived: from the template of the TCG that is the same key
// without the value. A refusal of the owner hierarchy is not one of the key.
func WithSRK(t transport.TPM, name keys.Name, auths Auths, f func(*Primary) error) error {
	p, err := srk(t, name, auths)
	if err != nil {
		return err
	}
	err = f(p)
	if _, owner := errors.AsType[*AuthError](err); p.transient || owner || !Refused(err) {
		return errors.Join(err, p.flush(t))
	}
	derived, made := primarySRK(t, auths)
	if made != nil {
		return made
	}
	if len(name) > 0 && !derived.Public.Name().Equal(name) {
		err := fmt.Errorf("%w: the one at 0x%08x is %s: remove the value, or have root accept new keys: %w", ErrParent, uint32(srkHandle), name, err)
		return errors.Join(err, derived.flush(t))
	}
	return errors.Join(f(derived), derived.flush(t))
}

// TryParent checks that keys can be made under the storage root key: it makes one, and does
// not keep it, nor the storage root key if there is none.
func TryParent(t transport.TPM, auths Auths) error {
	use := func(p *Primary) error {
		_, err := createUnder(t, p, akTemplate)
		return err
	}
	if _, err := readPublic(t, srkHandle); !Absent(err) {
		return WithSRK(t, nil, auths, use)
	}
	p, err := primarySRK(t, auths)
	if err != nil {
		return err
	}
	return errors.Join(use(p), p.flush(t))
}

// srk finds the storage root key of a name, or the one to make keys under if name is empty.
//
// The latter is the key at 0x81000001, if that is a storage key that never leaves this TPM and
// to try it costs nothing. A key with dictionary attack protection that has got an
// authorization value counts each try as an attack, up to a lockout of the whole TPM. In its
// place srk derives the ECC P-256 key of the TCG's template: it comes from the owner seed and
// is the same until TPM2_Clear.
func srk(t transport.TPM, name keys.Name, auths Auths) (*Primary, error) {
	public, err := readPublic(t, srkHandle)
	found := err == nil
	switch {
	case found && len(name) > 0 && public.Name().Equal(name), found && len(name) == 0 && storage(public):
		return &Primary{Handle: srkHandle, Public: public}, nil
	case !found && !errors.Is(err, errPublic) && !Absent(err):
		return nil, fmt.Errorf("find the storage root key: %w", err)
	}
	empty := Absent(err)
	s, err := primarySRK(t, auths)
	switch {
	case err != nil:
		return nil, err
	case len(name) == 0 && empty:
		return keepSRK(t, s, auths)
	case len(name) > 0 && !s.Public.Name().Equal(name):
		err := fmt.Errorf("%w: the storage root key here is %s, the stored key was made under %s", ErrOtherTPM, s.Public.Name(), name)
		return nil, errors.Join(err, s.flush(t))
	}
	return s, nil
}

// keepSRK keeps s at 0x81000001, which is free. If the TPM has no room, s is derived each
// time.
func keepSRK(t transport.TPM, s *Primary, auths Auths) (*Primary, error) {
	_, err := tpm2.EvictControl{
		Auth:             auths.Owned(),
		ObjectHandle:     tpm2.NamedHandle{Handle: s.Handle, Name: tpm2.TPM2BName{Buffer: s.Public.Name()}},
		PersistentHandle: srkHandle,
	}.Execute(t)
	switch {
	case errors.Is(err, tpm2.TPMRCNVSpace), errors.Is(err, tpm2.TPMRCNVDefined):
		return s, nil // no room, or another program was faster
	case err != nil:
		err = fmt.Errorf("keep the storage root key at 0x%08x: %w", uint32(srkHandle), auths.OwnerError(err))
		return nil, errors.Join(err, s.flush(t))
	}
	if err := s.flush(t); err != nil {
		return nil, err
	}
	return &Primary{Handle: srkHandle, Public: s.Public}, nil
}

// primarySRK derives the key of the TCG's ECC P-256 template.
func primarySRK(t transport.TPM, auths Auths) (*Primary, error) {
	s, err := createPrimary(t, auths.Owned(), tpm2.ECCSRKTemplate)
	if err != nil {
		return nil, fmt.Errorf("make the storage root key: %w", auths.OwnerError(err))
	}
	return s, nil
}

// storage reports whether p can be the parent of keys that never leave this TPM, and whether
// it can be tried without being counted as an attack.
func storage(p *keys.Public) bool {
	a := p.Area().ObjectAttributes
	return a.FixedTPM && a.FixedParent && a.SensitiveDataOrigin && !a.EncryptedDuplication &&
		a.Restricted && a.Decrypt && !a.SignEncrypt && a.UserWithAuth && a.NoDA
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

// akRSATemplate is the attestation key of RSA: RSASSA over SHA-256, 2,048 bits.
var akRSATemplate = tpm2.TPMTPublic{
	Type:             tpm2.TPMAlgRSA,
	NameAlg:          tpm2.TPMAlgSHA256,
	ObjectAttributes: akTemplate.ObjectAttributes,
	Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
		Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme: tpm2.TPMTRSAScheme{
			Scheme:  tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
		},
		KeyBits: 2048,
	}),
	Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{}),
}
