// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/evidence"
)

// secretSize is how many bytes a challenge hides: as many as the digest of the EK's
// name algorithm, the most that it can (TPM 2.0 Part 1, "Credential Protection").
const secretSize = 32

// maxCredential caps each part of a challenge; an encrypted secret under RSA 2048 is
// 256 bytes.
const maxCredential = 1 << 10

// ErrCredential: the TPM does not release the secret: the challenge was made for
// another endorsement key or for another attestation key, or was changed on the way.
var ErrCredential = errors.New("the challenge is not for this TPM and attestation key")

// Challenge is a secret that only the TPM with one EK gives away, and only while it
// has an object of one name loaded.
type Challenge struct {
	Credential evidence.Bytes `json:"credential"` // contents of TPM2B_ID_OBJECT (TPM 2.0 Part 2, section 12.4.2)
	Secret     evidence.Bytes `json:"secret"`     // contents of TPM2B_ENCRYPTED_SECRET (section 11.4.3), encrypted to the EK
}

// Expected is what the maker of a challenge keeps until the answer is there. It is
// not to be sent to anybody.
type Expected struct {
	EK           Name
	AK           Name
	Issuer       string // of the EK's certificate, where its chain was verified; the maker of the challenge sets both
	Certificates Bundle // of the EK and its issuers; nil where there are none
	secret       []byte
}

// Check compares an answer in constant time. An answer proves that the AK is loaded
// in the TPM that has the EK; an enrolment may be made then.
func (e *Expected) Check(answer []byte) error {
	if len(e.secret) != secretSize || subtle.ConstantTimeCompare(e.secret, answer) != 1 {
		return fmt.Errorf("answer of %d bytes for attestation key %s: %w", len(answer), e.AK, ErrCredential)
	}
	return nil
}

// NewChallenge makes a challenge for the TPM that has the endorsement key ek, and for
// the attestation key ak in it; both are TPMT_PUBLICs from an untrusted source. It
// runs at the verifier and needs no TPM. The name of the AK is computed here, and its
// attributes are checked first: a credential for a key that is not restricted, or that
// could have come from elsewhere, would let it pass for an attestation key.
func NewChallenge(ek, ak []byte) (*Challenge, *Expected, error) {
	endorsement, err := ParsePublic(ek)
	if err != nil {
		return nil, nil, fmt.Errorf("make a challenge: endorsement key: %w", err)
	}
	if _, err := EKKindOf(endorsement); err != nil {
		return nil, nil, fmt.Errorf("make a challenge: %w", err)
	}
	attestation, err := ParsePublic(ak)
	if err != nil {
		return nil, nil, fmt.Errorf("make a challenge: attestation key: %w", err)
	}
	if err := attestation.CheckAttestation(); err != nil {
		return nil, nil, fmt.Errorf("make a challenge: %w", err)
	}
	secret := make([]byte, secretSize)
	if _, err := rand.Read(secret); err != nil {
		return nil, nil, fmt.Errorf("make a challenge: %w", err)
	}
	c, err := makeCredential(endorsement, attestation.name, secret)
	if err != nil {
		return nil, nil, fmt.Errorf("make a challenge: %w", err)
	}
	return c, &Expected{EK: endorsement.Name(), AK: attestation.Name(), secret: secret}, nil
}

// makeCredential is TPM2_MakeCredential in software (TPM 2.0 Part 1, "Credential Protection"): a
// seed encrypted to the EK, from which come the key that encrypts the secret and,
// bound to the name, the HMAC key that protects it.
func makeCredential(ek *Public, name Name, secret []byte) (*Challenge, error) {
	key, err := tpm2.ImportEncapsulationKey(&ek.area)
	if err != nil {
		return nil, fmt.Errorf("endorsement key %s: %w", ek.name, err)
	}
	credential, encrypted, err := tpm2.CreateCredential(rand.Reader, key, name, secret)
	if err != nil {
		return nil, fmt.Errorf("encrypt to endorsement key %s: %w", ek.name, err)
	}
	return &Challenge{Credential: credential, Secret: encrypted}, nil
}

// Activate answers a challenge (TPM2_ActivateCredential, TPM 2.0 Part 3, section
// 12.5) with the endorsement key of that kind. The answer is encrypted between TPM
// and caller. It fails with [ErrCredential] where the challenge is for another TPM
// or another key.
func (a *AK) Activate(t transport.TPM, kind EKKind, c *Challenge, auths Auths) ([]byte, error) {
	k, err := kind.lookup()
	if err != nil {
		return nil, err
	}
	if len(c.Credential) == 0 || len(c.Credential) > maxCredential || len(c.Secret) == 0 || len(c.Secret) > maxCredential {
		return nil, fmt.Errorf("answer a challenge: parts of %d and %d bytes, want 1 to %d each", len(c.Credential), len(c.Secret), maxCredential)
	}
	ek, err := loadEK(t, k, auths)
	if err != nil {
		return nil, fmt.Errorf("answer a challenge: %w", err)
	}
	var secret []byte
	err = a.use(t, func(key tpm2.AuthHandle) error {
		rsp, err := tpm2.ActivateCredential{
			ActivateHandle: key,
			KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: tpm2.TPM2BName{Buffer: ek.public.name}, Auth: ek.session(auths)},
			CredentialBlob: tpm2.TPM2BIDObject{Buffer: c.Credential},
			Secret:         tpm2.TPM2BEncryptedSecret{Buffer: c.Secret},
		}.Execute(t)
		if err != nil {
			return err
		}
		secret = rsp.CertInfo.Buffer
		return nil
	}, tpm2.AESEncryption(128, tpm2.EncryptOut))
	if mismatch(t, err) {
		err = fmt.Errorf("%w: %w", ErrCredential, err)
	}
	if err = errors.Join(err, ek.flush(t)); err != nil {
		return nil, fmt.Errorf("answer a challenge: %w", err)
	}
	return secret, nil
}

// mismatch reports whether the TPM could not open a challenge: the HMAC is wrong
// (TPM_RC_INTEGRITY), the secret was encrypted to another key (TPM_RC_VALUE), or a
// part is malformed (TPM_RC_SIZE, TPM_RC_INSUFFICIENT, TPM_RC_ECC_POINT). libtpms
// says TPM_RC_FAILURE where RSA decryption fails and goes on working, which a TPM
// that has really failed does not.
func mismatch(t transport.TPM, err error) bool {
	for _, rc := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCInsufficient, tpm2.TPMRCECCPoint} {
		if errors.Is(err, rc) {
			return true
		}
	}
	if !errors.Is(err, tpm2.TPMRCFailure) {
		return false
	}
	_, failed := tpm2.GetRandom{BytesRequested: 1}.Execute(t)
	return failed == nil
}
