// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
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
	rand.Read(secret) // never fails
	key, err := tpm2.ImportEncapsulationKey(&endorsement.area)
	if err != nil {
		return nil, nil, fmt.Errorf("make a challenge: endorsement key %s: %w", endorsement.name, err)
	}
	// TPM2_MakeCredential in software (TPM 2.0 Part 1, "Credential Protection"): it encrypts a
	// seed to the EK. The seed gives the key that encrypts the secret and, bound to the name,
	// the HMAC key that protects it.
	credential, encrypted, err := tpm2.CreateCredential(rand.Reader, key, attestation.name, secret)
	if err != nil {
		return nil, nil, fmt.Errorf("make a challenge: encrypt to endorsement key %s: %w", endorsement.name, err)
	}
	return &Challenge{Credential: credential, Secret: encrypted}, &Expected{EK: endorsement.Name(), AK: attestation.Name(), secret: secret}, nil
}

// Types of a stored Expected. The first version had neither certificates nor issuer.
const (
	expectedType      = "agentd/expected/2"
	firstExpectedType = "agentd/expected/1"
	maxExpected       = 512 << 10 // bytes of an encoded Expected
)

// expectedDocument is the stored form of an Expected.
type expectedDocument struct {
	Type         string         `json:"type"`                  // expectedType
	EK           Name           `json:"ek"`                    // name of the endorsement key
	AK           Name           `json:"ak"`                    // name of the attestation key
	Secret       evidence.Bytes `json:"secret"`                // answer, 32 bytes
	Issuer       string         `json:"issuer,omitzero"`       // of the EK's certificate, as it was verified
	Certificates Bundle         `json:"certificates,omitzero"` // of the EK and its issuers
}

// Format hides the secret under every verb.
func (e *Expected) Format(f fmt.State, _ rune) { fmt.Fprint(f, "keys.Expected(hidden)") }

// Encode returns e in a form to keep until the answer arrives: one JSON object of at most
// 512 KiB. It contains the answer: store it with mode 0600 and do not show it.
func (e *Expected) Encode() ([]byte, error) {
	return strictjson.Encode(expectedDocument{Type: expectedType, EK: e.EK, AK: e.AK, Secret: e.secret, Issuer: e.Issuer, Certificates: e.Certificates})
}

// ParseExpected reads what [Expected.Encode] wrote.
func ParseExpected(b []byte) (*Expected, error) {
	var doc expectedDocument
	if err := strictjson.Decode(b, maxExpected, &doc); err != nil {
		return nil, fmt.Errorf("read the stored state of a challenge: %w", err)
	}
	switch {
	case doc.Type != expectedType && doc.Type != firstExpectedType:
		return nil, fmt.Errorf("read the stored state of a challenge: type %q, want %q or %q", doc.Type, expectedType, firstExpectedType)
	case doc.Type == firstExpectedType && (doc.Issuer != "" || doc.Certificates != nil):
		return nil, fmt.Errorf("read the stored state of a challenge: type %q with an issuer or certificates: those came with %q", doc.Type, expectedType)
	case len(doc.EK) != nameSize, len(doc.AK) != nameSize:
		return nil, fmt.Errorf("read the stored state of a challenge: names of %d and %d bytes, want %d each", len(doc.EK), len(doc.AK), nameSize)
	case len(doc.Secret) != secretSize:
		return nil, fmt.Errorf("read the stored state of a challenge: secret of %d bytes, want %d", len(doc.Secret), secretSize)
	}
	return &Expected{EK: doc.EK, AK: doc.AK, Issuer: doc.Issuer, Certificates: doc.Certificates, secret: doc.Secret}, nil
}
