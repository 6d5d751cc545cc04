// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
)

// appraiseOnGoogle appraises a recipe with these certificates under a policy with these tables.
func appraiseOnGoogle(t *testing.T, r *evidencetest.Recipe, root, tables string, certificates ...*x509.Certificate) *Appraisal {
	t.Helper()
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(root, tables))
	r.Certificates = certificates
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestGoogleCertifiesAK: with the certificate of a listed project the AK is certified, the claims
// name the machine, and PCR values and log rest on the TPM.
func TestGoogleCertifiesAK(t *testing.T) {
	good := googleIssuer.certifyAK('k', goodInstance, nil)
	for _, tables := range []string{
		onGoogle(""), onGoogle("zones = [\"europe-west4-a\"]\ninstances = [\"4611686018427387904\"]\nnames = [\"web-1\"]"),
		strings.Replace(onGoogle(""), "my-project", "4711", 1),
	} {
		a := appraiseOnGoogle(t, evidencetest.New(), `ak_origin = "certified"`, tables+"\n[basis]\nhistory = \"tpm\"", good, googleIssuer.cert)
		if a.Verdict != Pass || a.AKOrigin != AKCertified || a.Binding != BindingGuestAsserted {
			t.Fatalf("%s, AK %s, binding %s\n%s", a.Verdict, a.AKOrigin, a.Binding, explain(a))
		}
		c, err := a.Claims()
		if err != nil {
			t.Fatal(err)
		}
		if want := (GoogleInstance{Project: "my-project", ProjectNumber: "4711", Zone: "europe-west4-a", ID: "4611686018427387904", Name: "web-1"}); c.Instance == nil || *c.Instance != want {
			t.Errorf("claims %+v, want %+v", c.Instance, want)
		}
		if c.Basis.Log != ByTPM || c.Basis.PCRs != ByTPM {
			t.Errorf("log by %s, PCRs by %s", c.Basis.Log, c.Basis.PCRs)
		}
		all := strings.Join(a.Sentences, "\n")
		if !strings.Contains(all, `"web-1" (4611686018427387904) of the project "my-project"`) {
			t.Errorf("the sentences do not name the machine:\n%s", all)
		}
		if strings.Contains(all, "certificate of Google Cloud") || !strings.Contains(all, "in place of Google's") {
			t.Errorf("the root is that of a test, and the sentences say Google:\n%s", all)
		}
	}
	// Nothing is claimed that no rule asks for.
	a := appraiseOnGoogle(t, evidencetest.New(), "", "", good, googleIssuer.cert)
	if c, err := a.Claims(); err != nil || c.Instance != nil || a.AKOrigin != AKNone {
		t.Errorf("%v, AK %s, claims %+v", err, a.AKOrigin, c)
	}
}

// TestGoogleCertificateIsChosen: certificates that an attacker adds do not make verification fail.
func TestGoogleCertificateIsChosen(t *testing.T) {
	good := googleIssuer.certifyAK('k', goodInstance, nil)
	bad := []*x509.Certificate{
		googleIssuer.certifyAK('k', goodInstance, expired), otherGoogle.certifyAK('k', goodInstance, nil),
		googleIssuer.certifyAK('f', goodInstance, nil), googleIssuer.certifyAK('k', []byte{5, 0}, nil),
	}
	for _, all := range [][]*x509.Certificate{append(append([]*x509.Certificate{}, bad...), googleIssuer.cert, good), append([]*x509.Certificate{good, googleIssuer.cert}, bad...)} {
		if a := appraiseOnGoogle(t, evidencetest.New(), "", onGoogle(""), all...); a.Verdict != Pass || a.AKOrigin != AKCertified {
			t.Errorf("%s, AK %s\n%s", a.Verdict, a.AKOrigin, explain(a))
		}
	}
}

// TestGoogleCertificateOfTheVerifier: the certificate may come from Config.Certificates, and the
// key may be RSA.
func TestGoogleCertificateOfTheVerifier(t *testing.T) {
	ak := evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
	value, err := asn1.Marshal(goodInstance)
	if err != nil {
		t.Fatal(err)
	}
	template := years(&x509.Certificate{SerialNumber: big.NewInt(9), KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{{Id: oidGoogleInstance, Value: value}}})
	der, err := x509.CreateCertificate(rand.Reader, template, googleIssuer.cert, ak.RSA.Public(), googleIssuer.key)
	if err != nil {
		t.Fatal(err)
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy("", onGoogle("")))
	o.Certificates = append(o.Certificates, der, googleIssuer.cert.Raw)
	r := evidencetest.New()
	r.AK = ak
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil || a.Verdict != Pass || a.AKOrigin != AKCertified {
		t.Fatalf("%v, AK %s\n%s", err, a.AKOrigin, explain(a))
	}
}

// TestGoogleIssuerIsKnown: the issuer below Google's root is looked at without being in the
// evidence: a certificate in its name is refused for its signature, and not for a missing issuer.
func TestGoogleIssuerIsKnown(t *testing.T) {
	_, issuer, err := keys.GoogleRoot()
	if err != nil {
		t.Fatal(err)
	}
	for missing, name := range map[bool]*x509.Certificate{
		false: {RawSubject: issuer.RawSubject, Subject: issuer.Subject}, true: {Subject: pkix.Name{CommonName: "EK/AK CA Intermediate of tomorrow"}},
	} {
		forged := (&maker{key: letterKey('z'), cert: name}).certifyAK('k', goodInstance, nil)
		a := appraiseOnGoogle(t, evidencetest.New(), "", "[gcp]\nprojects = [\"my-project\"]", forged)
		c := a.Check(PolicyGCPChain)
		if c.Verdict != Fail || strings.Contains(c.Sentence, "is missing") != missing {
			t.Errorf("%s: %s", c.Verdict, c.Sentence)
		}
	}
}

// TestGoogleOfABareReport: a bare report comes with no attestation key, and is refused for that.
func TestGoogleOfABareReport(t *testing.T) {
	report := evidencetest.New().Build(t)
	o := baseOptions(t)
	o.AcceptReplay, o.Nonce = true, nil
	o.Policy = mustPolicy(t, makePolicy("binding = \"none\"\nlog = \"optional\"\nfreshness = \"any\"", onGoogle("")))
	r := RawReport{Kind: evidence.ReportSNP, Report: report.Report.Bytes}
	for _, c := range report.Certificates {
		r.Certificates = append(r.Certificates, c)
	}
	a, err := appraiseReport(r, o)
	if ids := failedIDs(a); err != nil || len(ids) != 1 || ids[0] != PolicyGCPCertificate {
		t.Errorf("failed are %v, %v\n%s", ids, err, explain(a))
	}
}

// TestGoogleAndARefusedOrigin: the origin that a policy asks for is not decided by a certificate
// that was refused, and one that nothing gives is refused by name.
func TestGoogleAndARefusedOrigin(t *testing.T) {
	a := appraiseOnGoogle(t, evidencetest.New(), `ak_origin = "certified"`, onGoogle(""), otherGoogle.certifyAK('k', goodInstance, nil))
	if c := a.Check(PolicyAKOrigin); c.Verdict != NotAsserted || !c.Required || !strings.Contains(c.Sentence, string(PolicyGCPChain)) {
		t.Errorf("%+v", c)
	}
	if a.AKOrigin != AKNone {
		t.Errorf("AK %s", a.AKOrigin)
	}
}
