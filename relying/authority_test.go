// SPDX-License-Identifier: Apache-2.0

package relying_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// issued returns a certificate of an authority, issued by parent or by itself.
func issued(t *testing.T, name string, parent *x509.Certificate, signer crypto.Signer, change func(*x509.Certificate)) (*x509.Certificate, crypto.Signer) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: evidencetest.Time.Add(-time.Hour), NotAfter: evidencetest.Time.Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(x)
	}
	if parent == nil {
		parent, signer = x, key
	}
	der, err := x509.CreateCertificate(rand.Reader, x, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return out, key
}

// newAuthority returns one below a root.
func newAuthority(t *testing.T, change func(*x509.Certificate)) (*relying.Authority, *x509.Certificate) {
	t.Helper()
	root, rootKey := issued(t, "root", nil, nil, nil)
	c, key := issued(t, "authority", root, rootKey, change)
	return &relying.Authority{Chain: []*x509.Certificate{c}, Key: key}, root
}

// certified is what a client reads of an answer with a certificate.
type certified struct {
	Appraisal     struct{ Verdict string }
	Code          string
	Uncertified   string
	AKCertificate *struct {
		Chain               [][]byte
		PermanentIdentifier string
		NotAfter            time.Time
	}
}

// certify asks for a challenge, and for a certificate with the appraisal.
func (f *fixture) certify(t *testing.T, change func(*evidencetest.Recipe)) (int, *certified) {
	t.Helper()
	r := evidencetest.New()
	r.Statement.Nonce = f.nonce(t)
	nonce := r.Statement.Nonce
	if change != nil {
		change(r)
	}
	b, err := json.Marshal(relying.Request{Nonce: nonce, Evidence: r.Encode(t), CertifyAK: true})
	if err != nil {
		t.Fatal(err)
	}
	a := new(certified)
	return f.post(t, "/v1/appraisals", string(b), a), a
}

func withAuthority(a *relying.Authority, c *recorder) func(*relying.Config) {
	return func(o *relying.Config) {
		o.Authority = a
		if c != nil {
			c.logs, o.Records = o.Logs, c
		}
	}
}

var evidenceAK = func() *keys.Public {
	p, err := keys.ParsePublic(evidencetest.New().AK.Public())
	if err != nil {
		panic(err)
	}
	return p
}()

// TestAKCertificate: accepted evidence gets a certificate of its attestation key, in the profile that
// verifiers of attestations of TPMs ask for, and the record has it.
func TestAKCertificate(t *testing.T) {
	authority, root := newAuthority(t, nil)
	c := &recorder{}
	f := serve(t, withAuthority(authority, c))
	code, a := f.certify(t, nil)
	if code != 200 || a.AKCertificate == nil || len(a.AKCertificate.Chain) != 2 || a.Uncertified != "" {
		t.Fatalf("%d, %+v", code, a)
	}
	x, err := x509.ParseCertificate(a.AKCertificate.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	identifier := strings.TrimPrefix(evidenceAK.Name().String(), "000b")
	if a.AKCertificate.PermanentIdentifier != identifier || len(identifier) != 64 {
		t.Errorf("%+v", a.AKCertificate)
	}
	if x.Version != 3 || len(x.Subject.Names) != 0 || !x.BasicConstraintsValid || x.IsCA || x.KeyUsage != x509.KeyUsageDigitalSignature || len(x.ExtKeyUsage) != 0 ||
		len(x.UnknownExtKeyUsage) != 1 || x.UnknownExtKeyUsage[0].String() != "2.23.133.8.3" || x.SerialNumber.BitLen() != 127 {
		t.Errorf("%+v", x)
	}
	key, err := evidenceAK.Key()
	if err != nil || !key.(*ecdsa.PublicKey).Equal(x.PublicKey) {
		t.Errorf("%v, it is of key %v", err, x.PublicKey)
	}
	if now := f.clock.Now(); !x.NotBefore.Equal(now.Add(-time.Minute)) || !x.NotAfter.Equal(now.Add(relying.DefaultCertificateLifetime)) || !a.AKCertificate.NotAfter.Equal(x.NotAfter) {
		t.Errorf("from %v to %v", x.NotBefore, x.NotAfter)
	}
	checkNames(t, x, identifier, "guest-asserted none")
	x.UnhandledCriticalExtensions = nil // the alternative name, which was looked at
	roots, between := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root)
	between.AddCert(authority.Chain[0])
	if _, err := x.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: f.clock.Now(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}
	if r := c.all[0]; r.Certificate == nil || !bytes.Equal(r.Certificate.Chain[0], x.Raw) {
		t.Errorf("the record has %+v", r.Certificate)
	}
	_, again := f.certify(t, nil)
	if y, err := x509.ParseCertificate(again.AKCertificate.Chain[0]); err != nil || y.SerialNumber.Cmp(x.SerialNumber) == 0 {
		t.Errorf("%v, the second one has the same serial number", err)
	}
}

