// SPDX-License-Identifier: Apache-2.0

package quote

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/check"
)

// FuzzCheck feeds key, quote and signature to the checks, without the signatures that
// protect them in a document.
func FuzzCheck(f *testing.F) {
	e := evidencetest.New().Build(f)
	f.Add([]byte(e.AK), []byte(e.Batch.Quote.Attest), []byte(e.Batch.Quote.Signature))
	rsa := evidencetest.RSAKey(f, 2048, 0x14)
	f.Add(rsa.Public(), []byte(e.Batch.Quote.Attest), rsa.Sign(f, e.Batch.Quote.Attest))
	order := check.NewOrder(append(append([]check.Definition{}, KeyDefinitions...), Definitions...))
	f.Fuzz(func(t *testing.T, key, attest, signature []byte) {
		findings := check.NewFindings(order, nil)
		q := CheckRaw(findings, CheckBareKey(findings, key), evidence.Quote{Attest: attest, Signature: signature}, e.Batch.PCRs, nil)
		if q == nil {
			return
		}
		if q.Selection != nil && q.Selection.Check() != nil {
			t.Errorf("selection %v is not one", q.Selection)
		}
		if findings.Passed(Batch.selection.ID) != (q.Values != nil) {
			t.Errorf("values %v, selection %s", q.Values, findings.Verdict(Batch.selection.ID))
		}
	})
}
