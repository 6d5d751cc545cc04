// SPDX-License-Identifier: Apache-2.0

package clients

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// A failure is an error as a library shows it.
type failure struct{ Kind, Code, Title, Hint, Text string }

// found is what the programs machine.py and machine.mjs print.
type found struct {
	PID, Ready, SamePublicKey, Event, CEL, Metrics, Parsed   bool
	DerivedAgain, DerivedOther, RefusedAfterWipe             bool
	App, Derived, Unsealed, Shown, Plan, Measured, Discarded string
	WrongType, WrongMember, WrongInside, NotParsed           string
	AgentKey, Evidence, Anchored, PublicKey, Signature       []byte
	Proven                                                   map[string][]byte
	Records, Paths, Wiped                                    int
	Apps, Methods                                            []string
	NoSuchApp, ShortNonce, NotSealed, WrongContext, BadProof *failure
	Nowhere, NoTime, Aborted                                 *failure
	Child, Threads, Together, Verified                       *bool // in one language each
	WipedAfterWith                                           int
}

// TestMachine: a program that uses the library gets from a machine what a program in Go gets. Its
// evidence is accepted, its keys are the app's, and its secrets show nowhere by accident.
func TestMachine(t *testing.T) {
	each(t, func(t *testing.T, l language) {
		m := machine(t)
		var f found
		if err := json.Unmarshal(l.run(t, "machine", "", sockets(m)), &f); err != nil {
			t.Fatal(err)
		}
		for name, ok := range map[string]bool{
			"pid": f.PID, "ready": f.Ready, "the public key": f.SamePublicKey, "the event": f.Event, "CEL": f.CEL, "metrics": f.Metrics,
			"what the document claims": f.Parsed, "the app": f.App == "billing", "the plan": strings.HasPrefix(f.Plan, "token-"), "the measurement": f.Measured == "billing",
			"what was sealed": f.Unsealed == "correct horse battery staple", "what was discarded": f.Discarded == "not-found",
			"the records": f.Records == 1, "the apps": slices.Equal(f.Apps, []string{"billing"}), "the document of the API": f.Paths >= 50,
			"the derived secret again": f.DerivedAgain, "another derived secret": !f.DerivedOther, "what was wiped": f.Wiped == 0 && f.WipedAfterWith == 0 && f.RefusedAfterWipe,
			"a document that is not one": f.NotParsed == "bad-answer", "a value of another type": f.WrongType != "", "an unknown member": f.WrongMember != "",
			"an unknown member of a part": f.WrongInside != "",
			"a method for each operation": len(f.Methods) == 0,
		} {
			if !ok {
				t.Errorf("%s: %+v", name, f)
			}
		}
		for name, ok := range map[string]*bool{"a child after fork": f.Child, "threads": f.Threads, "calls side by side": f.Together, "the signature": f.Verified} {
			if ok != nil && !*ok {
				t.Errorf("%s", name)
			}
		}
		f.refusals(t, l)
		f.secrets(t)
		f.verdicts(t, m)
	})
}

// refusals checks the errors: class, code, title and hint.
func (f *found) refusals(t *testing.T, l language) {
	for _, c := range []struct {
		name       string
		got        *failure
		kind, code string
	}{
		{"no such app", f.NoSuchApp, "Misuse", "no-such-app"},
		{"a short nonce", f.ShortNonce, "Misuse", "invalid-value"},
		{"nothing sealed", f.NotSealed, "Misuse", "not-found"},
		{"other associated data", f.WrongContext, "Sealed", "other-associated-data"},
		{"a proof that is none", f.BadProof, "Misuse", "bad-key-proof"},
		{"no socket", f.Nowhere, "Unreachable", "unreachable"},
		{"no time", f.NoTime, "TimedOut", "timed-out"},
		{"a signal", f.Aborted, "Aborted", "aborted"},
	} {
		if c.name == "a signal" && l.name == "Python" {
			continue
		}
		if c.got == nil || c.got.Kind != c.kind || c.got.Code != c.code || c.got.Title == "" || c.got.Text == "" {
			t.Errorf("%s: %+v, want %s with %s", c.name, c.got, c.kind, c.code)
			continue
		}
		if info := api.Code(c.code).Info(); info.Title != "" && (c.got.Title != info.Title || c.got.Hint != info.Hint || !strings.Contains(c.got.Text, info.Hint)) {
			t.Errorf("%s: %+v, want %q and %q", c.name, c.got, info.Title, info.Hint)
		}
	}
	if f.Nowhere != nil && !strings.Contains(f.Nowhere.Text, "AGENTD_SOCKET") {
		t.Errorf("no socket: %q", f.Nowhere.Text)
	}
}

// secrets checks that nothing that shows objects shows the derived secret, or the unsealed one.
func (f *found) secrets(t *testing.T) {
	b, err := hex.DecodeString(f.Derived)
	if err != nil || len(b) != 32 {
		t.Fatalf("the derived secret %q: %v", f.Derived, err)
	}
	var numbers []string // as an array of numbers shows
	for _, x := range b[:4] {
		numbers = append(numbers, strconv.Itoa(int(x)))
	}
	if !strings.Contains(f.Shown, "<Secret of 32 bytes>") || !strings.Contains(f.Shown, "<Secret of 28 bytes>") {
		t.Errorf("what is shown: %s", f.Shown)
	}
	for _, s := range []string{f.Derived[:16], base64.StdEncoding.EncodeToString(b)[:16], strings.Join(numbers, ","), strings.Join(numbers, ", "), "correct", base64.StdEncoding.EncodeToString([]byte("correct ho"))[:12], "99,111,114"} {
		if strings.Contains(f.Shown, s) {
			t.Errorf("a secret is shown: %s", f.Shown)
		}
	}
}

// verdicts verifies what the program asked for, as a relying party does.
func (f *found) verdicts(t *testing.T, m *simulated.Machine) {
	text, err := os.ReadFile(m.Policy())
	if err != nil {
		t.Fatal(err)
	}
	nonce := make([]byte, 32)
	for i := range nonce {
		nonce[i] = byte(i)
	}
	check := func(name, policy string, document []byte, expect verify.Expect) {
		t.Helper()
		p, err := verify.ParsePolicy([]byte(policy))
		if err != nil {
			t.Fatal(err)
		}
		v, err := verify.New(p, relying.Trust(t, m))
		if err != nil {
			t.Fatal(err)
		}
		expect.Nonce = nonce
		if _, err := v.Verify(document, expect, time.Now()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	proof := string(text) + "\n[caller]\nkey_proof = true\n"
	check("evidence", proof, f.Evidence, verify.Expect{Audience: "billing.example", UserData: []byte("user"), PublicKey: f.PublicKey})
	check("anchored evidence", string(text), f.Anchored, verify.Expect{})
	if len(f.Proven) != 5 {
		t.Errorf("%d kinds of keys", len(f.Proven))
	}
	for name, document := range f.Proven {
		check("proof by "+name, proof, document, verify.Expect{Audience: "billing.example"})
	}
	e, err := evidence.Parse(f.Evidence)
	if err != nil || !bytes.Equal(e.AgentKey, f.AgentKey) || e.Log == nil {
		t.Errorf("evidence: %v", err)
	}
	public, err := x509.ParsePKIXPublicKey(f.PublicKey)
	if key, ok := public.(ed25519.PublicKey); err != nil || !ok || !ed25519.Verify(key, []byte("message"), f.Signature) {
		t.Errorf("the signature: %v", err)
	}
}
