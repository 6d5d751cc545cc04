// SPDX-License-Identifier: Apache-2.0

package consumers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/test/pages"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

const issuer = "https://verifier.example"

// verifier signs results of evidence of one application in a launch that covers the whole system.
type verifier struct {
	signer crypto.Signer
	policy *verify.Policy
}

// newVerifier is one with a new key, of Ed25519 or of ECDSA on P-256.
func newVerifier(t *testing.T, edwards bool) *verifier {
	t.Helper()
	var signer crypto.Signer = evidencetest.Key('v')
	if !edwards {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer = k
	}
	digest := evidencetest.App("billing", "billing.service", "billing", "billing 1").App.Digest
	policy, err := verify.ParsePolicy(fmt.Appendf(nil, "version = 1\n\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = %q\n\n"+
		"[tcb.genoa]\nreported = { bootloader = 9, tee = 3, snp = 23, microcode = 72 }\n\n[[app]]\nname = \"billing\"\ndigests = [%q]\n\n[basis]\ncaller = \"launch\"\n",
		hex.EncodeToString(evidencetest.Measurement), verify.CoversSystem, digest))
	if err != nil {
		t.Fatal(err)
	}
	return &verifier{signer, policy}
}

// request is what a token is about. The zero value is good, and new.
type request struct {
	audience string
	at       time.Duration // from now
	app      string        // of the caller
	refused  bool
	testRoot bool
}

// token is the result of verifying evidence, signed.
func (v *verifier) token(t *testing.T, q request) string {
	t.Helper()
	r := evidencetest.New()
	now := time.Now().Add(q.at)
	r.Report.NotBefore, r.Report.NotAfter = now.AddDate(0, -1, 0), now.AddDate(0, 1, 0)
	if q.app != "" {
		r.Events = append(r.Events, evidencetest.App(q.app, q.app+".service", "billing", q.app))
		r.Statement.Caller.App, r.Statement.Caller.Unit, r.Statement.Caller.Executable = q.app, q.app+".service", nil
	}
	if q.refused {
		r.Report.Body = func(b []byte) { b[evidencetest.AtVMPL] = 2 }
	}
	x, err := verify.New(v.policy, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}})
	if err != nil {
		t.Fatal(err)
	}
	a, err := x.Appraise(r.Encode(t), verify.Expect{Nonce: evidencetest.Nonce}, now)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.Claims(); err == nil {
		c.Machine.TestRoot = q.testRoot // no test can have AMD sign
	}
	if (a.Verdict == verify.Fail) != q.refused {
		t.Fatal(a.Sentences)
	}
	k, err := ear.NewKey(v.signer)
	if err != nil {
		t.Fatal(err)
	}
	token, err := ear.Token(k, v.policy, a, ear.Options{Audience: q.audience, Nonce: evidencetest.Nonce, Build: "test 1", Issuer: issuer, Refused: true})
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// publicPEM is the public key as a file.
func (v *verifier) publicPEM(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(v.signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// forgeries are tokens that an attacker makes of a good one, who has the public key alone, for this audience.
func forgeries(t *testing.T, v *verifier, good, audience string) map[string]string {
	t.Helper()
	parts := strings.Split(good, ".")
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	mac := func(key []byte, message string) string {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(message))
		return message + "." + encode(string(h.Sum(nil)))
	}
	hs := encode(`{"alg":"HS256","typ":"JWT"}`) + "." + parts[1]
	out := map[string]string{
		"alg none":                      encode(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + ".",
		"alg none, signature kept":      encode(`{"alg":"none","typ":"JWT"}`) + "." + parts[1] + "." + parts[2],
		"HS256 with the public key":     mac(v.publicPEM(t), hs),
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"other claims":                  parts[0] + "." + encode(strings.Replace(decode(t, parts[1]), "app:billing", "app:payment", 1)) + "." + parts[2],
		"longer life":                   parts[0] + "." + encode(strings.Replace(decode(t, parts[1]), `"exp":1`, `"exp":9`, 1)) + "." + parts[2],
		"signature of another key":      newVerifier(t, false).token(t, request{audience: audience}),
		"one bit of the signature less": flip(t, good),
	}
	return out
}

func decode(t *testing.T, s string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// flip changes a bit in the middle of the signature.
func flip(t *testing.T, token string) string {
	t.Helper()
	i := strings.LastIndexByte(token, '.')
	s := []byte(decode(t, token[i+1:]))
	s[len(s)/2] ^= 1
	return token[:i+1] + base64.RawURLEncoding.EncodeToString(s)
}

// block is the code of this language below a heading of docs/tokens.md.
func block(t *testing.T, heading, lang string) string {
	t.Helper()
	p, err := pages.Read("../../docs/tokens.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range p.Blocks {
		if b.Heading == heading && b.Lang == lang {
			return b.Text
		}
	}
	t.Fatalf("docs/tokens.md has no %s below %q", lang, heading)
	return ""
}

// TestLibrary: a JWT library that was told algorithm, audience, issuer and key accepts a token of both
// algorithms, and no forgery.
func TestLibrary(t *testing.T) {
	for _, edwards := range []bool{true, false} {
		v := newVerifier(t, edwards)
		algorithm := map[bool]string{true: "EdDSA", false: "ES256"}[edwards]
		read := func(token string) error {
			p := jwt.NewParser(jwt.WithValidMethods([]string{algorithm}), jwt.WithAudience("shop"), jwt.WithIssuer(issuer), jwt.WithExpirationRequired(), jwt.WithIssuedAt())
			_, err := p.Parse(token, func(*jwt.Token) (any, error) { return v.signer.Public(), nil })
			return err
		}
		good := v.token(t, request{audience: "shop"})
		if err := read(good); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
		bad := forgeries(t, v, good, "shop")
		bad["over"] = v.token(t, request{audience: "shop", at: -time.Hour})
		bad["of the future"] = v.token(t, request{audience: "shop", at: time.Hour})
		bad["another audience"] = v.token(t, request{audience: "other"})
		for name, token := range bad {
			if err := read(token); err == nil {
				t.Errorf("%s: %s is accepted", algorithm, name)
			}
		}
	}
}
