// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

func decode(t *testing.T, text []byte) [][]byte {
	t.Helper()
	ders, err := snp.DecodeCertificates(text)
	if err != nil {
		t.Fatal(err)
	}
	return ders
}

// verifyCase verifies whatever material the file contains.
func verifyCase(v *verify.Verifier, c *corpus.Case, e verify.Expect) (*verify.Claims, error) {
	switch c.Material {
	case corpus.Report:
		return v.VerifyReport(verify.RawReport{Kind: evidence.ReportSNP, Report: c.Evidence, Certificates: c.Certificates}, e, c.Time)
	case corpus.Paravisor:
		return v.VerifyParavisor(verify.AzureSet{HCL: c.Evidence, Quote: c.Quote, Signature: c.Signature, PCRs: c.PCRs, FirmwareLog: c.FirmwareLog, Certificates: c.Certificates}, e, c.Time)
	}
	return v.Verify(c.Evidence, e, c.Time)
}

// caseVerifier returns the verifier and the expectations of a case.
func caseVerifier(t *testing.T, c *corpus.Case, roots *snp.Roots, shared [][]byte) (*verify.Verifier, verify.Expect) {
	t.Helper()
	p, err := verify.ParsePolicy(c.Policy)
	if err != nil {
		t.Fatal(err)
	}
	var config verify.Config
	expect := verify.Expect{Nonce: c.Nonce, Audience: c.Audience, PublicKey: c.PublicKey, UserData: c.UserData, ReportData: c.ReportData}
	if c.Root == "test" {
		config.Roots.SNP = roots
	}
	if c.Shared {
		config.Certificates = shared
	}
	for _, der := range c.Revoked {
		l, err := snp.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		config.Revocation.SNP = append(config.Revocation.SNP, l)
	}
	if c.LogState != nil {
		expect.LogState = new(verify.LogState)
		if err := strictjson.Decode(c.LogState, evidence.MaxEvidence, expect.LogState); err != nil {
			t.Fatal(err)
		}
	}
	if c.IMAList != nil {
		expect.IMAList = ima.Whole(c.IMAList)
	}
	if c.IMAReference != nil {
		config.IMAReferences = [][]byte{c.IMAReference}
	}
	v, err := verify.New(p, config)
	if err != nil {
		t.Fatal(err)
	}
	return v, expect
}

// readCorpus reads the corpus, its roots and its certificates.
func readCorpus(t *testing.T) (all *corpus.Corpus, roots *snp.Roots, shared [][]byte) {
	t.Helper()
	all, err := corpus.Read("../internal/corpus/cases")
	if err != nil {
		t.Fatal(err)
	}
	roots = new(snp.Roots)
	for _, der := range decode(t, all.Root) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := roots.AddTestRootThatVouchesForNoHardware(c); err != nil {
			t.Fatal(err)
		}
	}
	return all, roots, decode(t, all.Certificates)
}

// survives checks that the file is the same after it was read and written.
func survives(t *testing.T, c *corpus.Case) {
	t.Helper()
	if again, err := corpus.Parse(c.Name, c.Encode()); err != nil || !bytes.Equal(again.Encode(), c.Encode()) {
		t.Errorf("the file does not survive being written: %v", err)
	}
}

// TestCorpus: every file is refused with an error, whose appraisal has the class and the
// failed checks that the file names.
func TestCorpus(t *testing.T) {
	all, roots, shared := readCorpus(t)
	seen, materials := make(map[string]bool), make(map[string]int)
	for _, c := range all.Cases {
		t.Run(c.Name, func(t *testing.T) {
			seen[c.Check] = true
			materials[c.Material]++
			v, expect := caseVerifier(t, c, roots, shared)
			claims, err := verifyCase(v, c, expect)
			var refused *verify.RefusedError
			if claims != nil || !errors.As(err, &refused) {
				t.Fatalf("claims %v, error %v, want a refusal", claims, err)
			}
			a := refused.Appraisal
			var failed []string
			for _, f := range a.Failed() {
				if f.Verdict == verify.Fail {
					failed = append(failed, string(f.ID))
				}
			}
			if a.Verdict != verify.Fail || int(a.Class) != c.Class || !slices.Equal(failed, c.Fails) {
				t.Errorf("class %d, failed %v; want %d, %v", a.Class, failed, c.Class, c.Fails)
			}
			survives(t, c)
		})
	}
	if len(seen) < 100 || materials[corpus.Report] < 10 || materials[corpus.Paravisor] < 20 {
		t.Errorf("the corpus is about %d checks, of materials %v", len(seen), materials)
	}
}

// TestCorpusAccepted: every file that must be accepted is.
func TestCorpusAccepted(t *testing.T) {
	all, roots, shared := readCorpus(t)
	for _, c := range all.Accepted {
		t.Run(c.Name, func(t *testing.T) {
			v, expect := caseVerifier(t, c, roots, shared)
			if claims, err := verifyCase(v, c, expect); claims == nil || err != nil {
				t.Errorf("%s: %v", c.About, err)
			}
			survives(t, c)
		})
	}
	if len(all.Accepted) < 30 {
		t.Errorf("%d cases must be accepted", len(all.Accepted))
	}
}
