// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/corpus"
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

// appraiseCase appraises whatever material the file holds.
func appraiseCase(c *corpus.Case, o verify.Options) (*verify.Appraisal, error) {
	switch c.Material {
	case corpus.Report:
		return verify.Report(verify.RawReport{Report: c.Evidence, Certificates: c.Certificates}, o)
	case corpus.Paravisor:
		return verify.Paravisor(verify.AzureSet{HCL: c.Evidence, Quote: c.Quote, Signature: c.Signature, PCRs: c.PCRs, FirmwareLog: c.FirmwareLog, Certificates: c.Certificates}, o)
	}
	return verify.Evidence(c.Evidence, o)
}

// TestCorpus: every file is refused, by the checks and in the class that it names.
func TestCorpus(t *testing.T) {
	all, err := corpus.Read("testdata/corpus")
	if err != nil {
		t.Fatal(err)
	}
	roots := new(snp.Roots)
	for _, der := range decode(t, all.Root) {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := roots.AddTestRootThatVouchesForNoHardware(c); err != nil {
			t.Fatal(err)
		}
	}
	shared := decode(t, all.Certificates)
	seen, materials := make(map[string]bool), make(map[string]int)
	for _, c := range all.Cases {
		t.Run(c.Name, func(t *testing.T) {
			seen[c.Check] = true
			materials[c.Material]++
			p, err := verify.ParsePolicy(c.Policy)
			if err != nil {
				t.Fatal(err)
			}
			o := verify.Options{Policy: p, Nonce: c.Nonce, Audience: c.Audience, PublicKey: c.PublicKey, UserData: c.UserData, ReportData: c.ReportData, Time: c.Time}
			if c.Root == "test" {
				o.Roots = roots
			}
			if c.Shared {
				o.Certificates = shared
			}
			for _, der := range c.Revoked {
				l, err := snp.ParseRevocationList(der)
				if err != nil {
					t.Fatal(err)
				}
				o.Revocation = append(o.Revocation, l)
			}
			if c.LogState != nil {
				o.LogState = new(verify.LogState)
				if err := evidence.DecodeJSON(c.LogState, evidence.MaxEvidence, o.LogState); err != nil {
					t.Fatal(err)
				}
			}
			a, err := appraiseCase(c, o)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, f := range a.Failed() {
				if f.Verdict == verify.Fail {
					failed = append(failed, string(f.ID))
				}
			}
			if a.Verdict != verify.Fail || int(a.Class) != c.Class || !slices.Equal(failed, c.Fails) {
				t.Errorf("class %d, failed %v; want %d, %v", a.Class, failed, c.Class, c.Fails)
			}
			if again, err := corpus.Parse(c.Name, c.Encode()); err != nil || !bytes.Equal(again.Encode(), c.Encode()) {
				t.Errorf("the file does not survive being written: %v", err)
			}
		})
	}
	if len(seen) < 100 || materials[corpus.Report] < 10 || materials[corpus.Paravisor] < 20 {
		t.Errorf("the corpus is about %d checks, of materials %v", len(seen), materials)
	}
}
