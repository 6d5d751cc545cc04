// SPDX-License-Identifier: Apache-2.0

package sevsnp

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// checkSignature finds the certificate whose key signed the report. If none did, it
// returns one of the kind that the report names, to tell a wrong signature from a missing
// certificate. Signed reports whether the signature verified, whatever the check was told
// to say. If several certificates certify that key, it returns a valid one. Otherwise an
// attacker could add an expired one to make verification fail.
func (j *judge) checkSignature(leaves []*snp.EndorsementKey, broken []error) (leaf *snp.EndorsementKey, signed bool) {
	var failed error
	var candidate *snp.EndorsementKey
	for _, leaf := range leaves {
		err := j.r.VerifySignature(leaf)
		if err == nil {
			j.Decide(signature.ID, true, "", "", "")
			return j.validOf(leaf, leaves), true
		}
		if candidate == nil && leaf.Signer == j.r.KeyInfo.Signer() {
			candidate, failed = leaf, err
		}
	}
	if candidate != nil {
		j.DecideError(signature.ID, failed)
		return candidate, false
	}
	switch s := j.r.KeyInfo.Signer(); s {
	case snp.SignerVCEK, snp.SignerVLEK:
		if j.r.KeyInfo.MaskChipKey() && s == snp.SignerVCEK {
			j.Decide(signer.ID, false, "a signature by the VCEK", "the chip's keys are masked", "the host took the chip's keys out of use: nothing signed this report")
			return nil, false
		}
		found := fmt.Sprintf("%d certificates, none of a %v", len(leaves), s)
		if err := errors.Join(broken...); err != nil {
			found += "; unreadable: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		j.Decide(certificate.ID, false, fmt.Sprintf("the certificate of the %v that signed the report", s), found,
			"the certificate of the key that signed the report is missing: add it to the evidence, or give it to the verifier")
	default:
		j.Decide(signer.ID, false, "VCEK or VLEK", s.String(), "the report says that neither VCEK nor VLEK signed it")
	}
	return nil, false
}

// validOf returns the first of leaves that certifies the same key as leaf, as the same
// signer, and is valid; leaf if there is none.
func (j *judge) validOf(leaf *snp.EndorsementKey, leaves []*snp.EndorsementKey) *snp.EndorsementKey {
	for _, other := range append([]*snp.EndorsementKey{leaf}, leaves...) {
		c := other.Certificate
		if other.Signer == leaf.Signer && bytes.Equal(c.RawSubjectPublicKeyInfo, leaf.Certificate.RawSubjectPublicKeyInfo) &&
			!j.now.Before(c.NotBefore) && !j.now.After(c.NotAfter) {
			return other
		}
	}
	return leaf
}
