// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// MaxCertificationData is the most bytes of data that a certification is asked for over: what
// TPMs of all kinds accept as qualifying data.
const MaxCertificationData = 64

// maxAttest caps TPMS_ATTEST and TPMT_SIGNATURE. The largest in use, under RSA 4096, has 518 bytes.
const maxAttest = 2 << 10

// ErrCertification is returned for a certification that does not say of a key what it must.
var ErrCertification = errors.New("not a certification of this key by this attestation key over this data")

// A Certification is a TPM's word about a key in it, signed by an attestation key of the same TPM
// (TPM2_Certify, TPM 2.0 Part 3, section 18.2). The agent answers POST /v1/keys/certify with it.
//
// It says that the TPM had both keys loaded when it signed, and that the TPM made the certified key
// and never gives it out. It does not say who uses the key, or which program asked: the caller who
// asks chooses the data, so that the data prove only that the answer is new.
type Certification struct {
	Public    []byte // TPMT_PUBLIC of the certified key, at most 1,024 bytes
	Attest    []byte // TPMS_ATTEST, as it was signed
	Signature []byte // TPMT_SIGNATURE by the attestation key over Attest
}

// Check checks the certification, and returns the certified key. Ak is the TPMT_PUBLIC of an
// attestation key that the caller trusts, by an enrolment, evidence or a certificate: Check does not
// say whose it is. Data is what the certification was asked for over, 1 to 64 bytes; a caller that
// chose it at random knows that the certification is new. Every error is [ErrCertification].
//
// The key must be a signing key of P-256, P-384 or RSA, made in the TPM (sensitiveDataOrigin), that
// stays there (fixedTPM, fixedParent). It must not be restricted: a restricted key signs what the
// TPM says, so a certificate for it would let the key's user attest in the name of the certificate.
func (c Certification) Check(ak, data []byte) (*Public, error) {
	p, err := c.check(ak, data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertification, err)
	}
	return p, nil
}

func (c Certification) check(ak, data []byte) (*Public, error) {
	if len(data) < 1 || len(data) > MaxCertificationData {
		return nil, fmt.Errorf("data of %d bytes, want 1 to %d", len(data), MaxCertificationData)
	}
	if len(c.Attest) > maxAttest || len(c.Signature) > maxAttest {
		return nil, fmt.Errorf("TPMS_ATTEST of %d bytes and signature of %d, want at most %d each", len(c.Attest), len(c.Signature), maxAttest)
	}
	if err := c.checkSignature(ak); err != nil {
		return nil, err
	}
	at, err := tpmwire.ParseCertify(c.Attest)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(at.ExtraData, data) {
		return nil, errors.New("its data are others: it is old, or made for another request")
	}
	p, err := ParsePublic(c.Public)
	if err != nil {
		return nil, err
	}
	if !p.Name().Equal(at.Name) {
		return nil, fmt.Errorf("it is about the object %x, and the public area is of %s", at.Name, p.Name())
	}
	return p, p.checkCertified()
}

// checkSignature checks that the attestation key signed the attestation, and can attest at all.
func (c Certification) checkSignature(ak []byte) error {
	signer, err := ParsePublic(ak)
	if err != nil {
		return fmt.Errorf("attestation key: %w", err)
	}
	if err := signer.CheckAttestation(); err != nil {
		return err
	}
	key, err := tpmwire.SigningKey(&signer.area, signer.bytes)
	if err != nil {
		return fmt.Errorf("attestation key %s: %w", signer.name, err)
	}
	sig, err := key.ParseSignature(c.Signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if !key.Verify(c.Attest, sig) {
		return fmt.Errorf("the attestation key %s did not sign it", signer.name)
	}
	return nil
}

// checkCertified reports why p is not a signing key that was made in its TPM and stays there.
func (p *Public) checkCertified() error {
	a := p.area.ObjectAttributes
	if err := p.fault("certified key", []fault{
		{!a.FixedTPM, "not fixedTPM: its private key can be moved elsewhere"},
		{!a.FixedParent, "not fixedParent: its private key can be moved elsewhere"},
		{!a.SensitiveDataOrigin, "not sensitiveDataOrigin: its private key was made outside the TPM"},
		{a.EncryptedDuplication, "encryptedDuplication is set on a key that must not be duplicated"},
		{a.Restricted, "restricted: it signs what the TPM says, and not what its user has to sign"},
		{!a.SignEncrypt || a.Decrypt, "want a key that signs and does not decrypt"},
	}); err != nil {
		return err
	}
	if _, err := tpmwire.SigningKey(&p.area, p.bytes); err != nil {
		return fmt.Errorf("certified key %s: %w", p.name, err)
	}
	return nil
}
