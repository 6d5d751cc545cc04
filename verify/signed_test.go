// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// policyKeysOf returns the keys of signers, as a relying party reads them.
func policyKeysOf(t *testing.T, signers ...crypto.Signer) *PolicyKeys {
	t.Helper()
	var text []byte
	for _, s := range signers {
		der, err := x509.MarshalPKIXPublicKey(s.Public())
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	k, err := ParsePolicyKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSignedPolicies: a policy counts only if enough of the named keys signed it, as a policy, with a
// number that is high enough, before it expires. Each refusal says what was found.
func TestSignedPolicies(t *testing.T) {
	text, now := []byte(makePolicy("", "")+"# as it is \n"), evidencetest.Time
	one, two, other := evidencetest.Key('a'), letterKey('b'), evidencetest.Key('c')
	sign := func(payloadType string, payload []byte, by ...crypto.Signer) []byte {
		b, err := dsse.Sign(by[0], payloadType, payload)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range by[1:] {
			u, err := dsse.Read(b, MaxPolicy)
			if err != nil {
				t.Fatal(err)
			}
			if b, err = u.Add(s); err != nil {
				t.Fatal(err)
			}
		}
		return b
	}
	twice := func(envelope []byte) []byte {
		before, after, _ := bytes.Cut(envelope, []byte(`"signatures":[`))
		one := after[:bytes.IndexByte(after, ']')]
		return slices.Concat(before, []byte(`"signatures":[`), one, []byte(","), after)
	}
	label := func(number uint64, expires time.Time) string { return PolicyLabel{number, expires}.String() }
	for _, c := range []struct {
		name      string
		envelope  []byte
		threshold int
		least     uint64
		want      string // of the error; empty: accepted
	}{
		{"one key", sign(PolicyType, text, one), 0, 0, ""},
		{"the other key", sign(PolicyType, text, two), 1, 0, ""},
		{"both", sign(PolicyType, text, one, two), 2, 0, ""},
		{"both, and a stranger", sign(PolicyType, text, other, one, two), 2, 0, ""},
		{"one of two", sign(PolicyType, text, one), 2, 0, "found 1 signature, of which 1 of the 2 keys verify; want 2"},
		{"a stranger", sign(PolicyType, text, other), 1, 0, "found 1 signature, of which 0 of the 2 keys verify; want 1"},
		{"a stranger for the second", sign(PolicyType, text, one, other), 2, 0, "found 2 signatures, of which 1"},
		{"no signature", text, 1, 0, "found a policy without a signature"},
		{"a stranger, and no threshold", sign(PolicyType, text, other), 0, 0, "of which 0 of the 2 keys verify; want 1"},
		{"a stranger, and a threshold below 0", sign(PolicyType, text, other), -1, 0, "of which 0 of the 2 keys verify; want 1"},
		{"no signature, and no threshold", text, 0, 0, "found a policy without a signature"},
		{"twice by one key", twice(sign(PolicyType, text, one)), 2, 0, "found 2 signatures, of which 1 of the 2 keys verify; want 2"},
		{"more keys than there are", sign(PolicyType, text, one, two), 3, 0, "of which 2 of the 2 keys verify; want 3"},
		{"something after the envelope", append(sign(PolicyType, text, one), "{}"...), 1, 0, "found something else than a DSSE envelope"},
		{"after it expired", sign(label(0, now.Add(-time.Second)), text, one), 1, 0, "it expired at 2026-06-01T11:59:59Z"},
		{"a number without digits", sign(PolicyType+";number=", text, one), 1, 0, "not spelled"},
		{"a number twice", sign(PolicyType+";number=7;number=7", text, one), 1, 7, "not spelled"},
		{"expiry in another zone", sign(PolicyType+";expires=2999-01-01T00:00:00+01:00", text, one), 1, 0, "not spelled"},
		{"the largest number", sign(label(MaxPolicyNumber, time.Time{}), text, one), 1, MaxPolicyNumber, ""},
		{"nothing", nil, 1, 0, "found a policy without a signature"},
		{"JSON of something else", []byte("{}"), 1, 0, "found something else than a DSSE envelope"},
		{"another document of the key", sign("application/vnd.in-toto+json", text, one), 1, 0, "found another document that these keys signed"},
		{"a number", sign(label(7, time.Time{}), text, one), 1, 7, ""},
		{"an older one", sign(label(6, time.Time{}), text, one), 1, 7, "found number 6, an older policy: want at least 7"},
		{"none where one is asked for", sign(PolicyType, text, one), 1, 1, "found number 0"},
		{"a number in another spelling", sign(PolicyType+";number=07", text, one), 1, 7, "not spelled"},
		{"a number that is too large", sign(PolicyType+";number=9007199254740992", text, one), 1, 7, "not spelled"},
		{"an unknown parameter", sign(PolicyType+";critical=1", text, one), 1, 0, "not spelled"},
		{"a type that begins so", sign(PolicyType+"x", text, one), 1, 0, "not spelled"},
		{"parameters in another order", sign(PolicyType+";expires=2999-01-01T00:00:00Z;number=7", text, one), 1, 7, "not spelled"},
		{"before it expires", sign(label(0, now.Add(time.Second)), text, one), 1, 0, ""},
		{"when it expires", sign(label(0, now), text, one), 1, 0, "it expired at 2026-06-01T12:00:00Z"},
		{"number and expiry", sign(label(7, now.Add(time.Hour)), text, one), 1, 7, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := policyKeysOf(t, one, two)
			k.Threshold, k.Least = c.threshold, c.least
			s, err := k.Parse(c.envelope, now)
			if c.want != "" {
				if s != nil || !errors.Is(err, ErrPolicySignature) || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v, want %q", err, c.want)
				}
				return
			}
			if err != nil || !bytes.Equal(s.Text, text) || len(s.Signers) < max(c.threshold, 1) {
				t.Fatalf("%+v, %v", s, err)
			}
			// The digest in appraisals is that of the policy, signed or not.
			o := baseOptions(t)
			o.Policy = mustPolicy(t, string(text))
			plain, err := appraiseEvidence(evidencetest.New().Encode(t), o)
			if err != nil {
				t.Fatal(err)
			}
			o.Policy = s.Policy
			signed, err := appraiseEvidence(evidencetest.New().Encode(t), o)
			if err != nil || signed.Policy != plain.Policy || signed.Policy == "" {
				t.Errorf("policy %s, want %s, %v", signed.Policy, plain.Policy, err)
			}
		})
	}
	if s, err := new(PolicyKeys).Parse(sign(PolicyType, text, one), now); s != nil || !errors.Is(err, ErrPolicySignature) {
		t.Errorf("no keys accept a policy: %v", err)
	}
	if s, err := policyKeysOf(t, one).Parse(sign(PolicyType, []byte("version = 2\n"), one), now); s != nil || err == nil || errors.Is(err, ErrPolicySignature) {
		t.Errorf("a signed policy that cannot be read: %v", err)
	}
	if _, ok := any(one).(ed25519.PrivateKey); !ok {
		t.Error("no key is of Ed25519")
	}
}
