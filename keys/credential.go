// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
)

// secretSize is the size of the secret in a challenge, in bytes: that of a digest of the
// EK's name algorithm, the most that fits (TPM 2.0 Part 1, "Credential Protection").
const secretSize = 32

// ErrCredential means that the TPM does not release the secret, or that the answer is
// wrong. The challenge was made for another endorsement key or attestation key, or was
// changed on the way.
var ErrCredential = errors.New("the challenge is not for this TPM and attestation key")

// Challenge is an encrypted secret. Only the TPM with one EK releases the secret, and only
// while an object of one name is loaded.
type Challenge struct {
	Credential evidence.Bytes `json:"credential"` // contents of TPM2B_ID_OBJECT (TPM 2.0 Part 2, section 12.4.2)
	Secret     evidence.Bytes `json:"secret"`     // contents of TPM2B_ENCRYPTED_SECRET (section 11.4.3), encrypted to the EK
}

// Expected is what the maker of a challenge keeps until the answer arrives. It contains
// the answer, so it must not be sent.
type Expected struct {
	EK           Name   // name of the endorsement key
	AK           Name   // name of the attestation key
	Issuer       string // subject of the root of the EK's certificate, set by the caller that verified it
	Certificates Bundle // of the EK and its issuers, set by the caller; nil if absent
	secret       []byte // 32 bytes
}

// Check compares an answer in constant time, and returns [ErrCredential] if it is wrong.
// The right answer proves that the AK is loaded in the TPM that has the EK.
func (e *Expected) Check(answer []byte) error {
	if len(e.secret) != secretSize || subtle.ConstantTimeCompare(e.secret, answer) != 1 {
		return fmt.Errorf("answer of %d bytes for attestation key %s: %w", len(answer), e.AK, ErrCredential)
	}
	return nil
}

// NewChallenge makes a challenge for the TPM that has the endorsement key ek, and for
// the attestation key ak in it. Both are TPMT_PUBLICs from an untrusted source, of at most
// 1,024 bytes. NewChallenge runs at the verifier and needs no TPM. It computes the name of
// the AK and first checks the attributes. Otherwise an attacker could enrol a key that is
// not restricted, or that another program made, as an attestation key.
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

// makeCredential does TPM2_MakeCredential in software (TPM 2.0 Part 1, "Credential
// Protection"). It encrypts a seed to the EK. The seed gives the key that encrypts the
// secret and, bound to the name, the HMAC key that protects it.
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
