// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"slices"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// chainAhead begins to verify the chain of the first endorsement key that may have
// signed the report, beside the check of the report's signature: each takes almost half
// of an appraisal, and neither needs the other. The function it returns waits for the end
// and gives the chain of leaf, which is verified there and then where it is another. It
// is to be called in any case, with nil where no key may have signed.
func (a *appraiser) chainAhead(leaves []*snp.EndorsementKey, issuers []*x509.Certificate) func(leaf *snp.EndorsementKey) (*snp.Chain, error) {
	var guess *snp.EndorsementKey
	if i := slices.IndexFunc(leaves, func(l *snp.EndorsementKey) bool { return l.Signer == a.report.KeyInfo.Signer() }); i >= 0 {
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
			chain, err = snp.VerifyChain(guess, issuers, a.config.Roots.SNP)
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
		return snp.VerifyChain(leaf, issuers, a.config.Roots.SNP)
	}
}
