// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
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

// BenchmarkIMA measures evidence with a list of IMA of 50,000 files, under a policy that names
// a reference of 200,000. The metric x-hashes is that time in units of the bare hashes that lead to
// the quoted value of one bank, and list-per-second is what one core verifies.
func BenchmarkIMA(b *testing.B) {
	const files, known = 50_000, 200_000
	digests := make([][]byte, known)
	for i := range digests {
		digests[i] = pcr.SHA256.Sum(fmt.Append(nil, "content ", i))
	}
	r := evidencetest.New()
	boot(r)
	entries := [][]byte{evidencetest.IMAAggregate(r.PCRs)}
	for i := range files {
		entries = append(entries, evidencetest.IMAFile(fmt.Sprintf("/usr/lib/x86_64-linux-gnu/file-%d.so", i), fmt.Sprint("content ", i)))
	}
	for _, bank := range []pcr.Algorithm{pcr.SHA256, pcr.SHA384} {
		r.PCRs.Set(bank, 10, evidencetest.IMAValue(bank, entries...))
	}
	r.Select = r.Select[:1] // one bank, as the agent quotes by default
	document, o := r.Encode(b), baseOptions(b)
	reference := ima.EncodeReference(pcr.SHA256, digests)
	o.Policy = mustPolicy(b, makePolicy("", "[[ima_files]]\nreference = \""+hex.EncodeToString(pcr.SHA256.Sum(reference))+"\"\n"))
	o.References, o.IMAList, o.Cache = [][]byte{reference}, bytes.Join(entries, nil), cache.New(8)
	v := benchVerifier(b, o)
	var hashing, verifying time.Duration
	for b.Loop() {
		begin := time.Now()
		evidencetest.IMAValue(pcr.SHA256, entries...)
		middle := time.Now()
		if _, err := v.Verify(document, o.expect(), o.Time); err != nil {
			b.Fatal(err)
		}
		hashing, verifying = hashing+middle.Sub(begin), verifying+time.Since(middle)
	}
	b.ReportMetric(verifying.Seconds()/hashing.Seconds(), "x-hashes")
	b.ReportMetric(float64(b.N)/verifying.Seconds(), "list-per-second")
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
