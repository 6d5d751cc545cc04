// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// forger makes certificates that no authority should: one RSA key plays every part.
type forger struct {
	t   *testing.T
	key *rsa.PrivateKey
}

func (f forger) certificate(subject, issuer string, change func(*x509.Certificate), public crypto.PublicKey, signer *rsa.PrivateKey) *x509.Certificate {
	f.t.Helper()
	c := &x509.Certificate{
		SignatureAlgorithm: x509.SHA384WithRSAPSS, SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	if change != nil {
		change(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}, public, signer)
	if err != nil {
		f.t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return out
}

const forgedRoot = "TEST ARK-Milan"

func (f forger) root() *x509.Certificate {
	return f.certificate(forgedRoot, forgedRoot, nil, f.key.Public(), f.key)
}

// leaf is a VCEK for Milan, issued by whatever name.
func (f forger) leaf(issuer string, change func(*x509.Certificate)) *snp.EndorsementKey {
	f.t.Helper()
	real, err := snp.ParseEndorsementKey(launch(f.t, soft.Options{}).Endorsement())
	if err != nil {
		f.t.Fatal(err)
	}
	c := f.certificate("SEV-VCEK", issuer, func(c *x509.Certificate) {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = false, false, 0
		c.ExtraExtensions = real.Certificate.Extensions
		if change != nil {
			change(c)
		}
	}, real.Certificate.PublicKey, f.key)
	leaf, err := snp.ParseEndorsementKey(c.Raw)
	if err != nil {
		f.t.Fatal(err)
	}
	return leaf
}

// Chains in which one link is wrong and all others are right.
func TestForgedChains(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	small, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	f := forger{t, key}
	roots := new(snp.Roots)
	if err := roots.AddTestRootThatVouchesForNoHardware(f.root()); err != nil {
		t.Fatal(err)
	}
	ask := func(subject string, change func(*x509.Certificate)) *x509.Certificate {
		return f.certificate(subject, forgedRoot, change, key.Public(), key)
	}
	leaf := f.leaf("SEV-Milan", nil)
	for _, c := range []struct {
		name   string
		leaf   *snp.EndorsementKey
		issuer *x509.Certificate
		want   snp.Code
	}{
		{"right", leaf, ask("SEV-Milan", nil), ""},
		{"intermediate by a stranger under the root's name", leaf, f.certificate("SEV-Milan", forgedRoot, nil, key.Public(), stranger), snp.CodeChainRoot},
		{"intermediate with another key", leaf, f.certificate("SEV-Milan", forgedRoot, nil, stranger.Public(), key), snp.CodeChainSignature},
		{"intermediate that is not an authority", leaf, ask("SEV-Milan", func(c *x509.Certificate) { c.IsCA = false }), snp.CodeChainAuthority},
		{"intermediate that may not sign certificates", leaf, ask("SEV-Milan", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }), snp.CodeChainAuthority},
		{"intermediate without basic constraints", leaf, ask("SEV-Milan", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = false, false }), snp.CodeChainAuthority},
		{"intermediate for another product than its root", f.leaf("SEV-Genoa", nil), ask("SEV-Genoa", nil), snp.CodeChainAuthority},
		{"intermediate of no known name", f.leaf("Milan", nil), ask("Milan", nil), snp.CodeChainAuthority},
		{"intermediate signed with SHA-256", leaf, ask("SEV-Milan", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }), snp.CodeChainRoot},
		{"leaf signed with SHA-256", f.leaf("SEV-Milan", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }), ask("SEV-Milan", nil), snp.CodeChainSignature},
		{"leaf signed with PKCS #1 v1.5", f.leaf("SEV-Milan", func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA384WithRSA }), ask("SEV-Milan", nil), snp.CodeChainSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := snp.VerifyChain(c.leaf, []*x509.Certificate{c.issuer}, roots)
			if snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want code %q", err, c.want)
			}
		})
	}
	t.Run("intermediate of 2048 bits", func(t *testing.T) {
		weak := f.certificate("SEV-Milan", forgedRoot, nil, small.Public(), key)
		leaf := forger{t, small}.leaf("SEV-Milan", nil)
		if _, err := snp.VerifyChain(leaf, []*x509.Certificate{weak}, roots); snp.CodeOf(err) != snp.CodeChainAuthority {
			t.Errorf("%v, want code %s", err, snp.CodeChainAuthority)
		}
	})
	for name, root := range map[string]*x509.Certificate{
		"of 2048 bits":         f.certificate(forgedRoot, forgedRoot, nil, small.Public(), small),
		"not signed by itself": f.certificate(forgedRoot, forgedRoot, nil, key.Public(), stranger),
		"without a product":    f.certificate("TEST ROOT", "TEST ROOT", nil, key.Public(), key),
		"not an authority":     f.certificate(forgedRoot, forgedRoot, func(c *x509.Certificate) { c.IsCA = false }, key.Public(), key),
	} {
		t.Run("root "+name, func(t *testing.T) {
			if err := new(snp.Roots).AddTestRootThatVouchesForNoHardware(root); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("revocation list signed with SHA-256", func(t *testing.T) {
		chain, err := snp.VerifyChain(leaf, []*x509.Certificate{ask("SEV-Milan", nil)}, roots)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		template := &x509.RevocationList{SignatureAlgorithm: x509.SHA256WithRSAPSS, Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
		issuer := *chain.Root
		issuer.SubjectKeyId = []byte{1} // the list names it, and no check uses that
		der, err := x509.CreateRevocationList(rand.Reader, template, &issuer, key)
		if err != nil {
			t.Fatal(err)
		}
		l, err := snp.ParseRevocationList(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Check(chain, now); snp.CodeOf(err) != snp.CodeCRLSignature {
			t.Errorf("%v, want code %s", err, snp.CodeCRLSignature)
		}
	})
}
