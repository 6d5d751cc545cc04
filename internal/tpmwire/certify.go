// SPDX-License-Identifier: Apache-2.0

package tpmwire

import "fmt"

// Certified is a TPMS_ATTEST whose attested part is a TPMS_CERTIFY_INFO (TPM 2.0 Part 2, section
// 10.12.3): what TPM2_Certify makes.
type Certified struct {
	QualifiedSigner []byte // TPM2B_NAME: the signing key and its whole chain of parents
	ExtraData       []byte // TPM2B_DATA: qualifying data
	Name            []byte // TPM2B_NAME of the certified object
	QualifiedName   []byte // TPM2B_NAME: the certified object and its whole chain of parents
}

// ParseCertify reads exactly one attestation over the name of an object: magic and type must be
// right, and no byte may follow. It shares memory with b.
func ParseCertify(b []byte) (*Certified, error) {
	if err := checkHeader(b, AttestCertify, "a certification"); err != nil {
		return nil, err
	}
	r := newReader(b)
	a, safe := r.attest()
	c := &Certified{QualifiedSigner: a.QualifiedSigner, ExtraData: a.ExtraData}
	c.Name, c.QualifiedName = r.sized("certify.name"), r.sized("certify.qualifiedName")
	switch {
	case r.Err != nil:
		return nil, fmt.Errorf("TPMS_ATTEST of %d bytes: %w", len(b), r.Err)
	case safe > 1:
		return nil, fmt.Errorf("clockInfo.safe is %d, want 0 or 1", safe)
	case len(r.Rest) != 0:
		return nil, fmt.Errorf("%d bytes follow the TPMS_ATTEST", len(r.Rest))
	}
	return c, nil
}
