// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify/internal/cache"
)

// TestAKOrigin: what the appraisal says of the attestation key, by what the policy knows.
func TestAKOrigin(t *testing.T) {
	document := evidencetest.New().Encode(t)
	between := newMaker('i', "TPM issuer", tpmRoot, nil)
	// An issuer whose certificate was renewed: both come along, one is out of date.
	old := newMaker('i', "TPM issuer", tpmRoot, func(c *x509.Certificate) { c.NotAfter = evidencetest.Time.Add(-time.Hour) })
	good := tpmRoot.certify('e', nil)
	rootsOnly := "ek_roots = " + pemText(otherRoot.cert, tpmRoot.cert)
	for _, c := range []struct {
		name, root, tables string
		want               AKOrigin
	}{
		{"nothing known", "", "", AKNone},
		{"name", "ak_names = [\"000b" + recipeAK() + "\"]", "", AKEnrolled},
		{"record without a certificate", `ak_origin = "enrolled"`, enrolment(recipeAK(), "none"), AKEnrolled},
		{"record of the first version, no root named", "", enrolment(recipeAK(), "CN=TPM root"), AKEnrolled},
		{"certificate, no root named", "", certified(good), AKEnrolled},
		{"certificate under the root", trusting(tpmRoot), certified(good), AKCertified},
		{"certificate under an issuer", trusting(tpmRoot), certified(between.certify('e', nil), between.cert), AKCertified},
		{"the root comes along", trusting(tpmRoot), certified(between.certify('e', nil), tpmRoot.cert, between.cert), AKCertified},
		{"the issuer is the root that is named", trusting(between), certified(between.certify('e', nil)), AKCertified},
		{"issuer renewed", trusting(tpmRoot), certified(between.certify('e', nil), old.cert, between.cert), AKCertified},
		{"without a usage", trusting(tpmRoot), certified(tpmRoot.certify('e', func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil })), AKCertified},
		{"certified is more than enrolled", rootsOnly + "\nak_origin = \"enrolled\"", certified(good), AKCertified},
		{"roots named, this record without a certificate", rootsOnly, enrolment(recipeAK(), "none") + elsewhere(good), AKEnrolled},
		{"roots named, this key known by name", rootsOnly + "\nak_names = [\"000b" + recipeAK() + "\"]", elsewhere(good), AKEnrolled},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.root, c.tables))
			a, err := appraiseEvidence(document, o)
			if err != nil {
				t.Fatal(err)
			}
			if a.Verdict != Pass || a.AKOrigin != c.want {
				t.Errorf("%s, AK %s, want %s\n%s", a.Verdict, a.AKOrigin, c.want, explain(a))
			}
			for _, id := range ekChecks {
				if want := c.want == AKCertified; (a.Check(id).Verdict == Pass) != want {
					t.Errorf("%s: %s, and the AK is %s", id, a.Check(id).Verdict, c.want)
				}
			}
		})
	}
}

// TestCertificateOfRefusedAK: a key that was not enrolled has no certificate to check,
// and a key with a wrong certificate is only what its record says.
func TestCertificateOfRefusedAK(t *testing.T) {
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(trusting(tpmRoot), elsewhere(tpmRoot.certify('e', nil))))
	a, err := appraiseEvidence(evidencetest.New().Encode(t), o)
	if err != nil {
		t.Fatal(err)
	}
	if ids := failedIDs(a); len(ids) != 1 || ids[0] != PolicyAK || a.AKOrigin != AKNone {
		t.Errorf("failed %v, AK %s", ids, a.AKOrigin)
	}
	for _, id := range append(ekChecks, PolicyAKOrigin) {
		if c := a.Check(id); c.Verdict != NotAsserted || !c.Required || !strings.Contains(c.Sentence, "see") {
			t.Errorf("%s: %s, required %v: %s", id, c.Verdict, c.Required, c.Sentence)
		}
	}
	o.Policy = mustPolicy(t, makePolicy(trusting(tpmRoot), certified(otherRoot.certify('e', nil))))
	if a, err = appraiseEvidence(evidencetest.New().Encode(t), o); err != nil || a.AKOrigin != AKEnrolled {
		t.Errorf("%v, AK %s", err, a.AKOrigin)
	}
	if c := a.Check(PolicyAKOrigin); c.Verdict != NotAsserted || !c.Required {
		t.Errorf("%s: %s", c.ID, c.Verdict)
	}
}