// checkNames checks the alternative name, by the grammar of RFC 5280.
func checkNames(t *testing.T, x *x509.Certificate, identifier, model string) {
	t.Helper()
	for _, e := range x.Extensions {
		if e.Id.String() != "2.5.29.17" {
			continue
		}
		var all struct {
			Directory pkix.RDNSequence `asn1:"tag:4,explicit"`
			Other     struct {
				Type  asn1.ObjectIdentifier
				Value struct {
					Identifier string `asn1:"utf8"`
				} `asn1:"tag:0,explicit"`
			} `asn1:"tag:0"`
		}
		rest, err := asn1.Unmarshal(e.Value, &all)
		var names []string
		for _, set := range all.Directory {
			for _, n := range set {
				names = append(names, n.Type.String()+"="+n.Value.(string))
			}
		}
		if want := "2.23.133.2.1=id:00000000 2.23.133.2.2=" + model + " 2.23.133.2.3=id:00000000"; err != nil || len(rest) > 0 || !e.Critical || strings.Join(names, " ") != want ||
			all.Other.Type.String() != "1.3.6.1.5.5.7.8.3" || all.Other.Value.Identifier != identifier {
			t.Errorf("%v, critical %v, %v, %+v", err, e.Critical, names, all.Other)
		}
		return
	}
	t.Error("no alternative name")
}

// TestNoAKCertificate: nothing is certified that was refused, not asked for, or not recorded, and not
// under a service without an authority.
func TestNoAKCertificate(t *testing.T) {
	authority, _ := newAuthority(t, nil)
	c := &recorder{}
	f := serve(t, withAuthority(authority, c))
	if code, a := f.certify(t, func(r *evidencetest.Recipe) { r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 } }); code != 200 || a.Appraisal.Verdict != "fail" || a.AKCertificate != nil || c.all[0].Certificate != nil {
		t.Errorf("refused: %d, %+v", code, a)
	}
	nonce := f.nonce(t)
	for range 2 {
		var a certified
		code := f.post(t, "/v1/appraisals", request(t, nonce, nil), &a)
		if a.AKCertificate != nil || a.Uncertified != "" {
			t.Errorf("not asked for: %d, %+v", code, a)
		}
	}
	c.failing(errors.New("a fault"))
	if code, a := f.certify(t, nil); code != 500 || a.AKCertificate != nil {
		t.Errorf("without a record: %d, %+v", code, a)
	}
	c.failing(nil)
	for _, change := range []func(*evidencetest.Recipe){nil, boot(2, nil)} {
		if code, a := f.certify(t, change); code != 200 || a.AKCertificate == nil {
			t.Fatalf("%d, %+v", code, a)
		}
		f.clock.pass(time.Second)
	}
	if code, a := f.certify(t, nil); a.AKCertificate != nil || a.Appraisal.Verdict == "pass" {
		t.Errorf("a boot that ended: %d, %+v", code, a)
	}
	if code, a := serve(t, nil).certify(t, nil); code != 200 || a.AKCertificate != nil || !strings.Contains(a.Uncertified, "certifies no attestation keys") {
		t.Errorf("no authority: %d, %+v", code, a)
	}
}

// TestAKCertificateEnds: a certificate lasts no longer than what it rests on. What would end at once is
// not issued.
func TestAKCertificateEnds(t *testing.T) {
	at := func(d time.Duration) time.Time { return evidencetest.Time.Add(d) }
	for name, x := range map[string]struct {
		authority time.Duration // end of its certificate
		change    func(*relying.Authority)
		expires   time.Time     // of the policy
		policy    string        // more rules
		want      time.Duration // 0: none
	}{
		"its lifetime":            {24 * time.Hour, func(a *relying.Authority) { a.Lifetime = 2 * time.Hour }, time.Time{}, "", 2 * time.Hour},
		"end of the authority":    {5 * time.Minute, nil, time.Time{}, "", 5 * time.Minute},
		"end of the policy":       {24 * time.Hour, nil, at(3 * time.Minute), "", 3 * time.Minute},
		"age of the report":       {24 * time.Hour, nil, time.Time{}, "freshness = \"anchored\"\nmax_anchor_age = \"4m\"\n", 4 * time.Minute},
		"soon":                    {24 * time.Hour, nil, at(59 * time.Second), "", 0},
		"the authority has ended": {-time.Minute, nil, time.Time{}, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			authority, _ := newAuthority(t, func(c *x509.Certificate) { c.NotAfter = at(x.authority) })
			if x.change != nil {
				x.change(authority)
			}
			f := serve(t, func(c *relying.Config) { c.Authority, c.Policies = authority, expiring(t, x.policy, x.expires) })
			code, a := f.certify(t, nil)
			switch {
			case code != 200 || a.Appraisal.Verdict != "pass":
				t.Errorf("%d, %+v", code, a)
			case x.want == 0:
				if a.AKCertificate != nil || !strings.Contains(a.Uncertified, "would end at") {
					t.Errorf("%+v", a)
				}
			case a.AKCertificate == nil || !a.AKCertificate.NotAfter.Equal(at(x.want)):
				t.Errorf("%+v, want %v", a.AKCertificate, at(x.want))
			}
		})
	}
}

