// SPDX-License-Identifier: Apache-2.0

package service

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/relying"
	"github.com/cvm-agentd/agentd/test/pages"
	"github.com/cvm-agentd/agentd/test/simulated"
	trust "github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/ear"
)

// session returns the commands that the page prints for a client of a service at url, and of the machine.
func session(t *testing.T, m *simulated.Machine, url string) string {
	t.Helper()
	page, err := pages.Read("../../docs/service.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range page.Blocks {
		if b.Lang == "sh" {
			text := strings.ReplaceAll(b.Text, "/run/agentd/agentd.sock", m.Socket())
			if text == b.Text {
				t.Fatal("the session does not ask the agent")
			}
			return "set -eu\nSERVICE=" + url + "\n" + text
		}
	}
	t.Fatal("the page has no session")
	return ""
}

// start serves the policy of a machine, and returns the URL of the service and the key of its tokens.
func start(t *testing.T, m *simulated.Machine) (url string, public ed25519.PublicKey) {
	t.Helper()
	policy := trust.Policy(t, m)
	v, err := verify.New(policy, trust.Trust(t, m))
	if err != nil {
		t.Fatal(err)
	}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ear.NewKey(private)
	if err != nil {
		t.Fatal(err)
	}
	s, err := relying.New(relying.Config{
		Policies:   func(context.Context) (*verify.Verifier, *verify.Policy, error) { return v, policy, nil },
		Challenges: relying.NewMemoryChallenges(100), Logs: relying.NewMemoryLogs(100),
		Keys: func() []*ear.Key { return []*ear.Key{key} }, Token: ear.Options{Audience: "https://vault.example", Build: "test"},
		OnError: func(err error) { t.Errorf("a fault: %v", err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL, public
}

// shell runs commands in a folder, and returns what they print.
func shell(t *testing.T, dir, commands string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-c", commands)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// TestSession: a client with curl alone has the evidence of a machine accepted, and gets a token. What it
// sent is not accepted again, nor with another nonce.
func TestSession(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip(err)
	}
	if _, err := exec.LookPath("jq"); err != nil {
		t.Skip(err)
	}
	m := simulated.Run(t)
	url, public := start(t, m)
	dir := t.TempDir()
	if out := shell(t, dir, session(t, m, url)); out != string(verify.Pass) {
		t.Fatalf("the verdict is %q", out)
	}
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	token := read("token.jwt")
	i := strings.LastIndex(token, ".")
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	if err != nil || !ed25519.Verify(public, []byte(token[:i]), signature) {
		t.Errorf("%v: the token does not verify: %s", err, token)
	}
	if x := base64.RawURLEncoding.EncodeToString(public); !strings.Contains(read("jwks.json"), x) {
		t.Errorf("%s is not in %s", x, read("jwks.json"))
	}

	send := "curl -sS -w '%{http_code}' -o answer.json --data-binary @request.json " + url + "/v1/appraisals"
	var a struct {
		Code      string
		Token     string
		Appraisal struct{ Verdict string }
	}
	answer := func() string {
		a.Code, a.Token, a.Appraisal.Verdict = "", "", ""
		status := shell(t, dir, send)
		if err := json.Unmarshal([]byte(read("answer.json")), &a); err != nil {
			t.Fatal(err)
		}
		return status
	}
	if status := answer(); status != "409" || a.Code != string(relying.CodeChallenge) {
		t.Errorf("once more: %s, %+v", status, a)
	}
	shell(t, dir, `nonce=$(curl -sS --fail -d '{}' `+url+`/v1/challenges | jq -r .nonce)
printf '{"nonce":"%s","evidence":%s}' "$nonce" "$(cat evidence.json)" >request.json`)
	if status := answer(); status != "200" || a.Appraisal.Verdict != string(verify.Fail) || a.Token != "" {
		t.Errorf("over another nonce: %s, %+v", status, a)
	}
}
