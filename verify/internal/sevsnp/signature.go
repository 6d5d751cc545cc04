// SPDX-License-Identifier: Apache-2.0

package sevsnp

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
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
		found := fmt.Sprintf("%s, none of a %v", text.Count(len(leaves), "certificate"), s)
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
			!j.m.Now.Before(c.NotBefore) && !j.m.Now.After(c.NotAfter) {
			return other
		}
	}
	return leaf
}

// chainAhead begins to verify the chain of the first endorsement key that may have signed
// the report, while the caller checks the report's signature: each takes almost half of
// an appraisal, and neither needs the other. The function that it returns waits for the
// end and returns the chain of leaf; if leaf is another key, it verifies that chain then.
// Call it in any case, with nil if no key may have signed.
//
// Measured with BenchmarkVerifyCold in bench: on two processors an appraisal takes 0.78 of
// the time of its signature checks one after the other; on one, which gains nothing,
// 1.16 of it.
func (j *judge) chainAhead(leaves []*snp.EndorsementKey, issuers []*x509.Certificate) func(leaf *snp.EndorsementKey) (*snp.Chain, error) {
	var guess *snp.EndorsementKey
	if i := slices.IndexFunc(leaves, func(l *snp.EndorsementKey) bool { return l.Signer == j.r.KeyInfo.Signer() }); i >= 0 {
		guess = leaves[i]
	}
	var chain *snp.Chain
	var err error
	var fault any
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { fault = recover() }()
		if guess != nil {
			chain, err = snp.VerifyChain(guess, issuers, j.Roots)
		}
	}()
	return func(leaf *snp.EndorsementKey) (*snp.Chain, error) {
		<-done
		switch {
		case fault != nil:
			panic(fault) // here the caller can recover from it
		case leaf == nil || leaf == guess:
			return chain, err
		}
		return snp.VerifyChain(leaf, issuers, j.Roots)
	}
}
