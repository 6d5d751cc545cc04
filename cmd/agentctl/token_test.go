// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// pkcs8 returns a private key as a file has it.
func pkcs8(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// spki returns a public key in DER.
func spki(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// verifying is verify on files of tokenFiles, with more flags.
func verifying(more ...string) []string {
	return slices.Concat([]string{"verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--at", "2026-06-01T12:00:00Z",
		"--trust-test-root-that-vouches-for-no-hardware", "root.pem"}, more)
}

// tokenFiles goes to a folder with evidence, policies and keys.
func tokenFiles(t *testing.T) {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	key := evidencetest.Key('t')
	t.Chdir(folder(t, map[string][]byte{
		"e.json": evidencetest.New().Encode(t), "policy.toml": []byte(openPolicy), "strict.toml": []byte(openPolicy + "vmpl = [1]\n"), "root.pem": rootPEM(t),
		"t.key": pkcs8(t, key), "p256.key": pkcs8(t, p256), "p384.key": pkcs8(t, p384), "rsa.key": pkcs8(t, r), "open.key": pkcs8(t, key), "group.key": pkcs8(t, key),
		"t.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki(t, key)}),
	}))
	for name, mode := range map[string]os.FileMode{"open.key": 0o604, "group.key": 0o620} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
}

// tokenClaims decodes what a token claims.
func tokenClaims(t *testing.T, token string) (c struct {
	Audience string `json:"aud"`
	Ends     int64  `json:"exp"`
	IssuedAt int64  `json:"iat"`
	Submods  struct {
		Agentd struct {
			Status string `json:"ear.status"`
		} `json:"agentd"`
	} `json:"submods"`
}) {
	t.Helper()
	parts := strings.Split(strings.TrimSpace(token), ".")
	b, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	if err == nil {
		err = json.Unmarshal(b, &c)
	}
	if err != nil || len(parts) != 3 {
		t.Fatalf("%v in %q", err, token)
	}
	return c
}

// TestToken: verify writes a token of what it accepted, for its owner alone, and prints it only if it
// does not mix with the appraisal. Refused evidence gives none unless it is asked for.
func TestToken(t *testing.T) {
	tokenFiles(t)
	want := []string{"--token-key", "t.key", "--token-audience", "shop"}
	code, stdout, stderr := agentctl(t, verifying(append(want, "--token", "out.jwt", "e.json")...)...)
	if code != exitOK || !strings.Contains(stdout, "accepted") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	b, err := os.ReadFile("out.jwt")
	if err != nil {
		t.Fatal(err)
	}
	if at, err := os.Stat("out.jwt"); err != nil || at.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", at.Mode(), err)
	}
	if c := tokenClaims(t, string(b)); c.Audience != "shop" || c.Submods.Agentd.Status != "warning" || c.Ends-c.IssuedAt != 300 || c.IssuedAt != evidencetest.Time.Unix() {
		t.Errorf("%+v", c)
	}
	code, stdout, stderr = agentctl(t, verifying(append(want, "--token", "-", "--quiet", "--token-lifetime", "1m", "e.json")...)...)
	if code != exitOK || tokenClaims(t, stdout).Ends != evidencetest.Time.Unix()+60 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, refused := range []bool{false, true} {
		args := append(slices.Clone(want), "--token", "refused.jwt", "e.json")
		if refused {
			args = append([]string{"--token-if-refused"}, args...)
		}
		args = verifying(args...)
		args[slices.Index(args, "policy.toml")] = "strict.toml"
		if code, stdout, stderr = agentctl(t, args...); code != 5 {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
		b, err := os.ReadFile("refused.jwt")
		if !refused && err == nil {
			t.Errorf("refused evidence has a token: %s", b)
		}
		if refused && (err != nil || tokenClaims(t, string(b)).Submods.Agentd.Status != "contraindicated") {
			t.Errorf("%v: %s", err, b)
		}
	}
}

// TestTokenMisuse: no token is written if it would not be what the caller thinks. No message contains a
// private key.
func TestTokenMisuse(t *testing.T) {
	tokenFiles(t)
	all := []string{"--token", "x.jwt", "--token-key", "t.key", "--token-audience", "shop"}
	without := func(flag string, more ...string) []string {
		i := slices.Index(all, flag)
		return append(slices.Delete(slices.Clone(all), i, i+2), more...)
	}
	for says, args := range map[string][]string{
		"--token-key without --token":             without("--token", "e.json"),
		"--token without --token-key":             without("--token-key", "e.json"),
		"--token without --token-audience":        without("--token-audience", "e.json"),
		"want P-256":                              without("--token-key", "--token-key", "p384.key", "e.json"),
		"a *rsa.PublicKey: want":                  without("--token-key", "--token-key", "rsa.key", "e.json"),
		"mode 0604: other users":                  without("--token-key", "--token-key", "open.key", "e.json"),
		"mode 0620: other users":                  without("--token-key", "--token-key", "group.key", "e.json"),
		"no such file":                            without("--token-key", "--token-key", "none.key", "e.json"),
		"want PEM":                                without("--token-key", "--token-key", "root.pem", "e.json"),
		"would mix with the appraisal":            without("--token", "--token", "-", "e.json"),
		`--token-profile "2024"`:                  append(slices.Clone(all), "--token-profile", "2024", "e.json"),
		"--token-lifetime 25h0m0s":                append(slices.Clone(all), "--token-lifetime", "25h", "e.json"),
		"--token-lifetime -1s":                    append(slices.Clone(all), "--token-lifetime=-1s", "e.json"),
		"--token-names-machine without --token":   {"--token-names-machine", "e.json"},
		"--token-if-refused without --token":      {"--token-if-refused", "e.json"},
		"other material does not answer a nonce":  append(slices.Clone(all), "--snp-report", "e.json"),
		"would make old evidence look new":        append(slices.Clone(all), "--accept-replay", "e.json"),
		"audience":                                without("--token-audience", "--token-audience", "a\x1bb", "e.json"),
		"it is not a regular file":                without("--token", "--token", "/dev/null", "e.json"),
		"no token was written: ear: issuer":       append(slices.Clone(all), "--token-issuer", "a\nb", "e.json"),
		"--token-audience is empty: give a value": without("--token-audience", "--token-audience", "", "e.json"),
	} {
		line := verifying(args...)
		if slices.Contains(args, "--accept-replay") {
			i := slices.Index(line, "--nonce")
			line = slices.Delete(line, i, i+2)
		}
		code, stdout, stderr := agentctl(t, line...)
		if code != exitMisuse || !strings.Contains(stderr, says) {
			t.Errorf("%q: exit code %d, want %q\n%s%s", args, code, says, stdout, stderr)
		}
		if _, err := os.Stat("x.jwt"); err == nil {
			t.Errorf("%q: a token was written", args)
			os.Remove("x.jwt")
		}
		key, _ := os.ReadFile("t.key")
		if secret := string(bytes.Split(key, []byte("\n"))[1]); strings.Contains(stdout+stderr, secret) {
			t.Errorf("%q: the private key is printed", args)
		}
	}
}

// TestJWKS prints public keys in the order given, each once, and nothing private.
func TestJWKS(t *testing.T) {
	tokenFiles(t)
	code, stdout, stderr := agentctl(t, "token", "jwks", "t.key", "p256.key", "t.pub")
	var set struct {
		Keys []map[string]string `json:"keys"`
	}
	if err := json.Unmarshal([]byte(stdout), &set); code != exitOK || err != nil || len(set.Keys) != 2 || set.Keys[0]["alg"] != "EdDSA" || set.Keys[1]["alg"] != "ES256" {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, stdout, stderr)
	}
	for _, k := range set.Keys {
		if k["d"] != "" || len(k["kid"]) != 43 || k["use"] != "sig" {
			t.Errorf("%v", k)
		}
	}
	for _, name := range []string{"p384.key", "rsa.key", "root.pem", "e.json", "none", "open.key", "group.key"} {
		if code, stdout, _ := agentctl(t, "token", "jwks", name); code != exitMisuse || stdout != "" {
			t.Errorf("%s: exit code %d\n%s", name, code, stdout)
		}
	}
	if code, _, _ := agentctl(t, "token", "jwks"); code != exitMisuse {
		t.Errorf("no key: exit code %d", code)
	}
}
