// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

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

// String hides the secret.
func (e *Expected) String() string { return "keys.Expected(hidden)" }

// GoString hides the secret.
func (e *Expected) GoString() string { return "keys.Expected(hidden)" }

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
