// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// tokenOf is the token that agentctl writes of new evidence of the machine, signed with this key.
func tokenOf(t *testing.T, key crypto.Signer) string {
	t.Helper()
	if shared == nil {
		t.Skip(simulated.ErrNoTPM)
	}
	dir, nonce := t.TempDir(), make([]byte, 32)
	rand.Read(nonce)
	document, err := shared.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: evidence.Fresh})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, b := range map[string][]byte{"evidence.json": document, "token.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})} {
		if err := os.WriteFile(at(name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(filepath.Join(commands, "agentctl"), "verify", "--policy", shared.Policy(), "--nonce", hex.EncodeToString(nonce), "--trust-test-root-that-vouches-for-no-hardware", shared.Root(),
		"--token", at("token"), "--token-key", at("token.key"), "--token-audience", "shop", "--token-issuer", "https://verifier.example", at("evidence.json")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	token, err := os.ReadFile(at("token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(token))
}

// TestTokenByLibrary: golang-jwt accepts the token that agentctl writes of a machine, with either kind of
// key, and refuses it after its end, for another audience or issuer, under another key or algorithm, and
// altered.
func TestTokenByLibrary(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other := map[string]crypto.PublicKey{}
	if other["EdDSA"], _, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	wrong, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other["ES256"] = wrong.Public()
	for algorithm, key := range map[string]crypto.Signer{"EdDSA": ed, "ES256": ec} {
		token := tokenOf(t, key)
		read := func(token string, public crypto.PublicKey, more ...jwt.ParserOption) (*jwt.Token, error) {
			o := append([]jwt.ParserOption{jwt.WithValidMethods([]string{algorithm}), jwt.WithAudience("shop"), jwt.WithIssuer("https://verifier.example"), jwt.WithExpirationRequired(), jwt.WithIssuedAt()}, more...)
			return jwt.NewParser(o...).Parse(token, func(*jwt.Token) (any, error) { return public, nil })
		}
		parsed, err := read(token, key.Public())
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		submods, _ := parsed.Claims.(jwt.MapClaims)["submods"].(map[string]any)
		result, _ := submods["agentd"].(map[string]any)
		if result["ear.status"] != "warning" { // its root is a test root
			t.Errorf("%s: %v", algorithm, result)
		}
		later := jwt.WithTimeFunc(func() time.Time { return time.Now().Add(6 * time.Minute) })
		earlier := jwt.WithTimeFunc(func() time.Time { return time.Now().Add(-time.Hour) })
		parts := strings.Split(token, ".")
		none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + parts[1] + "."
		for name, try := range map[string]func() (*jwt.Token, error){
			"after its end":        func() (*jwt.Token, error) { return read(token, key.Public(), later) },
			"before its beginning": func() (*jwt.Token, error) { return read(token, key.Public(), earlier) },
			"another audience":     func() (*jwt.Token, error) { return read(token, key.Public(), jwt.WithAudience("other")) },
			"another issuer":       func() (*jwt.Token, error) { return read(token, key.Public(), jwt.WithIssuer("other")) },
			"another key":          func() (*jwt.Token, error) { return read(token, other[algorithm]) },
			"HS256 alone":          func() (*jwt.Token, error) { return read(token, key.Public(), jwt.WithValidMethods([]string{"HS256"})) },
			"alg none":             func() (*jwt.Token, error) { return read(none, key.Public()) },
			"altered": func() (*jwt.Token, error) {
				return read(parts[0]+"."+strings.ToUpper(parts[1][:8])+parts[1][8:]+"."+parts[2], key.Public())
			},
		} {
			if _, err := try(); err == nil {
				t.Errorf("%s: accepted: %s", algorithm, name)
			}
		}
	}
}
