// SPDX-License-Identifier: Apache-2.0

// Package relying has what relying parties of simulated machines need. It is apart from package
// simulated, so that tests of other modules need not link the verifier.
package relying

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// Trust returns what a verifier of evidence of m trusts: its test root.
func Trust(tb testing.TB, m *simulated.Machine) verify.Config {
	tb.Helper()
	b, err := os.ReadFile(m.Root())
	if err != nil {
		tb.Fatal(err)
	}
	certificates, err := snp.ParseCertificates(b)
	if err != nil {
		tb.Fatal(err)
	}
	roots := new(snp.Roots)
	if err := roots.AddTestRootThatVouchesForNoHardware(certificates[0]); err != nil {
		tb.Fatal(err)
	}
	return verify.Config{Roots: verify.Roots{SNP: roots}}
}

// Policy returns the policy that accepts m as it was started.
func Policy(tb testing.TB, m *simulated.Machine) *verify.Policy {
	tb.Helper()
	text, err := os.ReadFile(m.Policy())
	if err != nil {
		tb.Fatal(err)
	}
	policy, err := verify.ParsePolicy(text)
	if err != nil {
		tb.Fatal(err)
	}
	return policy
}

// Enrolment returns a line with the enrolment of the attestation key of m apart from a policy: approved
// if by names a party, else pending. Which key that is, the machine says; no challenge proved it.
func Enrolment(tb testing.TB, m *simulated.Machine, by string) []byte {
	tb.Helper()
	st, err := m.Client().Status(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	name := keys.Name(st.AKName)
	l, err := keys.NewListed(&keys.Enrolment{Type: keys.EnrolmentType, EK: name, AK: name, EKIssuer: keys.NoIssuer, Enrolled: time.Now().UTC().Truncate(time.Second)}, by, time.Now())
	if err != nil {
		tb.Fatal(err)
	}
	line, err := l.Encode()
	if err != nil {
		tb.Fatal(err)
	}
	return line
}

// Leaf returns a certificate of a server with this name, and the roots that vouch for it.
func Leaf(tb testing.TB, name string) (*x509.CertPool, tls.Certificate) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return roots, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}