// TestCertificateFromCache: the way to a root is remembered for these certificates and
// roots alone, and what depends on time is looked at again.
func TestCertificateFromCache(t *testing.T) {
	document := evidencetest.New().Encode(t)
	old := newMaker('i', "TPM issuer", tpmRoot, func(c *x509.Certificate) { c.NotAfter = evidencetest.Time.Add(time.Hour) })
	renewed := newMaker('i', "TPM issuer", tpmRoot, nil)
	known := cache.New(8)
	appraise := func(m *maker, at time.Duration, certificates ...*x509.Certificate) []CheckID {
		t.Helper()
		o := baseOptions(t)
		o.Policy = mustPolicy(t, makePolicy(trusting(m), certified(certificates...)))
		o.Cache, o.Time = known, o.Time.Add(at)
		a, err := appraiseEvidence(document, o)
		if err != nil || (a.AKOrigin == AKCertified) != (len(failedIDs(a)) == 0) {
			t.Fatalf("%v, AK %s\n%s", err, a.AKOrigin, explain(a))
		}
		return failedIDs(a)
	}
	leaf, none := old.certify('e', nil), []CheckID(nil)
	for _, c := range []struct {
		name         string
		root         *maker
		at           time.Duration
		certificates []*x509.Certificate
		want         []CheckID
		entries      int // and one of the report
	}{
		{"cold", tpmRoot, 0, []*x509.Certificate{leaf, old.cert}, none, 1},
		{"warm", tpmRoot, 0, []*x509.Certificate{leaf, old.cert}, none, 1},
		{"issuer expired", tpmRoot, 2 * time.Hour, []*x509.Certificate{leaf, old.cert}, []CheckID{PolicyEKValidity}, 1},
		{"another root", otherRoot, 0, []*x509.Certificate{leaf, old.cert}, []CheckID{PolicyEKChain}, 1},
		{"issuer left out", tpmRoot, 0, []*x509.Certificate{leaf}, []CheckID{PolicyEKChain}, 1},
		{"issuer renewed", tpmRoot, 0, []*x509.Certificate{leaf, old.cert, renewed.cert}, none, 2},
		{"issuer renewed, the old one expired", tpmRoot, 2 * time.Hour, []*x509.Certificate{leaf, old.cert, renewed.cert}, none, 2},
		{"the same, warm", tpmRoot, 2 * time.Hour, []*x509.Certificate{leaf, old.cert, renewed.cert}, none, 2},
	} {
		if got := appraise(c.root, c.at, c.certificates...); !slices.Equal(got, c.want) {
			t.Errorf("%s: failed are %v, want %v", c.name, got, c.want)
		}
		if n := known.Len() - 1; n != c.entries {
			t.Errorf("%s: %d chains are remembered, want %d", c.name, n, c.entries)
		}
	}
}

// BenchmarkCertified: what the certificate of a TPM adds to an appraisal whose report is known.
func BenchmarkCertified(b *testing.B) {
	document := evidencetest.New().Encode(b)
	for name, text := range map[string]string{"enrolled": makePolicy("", enrolment(recipeAK(), "none")), "certified": makePolicy(trusting(tpmRoot), certified(tpmRoot.certify('e', nil)))} {
		b.Run(name, func(b *testing.B) {
			o := baseOptions(b)
			o.Policy, o.Cache = mustPolicy(b, text), cache.New(8)
			for b.Loop() {
				if a, err := appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
					b.Fatal(err)
				}
			}
		})
	}
}
