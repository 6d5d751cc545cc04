// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/verify"
)

// maker certifies TPMs.
type maker struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func (m *maker) sign(t *testing.T, template *x509.Certificate, key crypto.PublicKey) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	template.NotBefore, template.NotAfter = shared.at.Add(-time.Hour), shared.at.Add(time.Hour)
	parent := m.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, m.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func newMaker(t *testing.T) *maker {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	m := &maker{key: key}
	m.cert = m.sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "TPM maker"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}, key.Public())
	return m
}

// enrolled goes through the protocol with a machine, and returns its record with the
// maker's certificate of its endorsement key.
func (m *maker) enrolled(t *testing.T, g *guest) keys.Enrolment {
	t.Helper()
	ak, err := g.Client().AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	challenge, expected, err := keys.NewChallenge(ak.EK, ak.Public)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := g.Admin().Activate(t.Context(), api.ActivateRequest{Credential: sized(challenge.Credential), Secret: sized(challenge.Secret)})
	if err != nil {
		t.Fatal(err)
	}
	ek, err := keys.ParsePublic(ak.EK)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ek.Key()
	if err != nil {
		t.Fatal(err)
	}
	expected.Certificates = keys.Bundle{m.sign(t, &x509.Certificate{UnknownExtKeyUsage: []asn1.ObjectIdentifier{{2, 23, 133, 8, 1}}}, key).Raw}
	r, err := keys.NewEnrolment(expected, answer, "CN=TPM maker", shared.at)
	if err != nil {
		t.Fatal(err)
	}
	return *r
}

func sized(b evidence.Bytes) evidence.Bytes {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func pemText(t *testing.T, b keys.Bundle) string {
	t.Helper()
	text, err := b.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("\"\"\"\n%s\"\"\"\n", text)
}

func rule(t *testing.T, e keys.Enrolment) string {
	t.Helper()
	return fmt.Sprintf("[[enrolment]]\ntype = %q\nek = %q\nak = %q\nek_issuer = %q\nenrolled = %q\nek_certificates = %s",
		e.Type, e.EK, e.AK, e.EKIssuer, e.Enrolled.Format(time.RFC3339), pemText(t, e.EKCertificates))
}

// TestMixedEnrolments: case 65, and records of one machine for another.
func TestMixedEnrolments(t *testing.T) {
	need(t)
	m, stranger := newMaker(t), newMaker(t)
	a, b := m.enrolled(t, shared.a), m.enrolled(t, shared.b)
	roots := "ak_origin = \"certified\"\nek_roots = " + pemText(t, keys.Bundle{m.cert.Raw})
	with := func(change func(e *keys.Enrolment)) keys.Enrolment {
		e := a
		change(&e)
		return e
	}
	certificateOfB := with(func(e *keys.Enrolment) { e.EKCertificates = b.EKCertificates })
	endorsementOfB := with(func(e *keys.Enrolment) { e.EK = b.EK })
	for _, c := range []struct {
		name   string
		root   string
		record keys.Enrolment
		doc    []byte
		fails  []verify.CheckID
	}{
		{"A as it was enrolled", roots, a, shared.a.fresh, nil},
		{"B as it was enrolled", roots, b, shared.b.fresh, nil},
		{"B under the enrolment of A", roots, a, shared.b.fresh, []verify.CheckID{"policy.ak"}},
		{"A under the enrolment of B", "", b, shared.a.anchored, []verify.CheckID{"policy.ak"}},
		{"certificate of the TPM of B", roots, certificateOfB, shared.a.fresh, []verify.CheckID{"policy.ek-key"}},
		{"endorsement key of B, certificate of that of A", roots, endorsementOfB, shared.a.fresh, []verify.CheckID{"policy.ek-key"}},
		{"certificate by a stranger of the same name", roots, stranger.enrolled(t, shared.a), shared.a.fresh, []verify.CheckID{"policy.ek-chain"}},
		{"AK of A under the report of B", roots, a, document(t, func() *evidence.Evidence {
			e := shared.b.parts(t).fresh
			e.AK = shared.a.parts(t).fresh.AK
			return e
		}()), []verify.CheckID{"quote.signature", "binding.report-data"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := both(t, policy(c.root, rule(t, c.record)), c.doc, c.fails...)
			if len(c.fails) == 0 && got.AKOrigin != verify.AKCertified {
				t.Errorf("the AK is %s", got.AKOrigin)
			}
		})
	}
}

// TestAnotherMachine: genuine evidence of B, under a policy that expects A.
func TestAnotherMachine(t *testing.T) {
	need(t)
	ak, err := shared.a.Client().AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := both(t, policy("", ""), shared.a.fresh).Claims()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, root string
		fails      verify.CheckID
	}{
		{"chip", fmt.Sprintf("chips = [%q]", accepted.Machine.SNP.ChipID), "policy.chip"},
		{"attestation key", fmt.Sprintf("ak_names = [%q]", hex.EncodeToString(ak.Name)), "policy.ak"},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, policy(c.root, ""), shared.a.fresh)
			both(t, policy(c.root, ""), shared.b.fresh, c.fails)
		})
	}
}
