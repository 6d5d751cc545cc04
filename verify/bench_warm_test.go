// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// BenchmarkWarmReport: what an appraisal costs besides the signatures.
func BenchmarkWarmReport(b *testing.B) {
	r := evidencetest.NewReport(snp.Genoa)
	var data [64]byte
	copy(data[:], evidencetest.Nonce)
	report, certificates := r.Make(b, data)
	o := baseOptions(b)
	o.Policy = mustPolicy(b, makePolicy(bareRoot, ""))
	o.Cache = cache.New(8)
	b.ReportAllocs()
	for b.Loop() {
		if a, err := appraiseReport(RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}, o); err != nil || a.Verdict != Pass {
			b.Fatal(err)
		}
	}
}