// expiring returns a policy that expires, and accepts recipes.
func expiring(t *testing.T, more string, at time.Time) func(context.Context) (*verify.Verifier, *verify.Policy, error) {
	t.Helper()
	_, policy, err := policies(t, more)(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(policy, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}, PolicyExpires: at})
	if err != nil {
		t.Fatal(err)
	}
	return always(v, policy)
}

// TestIdentify: the service may give machines names of its own. Without a name nothing is certified, and a
// name that could be taken for another one is a fault.
func TestIdentify(t *testing.T) {
	for name, x := range map[string]struct {
		identifier  string
		err         error
		status      int
		uncertified string
	}{
		"a name":       {"web-1.example", nil, 200, ""},
		"no name":      {"", nil, 200, "no name here"},
		"a fault":      {"web", errors.New("a fault"), 500, ""},
		"a space":      {"web 1", nil, 500, ""},
		"too long":     {strings.Repeat("a", relying.MaxIdentifier+1), nil, 500, ""},
		"a zero byte":  {"web\x00", nil, 500, ""},
		"another code": {"wéb", nil, 500, ""},
	} {
		t.Run(name, func(t *testing.T) {
			authority, _ := newAuthority(t, nil)
			authority.Identify = func(_ context.Context, ak keys.Name, a *verify.Appraisal) (string, error) {
				if !ak.Equal(evidenceAK.Name()) || a.Verdict != verify.Pass {
					t.Errorf("%v, %v", ak, a.Verdict)
				}
				return x.identifier, x.err
			}
			code, a := serve(t, withAuthority(authority, nil)).certify(t, nil)
			if code != x.status || !strings.Contains(a.Uncertified, x.uncertified) || (a.AKCertificate != nil) != (x.status == 200 && x.uncertified == "") {
				t.Fatalf("%d, %+v", code, a)
			}
			if a.AKCertificate != nil {
				c, err := x509.ParseCertificate(a.AKCertificate.Chain[0])
				if err != nil {
					t.Fatal(err)
				}
				checkNames(t, c, x.identifier, "guest-asserted none")
			}
		})
	}
}

// TestAuthorityIsChecked: an authority whose certificates nothing would take is refused at the start.
func TestAuthorityIsChecked(t *testing.T) {
	root, rootKey := issued(t, "root", nil, nil, nil)
	c, key := issued(t, "authority", root, rootKey, nil)
	leaf, leafKey := issued(t, "leaf", root, rootKey, func(x *x509.Certificate) { x.IsCA, x.KeyUsage = false, x509.KeyUsageDigitalSignature })
	unsigning, unsigningKey := issued(t, "crl", root, rootKey, func(x *x509.Certificate) { x.KeyUsage = x509.KeyUsageCRLSign })
	signing, signingKey := issued(t, "leaf", root, rootKey, func(x *x509.Certificate) { x.IsCA = false })
	other, _ := issued(t, "root", nil, nil, nil)
	chain := func(c ...*x509.Certificate) []*x509.Certificate { return c }
	for name, x := range map[string]struct {
		a    relying.Authority
		want string
	}{
		"with its root":    {relying.Authority{Chain: chain(c, root), Key: key}, ""},
		"no key":           {relying.Authority{Chain: chain(c)}, "needs a key"},
		"no certificate":   {relying.Authority{Key: key}, "needs a key"},
		"another key":      {relying.Authority{Chain: chain(root, c), Key: key}, "another key"},
		"not an authority": {relying.Authority{Chain: chain(leaf), Key: leafKey}, "may not issue"},
		"not one at all":   {relying.Authority{Chain: chain(signing), Key: signingKey}, "may not issue"},
		"key usage":        {relying.Authority{Chain: chain(unsigning), Key: unsigningKey}, "may not issue"},
		"another issuer":   {relying.Authority{Chain: chain(c, other), Key: key}, "not issued by the next one"},
		"too long":         {relying.Authority{Chain: chain(c), Key: key, Lifetime: relying.MaxCertificateLifetime + 1}, "last 24h"},
		"negative":         {relying.Authority{Chain: chain(c), Key: key, Lifetime: -1}, "last 24h"},
		"too many":         {relying.Authority{Chain: chain(c, c, c, c, c, c, c, c, c), Key: key}, "1 to 8"},
	} {
		_, err := relying.New(relying.Config{Policies: policies(t, ""), Challenges: relying.NewMemoryChallenges(1), Authority: &x.a})
		if (err == nil) != (x.want == "") || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
