// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"errors"
	"fmt"
	"time"
)

// NoIssuer is the issuer of an enrolment whose endorsement key nobody certified: the
// one who enrolled it knew the key from elsewhere, or trusted the first sight of it.
const NoIssuer = "none"

// Types of enrolment: the member "type". The first version held no certificates, so
// that a verifier had only the enroller's word for the issuer; it is still read.
const (
	EnrolmentType      = "agentd/enrolment/2"
	FirstEnrolmentType = "agentd/enrolment/1"
)

// Enrolment records that an attestation key was seen to live in the TPM of an
// endorsement key. A policy holds it to say which keys it expects. It can be written
// as JSON or TOML; in both the names are hexadecimal, and the certificates PEM.
type Enrolment struct {
	Type           string    `json:"type" toml:"type"`                                         // EnrolmentType
	EK             Name      `json:"ek" toml:"ek"`                                             // name of the endorsement key
	AK             Name      `json:"ak" toml:"ak"`                                             // name of the attestation key
	EKIssuer       string    `json:"ekIssuer" toml:"ek_issuer"`                                // subject of the root that certified the EK when it was enrolled (RFC 2253), or "none"
	EKCertificates Bundle    `json:"ekCertificates,omitzero" toml:"ek_certificates,omitempty"` // the EK's certificate, then issuers; absent where there is none
	Enrolled       time.Time `json:"enrolled" toml:"enrolled"`                                 // when, by the clock of the one who enrolled it
}

// NewEnrolment records a challenge that was answered right, with the certificates that
// were kept with it; issuer comes from [VerifyEKCertificate] or is [NoIssuer].
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

// Check reports the first member that the format does not allow. What the certificates
// are worth is for [EKCertificate] to say.
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
		return fmt.Errorf("enrolment: issuer of the EK's certificate is missing: write %q where there is none", NoIssuer)
	case r.Enrolled.IsZero():
		return errors.New("enrolment: time is missing")
	case len(r.EKCertificates) == 0:
		return nil
	}
	_, err := ParseEKCertificate(r.EKCertificates)
	return err
}
