// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// benchVerifier returns a Verifier for o.
func benchVerifier(b *testing.B, o options) *Verifier {
	b.Helper()
	v, err := o.verifier()
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// BenchmarkEvidence measures evidence whose report is not in a cache.
func BenchmarkEvidence(b *testing.B) {
	document := evidencetest.New().Encode(b)
	o := baseOptions(b)
	v := benchVerifier(b, o)
	b.SetBytes(int64(len(document)))
	for b.Loop() {
		if _, err := v.Verify(document, o.expect(), o.Time); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmEvidence measures evidence whose report and certificates are in the cache.
func BenchmarkWarmEvidence(b *testing.B) {
	document := evidencetest.New().Encode(b)
	o := baseOptions(b)
	o.Cache = cache.New(8)
	v := benchVerifier(b, o)
	for b.Loop() {
		if _, err := v.Verify(document, o.expect(), o.Time); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWarmReport measures what an appraisal costs besides the signatures.
func BenchmarkWarmReport(b *testing.B) {
	r := evidencetest.NewReport(snp.Genoa)
	var data [64]byte
	copy(data[:], evidencetest.Nonce)
	report, certificates := r.Make(b, data)
	o := baseOptions(b)
	o.Policy = mustPolicy(b, makePolicy(bareRoot, ""))
	o.Cache = cache.New(8)
	v := benchVerifier(b, o)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.VerifyReport(RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}, o.expect(), o.Time); err != nil {
			b.Fatal(err)
		}
	}
}
