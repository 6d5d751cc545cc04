// SPDX-License-Identifier: Apache-2.0

package sevsnp

import (
	"crypto/x509"
	"slices"

	"github.com/cvm-agentd/agentd/verify/snp"
)

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
