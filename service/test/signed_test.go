// SPDX-License-Identifier: Apache-2.0

package test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/verify"
)

// signer makes a key of policies, in the file name.
func (b *bed) signer(name string) ed25519.PrivateKey {
	b.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name, encode("PUBLIC KEY", der))
	return private
}

func signedPolicy(t *testing.T, by ed25519.PrivateKey, text string, number uint64, expires time.Time) string {
	t.Helper()
	b, err := dsse.Sign(by, verify.PolicyLabel{Number: number, Expires: expires}.String(), []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestSignedPoliciesAtOnce: of signed policies that are put at the same time, at two workers, the one with
// the largest number that was taken is in force.
func TestSignedPoliciesAtOnce(t *testing.T) {
	b := newBed(t, false)
	key := b.signer("policies.pem")
	b.policies = fmt.Sprintf("keys = [%q]\n", b.path("policies.pem"))
	workers, alice := []*worker{b.start("one"), b.start("two")}, b.alice()
	for round := range uint64(10) {
		var most atomic.Uint64
		var all sync.WaitGroup
		for i := range uint64(8) {
			number := 10*round + i + 1
			text := signedPolicy(t, key, easy, number, time.Time{})
			all.Go(func() {
				if code, _ := workers[i%2].put(alice, "default", text, "", nil); code != 200 {
					return
				}
				for {
					if old := most.Load(); old >= number || most.CompareAndSwap(old, number) {
						return
					}
				}
			})
		}
		all.Wait()
		var p struct{ Text string }
		if code, err := ask(alice, "GET", workers[0].admin+"/admin/v1/policies/default", nil, &p); err != nil || code != 200 {
			t.Fatalf("%d, %v", code, err)
		}
		u, err := dsse.Read([]byte(p.Text), verify.MaxPolicy)
		if err != nil {
			t.Fatal(err)
		}
		label, err := verify.ParsePolicyLabel(u.Type)
		if err != nil || label.Number != most.Load() || label.Number == 0 {
			t.Fatalf("round %d: number %d is in force (%v), and %d was taken", round, label.Number, err, most.Load())
		}
	}
}

// outlived checks that no token is valid for longer than its policy, and that a policy ends also for
// evidence that is on its way.
func (b *bed) outlived(w *worker, key ed25519.PrivateKey) {
	b.t.Helper()
	alice := b.alice()
	lasting := func(name string, d time.Duration) time.Time {
		b.t.Helper()
		ends := time.Now().Add(d).Truncate(time.Second)
		if code, out := w.put(alice, name, signedPolicy(b.t, key, easy, 0, ends), "https://vault.example", nil); code != 200 {
			b.t.Fatalf("%s: %d, %v", name, code, out)
		}
		return ends
	}
	ends := lasting("half", 30*time.Second) // a token has 60
	if code, a := w.appraise("/p/half", nil); code != 200 || expiry(b.t, a.Token) != ends.Unix() {
		b.t.Errorf("%d, a token until %d, and the policy ends at %d", code, expiry(b.t, a.Token), ends.Unix())
	}
	lasting("long", time.Hour)
	if code, a := w.appraise("/p/long", nil); code != 200 || expiry(b.t, a.Token) > time.Now().Unix()+60 {
		b.t.Errorf("%d, a token until %d", code, expiry(b.t, a.Token))
	}

	ends = lasting("slow", 5*time.Second)
	body, sent := io.Pipe()
	request, err := http.NewRequest("POST", w.url+"/p/slow/v1/appraisals", body)
	if err != nil {
		b.t.Fatal(err)
	}
	whole := evidence(b.t, w.challenge("/p/slow"), nil)
	go func() {
		sent.Write(whole[:1])
		time.Sleep(time.Until(ends)) // the worker has no other clock
		sent.Write(whole[1:])
		sent.Close()
	}()
	r, err := w.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer r.Body.Close()
	if said, err := io.ReadAll(r.Body); r.StatusCode != http.StatusNotFound || err != nil || !strings.Contains(string(said), "no-such-path") {
		b.t.Errorf("evidence that came when the policy had ended: %d, %s, %v", r.StatusCode, said, err)
	}
}

// expiry returns exp of a token, 0 if that cannot be read.
func expiry(t *testing.T, token string) int64 {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return 0
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Exp int64 }
	if err != nil || json.Unmarshal(b, &claims) != nil {
		t.Errorf("%q, %v", b, err)
	}
	return claims.Exp
}

// TestSignedPolicies: with keys of policies, neither an administrator nor a party that writes the
// database brings a policy into force that they did not sign, or an older one, or one that expired.
func TestSignedPolicies(t *testing.T) {
	b := newBed(t, false)
	key, other := b.signer("policies.pem"), b.signer("other.pem")
	b.policies = fmt.Sprintf("keys = [%q]\n", b.path("policies.pem"))
	w := b.start("one")
	alice := b.alice()
	never := time.Time{}
	// A worker notices by its own clock, to which the test cannot be ahead.
	soon := time.Now().Add(3 * time.Second).Truncate(time.Second)
	for _, c := range []struct {
		what, text string
		code       int
		want       string
	}{
		{"without a signature", easy, 400, "invalid-value"},
		{"by another key", signedPolicy(t, other, easy, 0, never), 400, "invalid-value"},
		{"expired", signedPolicy(t, key, easy, 0, time.Now().Add(-time.Hour).Truncate(time.Second)), 400, "invalid-value"},
		{"signed", signedPolicy(t, key, easy, 7, never), 200, ""},
		{"older", signedPolicy(t, key, easy+"# 6\n", 6, never), 409, "conflict"},
		{"without a number", signedPolicy(t, key, easy+"# 0\n", 0, never), 409, "conflict"},
		{"of the same number", signedPolicy(t, key, easy+"# 7\n", 7, never), 200, ""},
		{"newer", signedPolicy(t, key, easy+"# 8\n", 8, never), 200, ""},
	} {
		if code, out := w.put(alice, "default", c.text, "", nil); code != c.code || c.want != "" && out["code"] != c.want {
			t.Errorf("%s: %d, %v", c.what, code, out)
		}
	}
	if code, a := w.appraise("", nil); code != 200 || a.Appraisal.Verdict != "pass" {
		t.Errorf("%d, %+v", code, a)
	}
	if code, out := w.put(alice, "short", signedPolicy(t, key, easy, 0, soon), "", nil); code != 200 && time.Now().Before(soon) {
		t.Errorf("one that expires soon: %d, %v", code, out)
	}
	none := func(what, path string) {
		t.Helper()
		eventually(t, func() error {
			var a answer
			if code, err := ask(w.client, "POST", w.url+path+"/v1/challenges", nil, &a); err != nil || code != 404 || a.Code != "no-such-path" {
				return fmt.Errorf("%s: %d, %w, %+v", what, code, err, a)
			}
			return nil
		})
	}
	none("expired", "/p/short")
	b.outlived(w, key)

	// The database says that the stranger's policy is in force.
	const put = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=60); c.execute(\"INSERT INTO policies SELECT name, version + 1, digest, ?, audience, changer, changed FROM policies WHERE name = 'default' ORDER BY version DESC LIMIT 1\", (sys.argv[2].encode(),)); c.commit()"
	for _, text := range []string{easy, signedPolicy(t, other, easy, 9, never)} {
		if out, err := exec.Command("python3", "-c", put, b.path("verifier.db"), text).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		none("in the database alone", "")
	}
	if !strings.Contains(w.Output(), "a policy does not count") {
		t.Errorf("the log:\n%s", w.Output())
	}

	// Two keys of which both must sign, and the least number.
	b.policies = fmt.Sprintf("keys = [%q, %q]\nthreshold = 2\n", b.path("policies.pem"), b.path("other.pem"))
	w.config("token.key")
	w.Process.Signal(t, syscall.SIGHUP)
	eventually(t, func() error {
		if code, out := w.put(alice, "both", signedPolicy(t, key, easy, 0, never), "", nil); code != 400 || !strings.Contains(fmt.Sprint(out["detail"]), "want 2") {
			return fmt.Errorf("one of two: %d, %v", code, out)
		}
		return nil
	})
	b.policies = fmt.Sprintf("keys = [%q]\nnumber = 20\n", b.path("policies.pem"))
	w.config("token.key")
	w.Process.Signal(t, syscall.SIGHUP)
	eventually(t, func() error {
		if code, out := w.put(alice, "numbered", signedPolicy(t, key, easy, 19, never), "", nil); code != 400 || !strings.Contains(fmt.Sprint(out["detail"]), "at least 20") {
			return fmt.Errorf("too old: %d, %v", code, out)
		}
		return nil
	})
	if code, out := w.put(alice, "numbered", signedPolicy(t, key, easy, 20, never), "", nil); code != 200 {
		t.Errorf("%d, %v", code, out)
	}
}
