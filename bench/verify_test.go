// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"math/big"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	spb "github.com/google/go-sev-guest/proto/sevsnp"
	guest "github.com/google/go-sev-guest/verify"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// launched lists the launch measurement of evidence that evidencetest makes.
const launched = "[[launch]]\nmeasurement = \"4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d4d\"\nkind = \"plain\"\ncovers = \"firmware\"\n"

func policy(b *testing.B, text string) *verify.Policy {
	b.Helper()
	p, err := verify.ParsePolicy([]byte("version = 1\n" + text))
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// inTurn measures f and g in turn, so that both see the same machine, and returns the
// median of each.
func inTurn(b *testing.B, f, g func()) (time.Duration, time.Duration) {
	b.Helper()
	var fs, gs []time.Duration
	f()
	g()
	for b.Loop() {
		fs, gs = append(fs, timed(f)), append(gs, timed(g))
	}
	return middle(fs), middle(gs)
}

func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

// primitives returns the signature checks of one evidence, and nothing else: report, two
// certificates, quote and batch. Inputs are parsed and hashed before.
func primitives(b *testing.B, e *evidence.Evidence, ak *ecdsa.PublicKey) func() {
	b.Helper()
	var chain []*x509.Certificate
	for _, der := range e.Certificates {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			b.Fatal(err)
		}
		chain = append(chain, c)
	}
	report := e.Report.Bytes
	r, s := number(report[0x2A0:0x2E8]), number(report[0x2E8:0x330])
	digest := sha512.Sum384(report[:0x2A0])
	quoted := sha256.Sum256(e.Batch.Quote.Attest)
	sig := e.Batch.Quote.Signature
	qr, qs := new(big.Int).SetBytes(sig[6:38]), new(big.Int).SetBytes(sig[40:72])
	message := evidence.BatchMessage(&e.Batch, nil)
	return func() {
		ok := ecdsa.Verify(chain[0].PublicKey.(*ecdsa.PublicKey), digest[:], r, s)
		ok = ok && chain[1].CheckSignature(chain[0].SignatureAlgorithm, chain[0].RawTBSCertificate, chain[0].Signature) == nil
		ok = ok && chain[2].CheckSignature(chain[1].SignatureAlgorithm, chain[1].RawTBSCertificate, chain[1].Signature) == nil
		ok = ok && ecdsa.Verify(ak, quoted[:], qr, qs)
		ok = ok && ed25519.Verify(ed25519.PublicKey(e.AgentKey), message, e.AgentSignature)
		if !ok {
			b.Fatal("a signature is wrong")
		}
	}
}

// BenchmarkVerifyCold measures a whole appraisal without a cache, as a multiple of its
// signature checks done one after the other. With two processors the appraisal checks chain
// and report at the same time; "x-primitives-on-one" is the multiple with one processor.
func BenchmarkVerifyCold(b *testing.B) {
	r := evidencetest.New()
	e := r.Build(b)
	document, err := strictjson.Encode(e)
	if err != nil {
		b.Fatal(err)
	}
	v := verifier(b, policy(b, launched), evidencetest.Roots(b), 0)
	signatures := primitives(b, e, &r.AK.ECC.PublicKey)
	appraise := func() {
		if _, err := v.Verify(document, verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time); err != nil {
			b.Fatal(err)
		}
	}
	all := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(all)
	var whole, parts, alone, aloneParts []time.Duration
	for b.Loop() {
		whole, parts = append(whole, timed(appraise)), append(parts, timed(signatures))
		runtime.GOMAXPROCS(1)
		alone, aloneParts = append(alone, timed(appraise)), append(aloneParts, timed(signatures))
		runtime.GOMAXPROCS(all)
	}
	b.ReportMetric(float64(middle(whole))/float64(middle(parts)), "x-primitives")
	b.ReportMetric(float64(middle(alone))/float64(middle(aloneParts)), "x-primitives-on-one")
	b.ReportMetric(float64(middle(parts).Microseconds()), "µs-primitives")
	b.ReportMetric(float64(middle(whole).Microseconds()), "µs-appraisal")
}

