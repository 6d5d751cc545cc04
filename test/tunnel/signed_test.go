// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/dsse"
	"github.com/cvm-agentd/agentd/verify"
)

// signer makes a key that signs policies, and returns the file of its public half.
func signer(t *testing.T) (key ed25519.PrivateKey, file string) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "policy-keys.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return key, file
}

// TestSignedPolicyTurns: under keys for policies, each reload takes a policy that they signed, which may
// turn to refuse and back. One that another key signed, one without a signature, an older one, and one
// that has expired change nothing, and a line says why.
func TestSignedPolicyTurns(t *testing.T) {
	_, there := machines(t)
	inside := serves(t, there, service(t, anyPort, echo).Addr().String())
	good, err := os.ReadFile(there.Policy())
	if err != nil {
		t.Fatal(err)
	}
	refuses := []byte(strings.ReplaceAll(string(good), inHexadecimal.FindString(string(good)), strings.Repeat("ab", 48)))
	key, keys := signer(t)
	other, _ := signer(t)
	policy := filepath.Join(t.TempDir(), "policy.dsse")
	write := func(text []byte) {
		t.Helper()
		if err := os.WriteFile(policy, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sign := func(key ed25519.PrivateKey, text []byte, l verify.PolicyLabel) {
		t.Helper()
		signed, err := dsse.Sign(key, l.String(), text)
		if err != nil {
			t.Fatal(err)
		}
		write(signed)
	}
	number := func(n uint64) verify.PolicyLabel { return verify.PolicyLabel{Number: n} }
	sign(key, good, number(7))
	outside := startEnd(t, there, "connect", "--config",
		settings(t, policy, there.Root(), inside.address, "close_open = true\npolicy_keys = \""+keys+"\"\npolicy_number = 7\n"))
	opens := func(when string) net.Conn {
		t.Helper()
		c := dialed(t, "tcp", outside.address)
		if err := exchange(c); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		return c
	}
	open := opens("at first")
	bad := map[string]func(text []byte){
		"of the 1 key verify; want 1":        func(text []byte) { sign(other, text, number(9)) },
		"found a policy without a signature": write,
		"found number 6, an older policy":    func(text []byte) { sign(key, text, number(6)) },
		"it expired at 2020-01-31T00:00:00Z": func(text []byte) {
			sign(key, text, verify.PolicyLabel{Number: 9, Expires: time.Date(2020, 1, 31, 0, 0, 0, 0, time.UTC)})
		},
	}
	for says, change := range bad {
		change(refuses)
		outside.reload(says)
		outside.says("the settings of before stay in force", 1)
		opens(says)
		if err := exchange(open); err != nil {
			t.Fatalf("%s, the open connection: %v", says, err)
		}
	}
	sign(key, refuses, number(8))
	outside.reload("agentctl: reloaded")
	wasReset(t, "the open connection", open)
	outside.says("withdrawn: attested TLS: policy", 1)
	for says, change := range bad {
		change(good)
		outside.reload(says)
		resets(t, says, outside.address)
	}
	sign(key, good, number(9))
	outside.reload("agentctl: reloaded")
	opens("after a policy that accepts again")
}

// TestSignedPolicyExpires: a signed policy that expires while the end runs refuses from then on, and
// ends the open connection.
func TestSignedPolicyExpires(t *testing.T) {
	_, there := machines(t)
	inside := serves(t, there, service(t, anyPort, echo).Addr().String())
	good, err := os.ReadFile(there.Policy())
	if err != nil {
		t.Fatal(err)
	}
	key, keys := signer(t)
	policy := filepath.Join(t.TempDir(), "policy.dsse")
	lasts := func(d time.Duration) {
		t.Helper()
		signed, err := dsse.Sign(key, verify.PolicyLabel{Expires: time.Now().Add(d)}.String(), good)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(policy, signed, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lasts(time.Hour)
	outside := startEnd(t, there, "connect", "--config", settings(t, policy, there.Root(), inside.address, "close_open = true\npolicy_keys = \""+keys+"\"\n"))
	open := dialed(t, "tcp", outside.address)
	if err := exchange(open); err != nil {
		t.Fatal(err)
	}
	lasts(10 * time.Second) // long enough to be read, and no more than the test waits
	outside.reload("agentctl: reloaded")
	wasReset(t, "the open connection", open)
	outside.says("withdrawn: attested TLS: policy: the policy expired at ", 1)
	resets(t, "a new connection", outside.address)
	outside.says("refused: attested TLS: policy: the policy expired at ", 1)
	lasts(time.Hour)
	outside.reload("agentctl: reloaded")
	if err := exchange(dialed(t, "tcp", outside.address)); err != nil {
		t.Errorf("under a policy that lasts longer: %v", err)
	}
}
