// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestGoogle: a machine of Google Cloud, whose attestation key is RSA.
func TestGoogle(t *testing.T) {
	b := newBed(t, "[tpm]\nak = \"gcp-rsa\"\n", "--machine", "gcp")
	t.Run("certificates", b.certificates)
	t.Run("refused", b.refused)
	t.Run("not vouched for", b.notVouchedFor)
}

// TestAzure: a machine of Azure, whose paravisor makes an attestation key of RSA.
func TestAzure(t *testing.T) {
	b := newBed(t, "without_derived_keys = true\n", "--machine", "azure")
	if c, err := b.obtain(b.client("agentd")); err != nil || c.Leaf == nil {
		t.Error(err)
	}
}

// TestOwnRSA: a machine whose platform vouches for no attestation key, and whose agent makes one of RSA.
func TestOwnRSA(t *testing.T) {
	b := newBed(t, "[tpm]\nak = \"own-rsa\"\n")
	if c, err := b.obtain(b.client("agentd")); err != nil || c.Leaf == nil {
		t.Error(err)
	}
}

// TestStepTakesNoECC: step-ca 0.30.2 verifies with attestation keys of RSA alone, and docs/acme.md says so.
// When this fails, it takes others too.
func TestStepTakesNoECC(t *testing.T) {
	b := newBed(t, "")
	if _, err := b.obtain(b.client("agentd")); err == nil || !strings.Contains(err.Error(), "only RSA verification keys are supported") {
		t.Error(err)
	}
}

// certificates: a measured app gets certificates from step-ca, and both ends of a connection use keys that
// are in the TPM.
func (b *bed) certificates(t *testing.T) {
	own, err := b.obtain(b.client("agentd"))
	if err != nil {
		t.Fatalf("%v\n%s", err, b.stepCA.Output())
	}
	ak, err := b.machine.Client().AK(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	identifier := strings.TrimPrefix(fmt.Sprintf("%x", []byte(ak.Name)), "000b")
	if own.Leaf.Subject.CommonName != identifier || len(own.Certificate) != 2 {
		t.Errorf("%v, %d certificates", own.Leaf.Subject, len(own.Certificate))
	}
	if _, err := own.Leaf.Verify(x509.VerifyOptions{Roots: pool(b.ca), Intermediates: pool(b.issuing), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		t.Error(err)
	}
	again, err := b.obtain(b.client("agentd"))
	if err != nil {
		t.Fatalf("a second time, with the same account: %v", err)
	}
	if again.Leaf.SerialNumber.Cmp(own.Leaf.SerialNumber) == 0 || string(again.Leaf.RawSubjectPublicKeyInfo) != string(own.Leaf.RawSubjectPublicKeyInfo) {
		t.Error("the second certificate is the first, or of another key")
	}
	b.command(t, identifier)
	c := b.client("agentd-servers")
	c.Identifier = identifier
	server, err := b.obtain(c)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.stepCA.Output())
	}
	name := identifier[:32] + ".machines.example"
	seen, err := connect(t, server, own, pool(b.ca), name)
	if err != nil || seen != identifier {
		t.Errorf("%v, the server saw %q", err, seen)
	}
	if _, err := connect(t, server, own, pool(b.ca), "other.machines.example"); err == nil {
		t.Error("the server passes for another one")
	}
	c.Identifier = strings.Repeat("0", 64)
	if _, err := b.obtain(c); err == nil || !strings.Contains(err.Error(), "names this machine") {
		t.Errorf("for another machine than expected: %v", err)
	}
}

// command: agentctl writes the chain, and its exit code says what the attestation authority said.
func (b *bed) command(t *testing.T, identifier string) {
	t.Helper()
	run := func(policy string) (int, string) {
		cmd := exec.CommandContext(t.Context(), filepath.Join(b.commands, "agentctl"), "certificate", "--key", "tls", "--authority", b.verifier+policy, "--authority-roots", b.path("web.crt"),
			"--acme", b.step+"/acme/agentd/directory", "--acme-roots", b.path("ca.crt"), "--identifier", identifier, "--out", b.path("chain.pem"))
		cmd.Env = append(os.Environ(), "AGENTD_SOCKET="+b.machine.Socket())
		out, _ := cmd.CombinedOutput()
		return cmd.ProcessState.ExitCode(), string(out)
	}
	if code, out := run("/p/strict"); code != 5 || !strings.Contains(out, "policy.launch") {
		t.Errorf("refused: %d, %s", code, out)
	}
	if code, out := run("/p/other"); code != 1 || !strings.Contains(out, "under this policy") {
		t.Errorf("not certified: %d, %s", code, out)
	}
	if _, err := os.Stat(b.path("chain.pem")); err == nil {
		t.Error("a chain was written")
	}
	if code, out := run(""); code != 0 {
		t.Fatalf("%d, %s", code, out)
	}
	chain, err := os.ReadFile(b.path("chain.pem"))
	if err != nil {
		t.Fatal(err)
	}
	block, rest := pem.Decode(chain)
	x, err := x509.ParseCertificate(block.Bytes)
	if err != nil || x.Subject.CommonName != identifier || x.CheckSignatureFrom(b.issuing.x) != nil || !strings.Contains(string(rest), "CERTIFICATE") {
		t.Errorf("%v, %s", err, chain)
	}
}

// connect has a client reach a server, each with a certificate, and returns whom the server saw.
func connect(t *testing.T, server, client *tls.Certificate, roots *x509.CertPool, name string) (string, error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*server}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	failed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			failed <- err
			return
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(time.Minute))
		if err = c.(*tls.Conn).Handshake(); err == nil {
			_, err = io.WriteString(c, c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName)
		}
		failed <- err
	}()
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: time.Minute}, "tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: name, Certificates: []tls.Certificate{*client}})
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	said, err := io.ReadAll(c)
	if err != nil {
		return "", fmt.Errorf("%w, and the server: %w", err, <-failed)
	}
	return string(said), <-failed
}
