// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/verify"
)

// testVerifier accepts what evidencetest.New makes.
func testVerifier(t *testing.T) *verify.Verifier {
	t.Helper()
	p, err := verify.ParsePolicy([]byte(fmt.Sprintf("version = 1\n[[launch]]\nmeasurement = %q\nkind = \"plain\"\ncovers = \"firmware\"\n", hex.EncodeToString(evidencetest.Measurement))))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestRefusedIsAnError: no caller who looks at the error alone takes forged evidence, or
// a document that contains nothing, for good. The error contains the appraisal.
func TestRefusedIsAnError(t *testing.T) {
	v := testVerifier(t)
	expect := verify.Expect{Nonce: evidencetest.Nonce}
	good := evidencetest.New().Encode(t)
	if c, err := v.Verify(good, expect, evidencetest.Time); err != nil || !bytes.Equal(c.Statement.Nonce, evidencetest.Nonce) {
		t.Fatalf("good evidence: %v", err)
	}
	forged := evidencetest.New()
	forged.Document = func(e *evidence.Evidence) { e.Batch.Quote.Signature[40] ^= 1 }
	for name, c := range map[string]struct {
		document []byte
		failed   verify.CheckID
		code     int
	}{
		"forged":       {forged.Encode(t), "quote.signature", 2},
		"empty object": {[]byte("{}"), "evidence.decode", 2},
		"nothing":      {nil, "evidence.decode", 2},
		"text":         {[]byte("good"), "evidence.decode", 2},
	} {
		t.Run(name, func(t *testing.T) {
			claims, err := v.Verify(c.document, expect, evidencetest.Time)
			refused(t, claims, err, c.failed, c.code)
		})
	}
	expect.Nonce = bytes.Repeat([]byte{1}, 32)
	claims, err := v.Verify(good, expect, evidencetest.Time)
	refused(t, claims, err, "statement.nonce", 2)
}

// refused checks that an error is a refusal by this check, and that there are no claims.
func refused(t *testing.T, claims *verify.Claims, err error, failed verify.CheckID, code int) {
	t.Helper()
	var r *verify.RefusedError
	if claims != nil || !errors.As(err, &r) {
		t.Fatalf("claims %v, error %v, want a refusal", claims, err)
	}
	if r.Appraisal.Check(failed).Verdict != verify.Fail || r.Appraisal.ExitCode() != code || !strings.Contains(err.Error(), string(failed)) {
		t.Errorf("%v, exit code %d, want %s and %d", err, r.Appraisal.ExitCode(), failed, code)
	}
	if c, err := r.Appraisal.Claims(); c != nil || err == nil {
		t.Errorf("the appraisal of a refusal gives claims: %v", c)
	}
	if b, err := json.Marshal(r.Appraisal); err != nil || bytes.Contains(b, []byte(`"claims"`)) {
		t.Errorf("%v, claims in JSON: %s", err, b)
	}
}

// TestClaimsSurviveJSON: an accepted appraisal that is written and read again has the
// same claims, and its machine's members are flat.
func TestClaimsSurviveJSON(t *testing.T) {
	a, err := testVerifier(t).Appraise(evidencetest.New().Encode(t), verify.Expect{Nonce: evidencetest.Nonce}, evidencetest.Time)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var again verify.Appraisal
	if err := json.Unmarshal(b, &again); err != nil {
		t.Fatal(err)
	}
	one, err := a.Claims()
	if err != nil {
		t.Fatal(err)
	}
	two, err := again.Claims()
	if err != nil {
		t.Fatal(err)
	}
	first, _ := json.Marshal(one)
	second, _ := json.Marshal(two)
	if !bytes.Equal(first, second) || two.Machine.SNP == nil || two.Machine.SNP.Product != "genoa" {
		t.Errorf("claims\n%s\nare read as\n%s", first, second)
	}
	if !bytes.Contains(b, []byte(`"machine":{"platform":"sev-snp","measurement":"`)) || !bytes.Contains(b, []byte(`,"product":"genoa",`)) {
		t.Errorf("members of the machine: %s", b)
	}
}

// TestManyGoroutines: one Verifier with a cache gives each of many goroutines its verdict.
func TestManyGoroutines(t *testing.T) {
	p, err := verify.ParsePolicy([]byte("version = 1\nunlisted_launch = \"allow\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: evidencetest.Roots(t)}, CacheEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	document := evidencetest.New().Encode(t)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			expect, good := verify.Expect{Nonce: evidencetest.Nonce}, i%2 == 0
			if !good {
				expect.Nonce = bytes.Repeat([]byte{byte(i)}, 16)
			}
			if _, err := v.Verify(document, expect, evidencetest.Time); (err == nil) != good {
				t.Errorf("goroutine %d: %v", i, err)
			}
		})
	}
	wg.Wait()
}