// BenchmarkVerifyColdReport measures the same for a recorded report, with a chain to AMD's root.
func BenchmarkVerifyColdReport(b *testing.B) {
	report, certificates, accepting := recorded(b)
	v := verifier(b, accepting, nil, 0)
	leaf, err := x509.ParseCertificate(certificates[0])
	if err != nil {
		b.Fatal(err)
	}
	known, err := snp.AMDRoots()
	if err != nil {
		b.Fatal(err)
	}
	var ask, ark *x509.Certificate
	for _, c := range known.Certificates() {
		switch c.Subject.CommonName {
		case "SEV-Milan":
			ask = c
		case "ARK-Milan":
			ark = c
		}
	}
	r, s := number(report[0x2A0:0x2E8]), number(report[0x2E8:0x330])
	digest := sha512.Sum384(report[:0x2A0])
	whole, parts := inTurn(b, func() {
		if _, err := v.VerifyReport(verify.RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}, replayed, recordedAt); err != nil {
			b.Fatal(err)
		}
	}, func() {
		ok := ecdsa.Verify(leaf.PublicKey.(*ecdsa.PublicKey), digest[:], r, s)
		ok = ok && ask.CheckSignature(leaf.SignatureAlgorithm, leaf.RawTBSCertificate, leaf.Signature) == nil
		ok = ok && ark.CheckSignature(ask.SignatureAlgorithm, ask.RawTBSCertificate, ask.Signature) == nil
		if !ok {
			b.Fatal("a signature is wrong")
		}
	})
	b.ReportMetric(float64(whole)/float64(parts), "x-primitives")
	b.ReportMetric(float64(parts.Microseconds()), "µs-primitives")
	b.ReportMetric(float64(whole.Microseconds()), "µs-appraisal")
}

// verifier returns a Verifier with a cache of that many entries. Roots are AMD's if nil.
func verifier(b *testing.B, p *verify.Policy, roots *snp.Roots, cache int) *verify.Verifier {
	b.Helper()
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: roots}, CacheEntries: cache})
	if err != nil {
		b.Fatal(err)
	}
	return v
}

// The recorded report contains no nonce of ours, and its certificate was valid then.
var (
	replayed   = verify.Expect{UnsafeAcceptReplay: true}
	recordedAt = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
)

// recorded returns a report of a real machine with its certificate, and a policy that accepts it.
func recorded(b *testing.B) (report []byte, certificates [][]byte, p *verify.Policy) {
	b.Helper()
	certificates, err := snp.DecodeCertificates(vectors.Read(b, "Dstack-TEE_dstack/sev_snp_vcek.pem"))
	if err != nil {
		b.Fatal(err)
	}
	return vectors.Read(b, "Dstack-TEE_dstack/sev_snp_report.bin"), certificates,
		policy(b, "products = [\"milan\"]\nunlisted_launch = \"allow\"\nbinding = \"none\"\nlog = \"optional\"\nallow_provisional_firmware = true\n")
}

// number returns an integer of a report, which is little-endian.
func number(le []byte) *big.Int {
	be := slices.Clone(le)
	slices.Reverse(be)
	return new(big.Int).SetBytes(be)
}

// BenchmarkVerifyWarm measures a recorded report that is in the cache, and how many times
// longer the full verification of go-sev-guest takes.
func BenchmarkVerifyWarm(b *testing.B) {
	report, certificates, accepting := recorded(b)
	v := verifier(b, accepting, nil, 16)
	body, err := abi.ReportToProto(report)
	if err != nil {
		b.Fatal(err)
	}
	attestation := &spb.Attestation{Report: body, CertificateChain: &spb.CertificateChain{VcekCert: certificates[0]}, Product: &spb.SevProduct{Name: spb.SevProduct_SEV_PRODUCT_MILAN}}
	options := &guest.Options{DisableCertFetching: true, Now: recordedAt, Product: attestation.Product}
	ours, theirs := inTurn(b, func() {
		if _, err := v.VerifyReport(verify.RawReport{Kind: evidence.ReportSNP, Report: report, Certificates: certificates}, replayed, recordedAt); err != nil {
			b.Fatal(err)
		}
	}, func() {
		if err := guest.SnpAttestation(attestation, options); err != nil {
			b.Fatal(err)
		}
	})
	b.ReportMetric(float64(theirs)/float64(ours), "x-go-sev-guest")
	b.ReportMetric(float64(theirs.Microseconds()), "µs-go-sev-guest")
	b.ReportMetric(float64(ours.Microseconds()), "µs-warm")
}

// BenchmarkVerifyBatch measures the evidence of 1,024 callers under one quote and one
// report, one after the other with a cache, against as many without.
func BenchmarkVerifyBatch(b *testing.B) {
	const statements = 1024
	var documents [][]byte
	for _, e := range evidencetest.New().Callers(b, statements) {
		document, err := strictjson.Encode(e)
		if err != nil {
			b.Fatal(err)
		}
		documents = append(documents, document)
	}
	accepting, roots := policy(b, launched), evidencetest.Roots(b)
	run := func(cache int) {
		v := verifier(b, accepting, roots, cache)
		for _, d := range documents {
			if _, err := v.Verify(d, verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time); err != nil {
				b.Fatal(err)
			}
		}
	}
	warm, cold := inTurn(b, func() { run(16) }, func() { run(0) })
	b.ReportMetric(float64(warm.Microseconds())/statements, "µs/statement")
	b.ReportMetric(float64(cold)/float64(warm), "x-without-cache")
}
