// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// Our challenges are those of the TPM's own TPM2_MakeCredential: it answers them, and
// ours opens what it makes.
func TestMakeCredentialOfTPM(t *testing.T) {
	s := swtpm.Start(t)
	ak := provision(t, s, nil)
	for _, kind := range kinds {
		ek := readEK(t, s, kind)
		loaded, err := tpm2.LoadExternal{InPublic: tpm2.BytesAs2B[tpm2.TPMTPublic](ek.Public.Bytes()), Hierarchy: tpm2.TPMRHNull}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		secret := make([]byte, 32)
		rand.Read(secret)
		made, err := tpm2.MakeCredential{
			Handle: loaded.ObjectHandle, Credential: tpm2.TPM2BDigest{Buffer: secret}, ObjectName: tpm2.TPM2BName{Buffer: ak.Name()},
		}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := (tpm2.FlushContext{FlushHandle: loaded.ObjectHandle}).Execute(s); err != nil {
			t.Fatal(err)
		}
		answer, err := ak.Activate(s, kind, &keys.Challenge{Credential: made.CredentialBlob.Buffer, Secret: made.Secret.Buffer}, none)
		if err != nil || !bytes.Equal(answer, secret) {
			t.Errorf("%s: got %x, %v, want %x", kind, answer, err, secret)
		}
		ours, _, err := keys.NewChallenge(ek.Public.Bytes(), ak.Public())
		if err != nil {
			t.Fatal(err)
		}
		if len(ours.Credential) != len(made.CredentialBlob.Buffer) || len(ours.Secret) != len(made.Secret.Buffer) {
			t.Errorf("%s: our challenge has %d and %d bytes, the TPM's %d and %d", kind,
				len(ours.Credential), len(ours.Secret), len(made.CredentialBlob.Buffer), len(made.Secret.Buffer))
		}
	}
}

// tpm2-tools make challenges that we answer, and answer challenges that we make.
func TestCredentialWithTools(t *testing.T) {
	s := swtpm.Start(t)
	p := s.Listen()
	dir := t.TempDir()
	file := func(t *testing.T, name string) []byte {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	write := func(t *testing.T, name string, b []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(t *testing.T, name string, args ...string) {
		t.Helper()
		if out, err := p.Tool(t, dir, name, args...); err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
	}
	for _, kind := range []struct{ ours, theirs, handle string }{{"rsa2048", "rsa", "0x81010001"}, {"p256", "ecc", "0x81010002"}} {
		t.Run(kind.ours, func(t *testing.T) {
			// Theirs to ours. Their EK stays in the TPM, so that it is also found there.
			run(t, "tpm2_createek", "-c", kind.handle, "-G", kind.theirs, "-u", "ek.pub")
			ak, err := tpmkeys.Provision(s, nil, none)
			if err != nil {
				t.Fatal(err)
			}
			write(t, "secret", []byte("0123456789abcdef0123456789abcdef"))
			run(t, "tpm2_makecredential", "-u", "ek.pub", "-s", "secret", "-n", hex.EncodeToString(ak.Name()), "-o", "credential")
			answer, err := ak.Activate(s, keys.EKKind(kind.ours), parseToolCredential(t, file(t, "credential")), none)
			if err != nil || !bytes.Equal(answer, file(t, "secret")) {
				t.Errorf("theirs to ours: got %q, %v", answer, err)
			}
			if err := ak.Flush(s); err != nil {
				t.Fatal(err)
			}

			// Ours to theirs, for an AK that they make.
			run(t, "tpm2_createak", "-C", kind.handle, "-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name", "-G", "ecc", "-g", "sha256", "-s", "ecdsa")
			akPublic, ekPublic := file(t, "ak.pub")[2:], file(t, "ek.pub")[2:] // TPM2B: without the size
			c, expected, err := keys.NewChallenge(ekPublic, akPublic)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(expected.AK, file(t, "ak.name")) {
				t.Errorf("name %s, tpm2-tools say %x", expected.AK, file(t, "ak.name"))
			}
			write(t, "challenge", toolCredential(c))
			run(t, "tpm2_flushcontext", "-t")
			run(t, "tpm2_startauthsession", "--policy-session", "-S", "session.ctx")
			run(t, "tpm2_policysecret", "-S", "session.ctx", "-c", "e")
			run(t, "tpm2_activatecredential", "-c", "ak.ctx", "-C", kind.handle, "-i", "challenge", "-o", "answer", "-P", "session:session.ctx")
			run(t, "tpm2_flushcontext", "session.ctx")
			run(t, "tpm2_flushcontext", "-t")
			if err := expected.Check(file(t, "answer")); err != nil {
				t.Errorf("ours to theirs: %v", err)
			}
		})
	}
}

// The file of tpm2_makecredential: magic 0xbadcc0de, version 1, both big-endian, then
// TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
func toolCredential(c *keys.Challenge) []byte {
	b := []byte{0xba, 0xdc, 0xc0, 0xde, 0, 0, 0, 1}
	for _, part := range [][]byte{c.Credential, c.Secret} {
		b = binary.BigEndian.AppendUint16(b, uint16(len(part)))
		b = append(b, part...)
	}
	return b
}

func parseToolCredential(t *testing.T, b []byte) *keys.Challenge {
	t.Helper()
	n := int(binary.BigEndian.Uint16(b[8:]))
	c := &keys.Challenge{Credential: b[10 : 10+n], Secret: b[12+n:]}
	if !bytes.Equal(toolCredential(c), b) {
		t.Fatalf("%x is not what this test takes it for", b)
	}
	return c
}
