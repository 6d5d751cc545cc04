// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"
	"time"
)

// NoIssuer is the issuer of an enrolment whose endorsement key has no verified certificate:
// the person who enrolled it knew the key from elsewhere, or trusted it on first use.
const NoIssuer = "none"

// Types of enrolment: the member "type". The first version contained no certificates, so
// that a verifier had only the enroller's word for the issuer. It is still read.
const (
	EnrolmentType      = "agentd/enrolment/2"
	FirstEnrolmentType = "agentd/enrolment/1"
)

// Enrolment records that an attestation key is in the TPM of an endorsement key, as a
// challenge proved. A policy contains enrolments to say which keys it expects. It can be
// written as JSON or TOML. In both the names are hexadecimal, and the certificates PEM.
type Enrolment struct {
	Type           string    `json:"type" toml:"type"`                                         // EnrolmentType
	EK             Name      `json:"ek" toml:"ek"`                                             // name of the endorsement key
	AK             Name      `json:"ak" toml:"ak"`                                             // name of the attestation key
	EKIssuer       string    `json:"ekIssuer" toml:"ek_issuer"`                                // subject of the root that certified the EK when it was enrolled (RFC 2253), or "none"
	EKCertificates Bundle    `json:"ekCertificates,omitzero" toml:"ek_certificates,omitempty"` // the EK's certificate, then issuers; nil if absent
	Enrolled       time.Time `json:"enrolled" toml:"enrolled"`                                 // time by the clock of the enroller, to the second
}

// NewEnrolment checks answer and records the enrolment, with the certificates in e. Issuer
// comes from [VerifyEKCertificate] or is [NoIssuer]. If the answer is wrong, the error is
// [ErrCredential].
func NewEnrolment(e *Expected, answer []byte, issuer string, now time.Time) (*Enrolment, error) {
	if err := e.Check(answer); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	r := &Enrolment{Type: EnrolmentType, EK: e.EK, AK: e.AK, EKIssuer: issuer, EKCertificates: e.Certificates, Enrolled: now.UTC().Truncate(time.Second)}
	if err := r.Check(); err != nil {
		return nil, fmt.Errorf("enrol: %w", err)
	}
	return r, nil
}

// Check reports the first member that the format does not allow. It parses the
// certificates and does not verify them: see [EKCertificate].
func (r *Enrolment) Check() error {
	switch {
	case r.Type != EnrolmentType && r.Type != FirstEnrolmentType:
		return fmt.Errorf("enrolment of type %q, want %q or %q", r.Type, EnrolmentType, FirstEnrolmentType)
	case r.Type == FirstEnrolmentType && len(r.EKCertificates) > 0:
		return fmt.Errorf("enrolment of type %q with certificates: those came with %q", r.Type, EnrolmentType)
	case len(r.EK) != nameSize:
		return fmt.Errorf("enrolment: name of the EK has %d bytes, want %d", len(r.EK), nameSize)
	case len(r.AK) != nameSize:
		return fmt.Errorf("enrolment: name of the AK has %d bytes, want %d", len(r.AK), nameSize)
	case r.EKIssuer == "":
		return fmt.Errorf("enrolment: issuer of the EK's certificate is missing: write %q if no certificate was verified", NoIssuer)
	case r.Enrolled.IsZero():
		return errors.New("enrolment: time is missing")
	case len(r.EKCertificates) == 0:
		return nil
	}
	_, err := ParseEKCertificate(r.EKCertificates)
	return err
}
