// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/internal/tunnel"
	"github.com/cvm-agentd/agentd/verify"
)

// writtenFile writes a file, and returns its name.
func writtenFile(t *testing.T, name, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil { // whatever the umask is
		t.Fatal(err)
	}
	return path
}

// TestTunnelSettings: settings that contradict each other, or would have no effect, are refused, and so
// is a key of the other end, or one that a flag gives too.
func TestTunnelSettings(t *testing.T) {
	const policy = "policy = \"p\"\n"
	for _, c := range []struct {
		role tunnel.Role
		text string
		want string // in the error; empty: they can be used
	}{
		{tunnel.Serve, "", ""},
		{tunnel.Connect, policy, ""},
		{tunnel.Connect, policy + "continue = \"1h\"\n", ""},
		{tunnel.Connect, policy + "attest = true\naudiences = [\"a\"]\nanchored_only = true\n", ""},
		{tunnel.Connect, "", "policy is missing"},
		{tunnel.Serve, "attest = false\n", "neither end would be verified"},
		{tunnel.Serve, "certificate = \"c\"\n", "certificate and key belong together"},
		{tunnel.Connect, policy + "any_certificate = true\nroots = \"r\"\n", "any-certificate and roots contradict"},
		{tunnel.Connect, policy + "any_certificate = true\nserver_name = \"n\"\n", "any-certificate and server-name contradict"},
		{tunnel.Connect, policy + "any_certificate = true\nwarn = true\n", "would accept any machine"},
		{tunnel.Connect, policy + "audiences = [\"a\"]\n", "give attest too"},
		{tunnel.Connect, policy + "anchored_only = true\n", "give attest too"},
		{tunnel.Connect, policy + "continue = \"61m\"\n", "continue: want a time of at most 1h"},
		{tunnel.Connect, policy + "continue = \"1m\"\nfresh = true\n", "fresh and continue contradict"},
		{tunnel.Serve, "proxy_protocol = \"v1\"\n", "proxy-protocol: want v2"},
		{tunnel.Serve, policy + "well_known = true\n", "well-known and policy contradict"},
		{tunnel.Serve, policy + "attest = false\nwell_known = true\n", "well-known"},
		{tunnel.Serve, "continue = \"1m\"\n", "give policy too"},
		{tunnel.Serve, "close_open = true\n", "give policy too"},
		{tunnel.Serve, "crl = [\"c\"]\n", "give policy too"},
		{tunnel.Serve, "collateral = \"c\"\n", "give policy too"},
		{tunnel.Serve, "enrolments = \"e\"\n", "give policy too"},
		{tunnel.Connect, policy + "enrolments = \"-\"\n", "standard input cannot be read again"},
		{tunnel.Connect, "policy = \"-\"\n", "standard input cannot be read again"},
		{tunnel.Serve, "server_name = \"n\"\n", "this is for the other end"},
		{tunnel.Connect, policy + "well_known = true\n", "this is for the other end"},
		{tunnel.Serve, "listen = \":1\"\n", "--listen is given too"},
		{tunnel.Serve, "unknown = true\n", "unknown key"},
	} {
		f := new(tunnelFlags)
		f.add(&cobra.Command{}, c.role)
		if err := f.set.Parse([]string{"--listen", ":1"}); err != nil {
			t.Fatal(err)
		}
		f.file = writtenFile(t, "tunnel.toml", "to = \"host:1\"\n"+c.text, 0o600)
		k, err := f.keys()
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), f.file)) {
			t.Errorf("%s, %q: %v, want %q", c.role, c.text, err, c.want)
		}
		if err == nil && (k.To != "host:1" || k.Listen != ":1") {
			t.Errorf("%s, %q: %+v", c.role, c.text, k)
		}
	}
	f := new(tunnelFlags)
	f.add(&cobra.Command{}, tunnel.Serve)
	if _, err := f.keys(); err == nil || !strings.Contains(err.Error(), "to is missing") {
		t.Errorf("without an address: %v", err)
	}
	f.file = writtenFile(t, "tunnel.toml", "to = \"host:1\"\n", 0o666)
	if _, err := f.keys(); err == nil {
		t.Error("a file that every user can write is read")
	}
}

// TestTunnelCaller: a policy without a caller is refused in the words of the command.
func TestTunnelCaller(t *testing.T) {
	const policy = "version = 1\nfreshness = \"anchored\"\nmax_anchor_age = \"10m\"\n\n[[launch]]\nmeasurement = \"%s\"\nkind = \"plain\"\ncovers = \"firmware+kernel+cmdline\"\n"
	path := writtenFile(t, "policy.toml", strings.Replace(policy, "%s", strings.Repeat("ab", 48), 1), 0o600)
	e := &tunnelProcess{t: &terminal{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, agent: new(sockets)}
	e.flags.add(&cobra.Command{}, tunnel.Connect)
	k := e.flags.given
	k.To, k.Policy, k.AnyCertificate = "host:1", path, true
	if _, err := e.load(&k); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "give accept-any-program-of-the-machine") {
		t.Errorf("without a caller: %v", err)
	}
	k.AnyProgram = true
	if s, err := e.load(&k); err != nil || !s.Verifier.AcceptAnyCaller {
		t.Errorf("any caller: %v", err)
	}
	k.Enrolments = t.TempDir()
	if _, err := e.load(&k); err == nil || !strings.Contains(err.Error(), "the policy does not look at enrolments") {
		t.Errorf("enrolments that would not count: %v", err)
	}
}

// TestTunnelKey: a private key that others can read, or change, is refused.
func TestTunnelKey(t *testing.T) {
	made, err := attestedtls.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(made.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate := writtenFile(t, "c.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Certificate[0]})), 0o644)
	private := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	for mode, want := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o640: true, 0o440: true, 0o644: false, 0o604: false, 0o620: false, 0o602: false} {
		_, err := new(terminal).readKeyPair(certificate, writtenFile(t, "k.pem", private, mode))
		if (err == nil) != want {
			t.Errorf("mode %#o: %v", mode, err)
		}
		if err != nil && strings.Contains(err.Error(), "PRIVATE KEY-----") {
			t.Error("the key is printed")
		}
	}
	if os.Geteuid() == 0 {
		other := writtenFile(t, "k.pem", private, 0o600)
		if err := os.Chown(other, 1, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := new(terminal).readKeyPair(certificate, other); err == nil || !strings.Contains(err.Error(), "another user") {
			t.Errorf("the key of another user: %v", err)
		}
	}
}

// TestTunnelFiles: figures are for this machine alone, an access log is a file and not what leads
// elsewhere, and a folder of collateral is read whole or not at all.
func TestTunnelFiles(t *testing.T) {
	for _, where := range []string{":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0", "host.example:1", "unix:relative"} {
		if l, err := metricsListener(t.Context(), where); err == nil {
			l.Close()
			t.Errorf("figures on %s", where)
		}
	}
	dir := t.TempDir()
	there := writtenFile(t, "there", "before\n", 0o600)
	link, pipe := filepath.Join(dir, "link"), filepath.Join(dir, "pipe")
	if err := os.Symlink(there, link); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, pipe, dir, "/dev/null"} {
		if w, err := new(terminal).openAccessLog(name); err == nil {
			w.Close()
			t.Errorf("%s becomes an access log", name)
		}
	}
	w, err := new(terminal).openAccessLog(there)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "after\n")
	w.Close()
	if b, err := os.ReadFile(there); err != nil || string(b) != "before\nafter\n" {
		t.Errorf("%q, %v", b, err)
	}

	made, err := attestedtls.SelfSigned()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	for name, content := range map[string][]byte{"vcek.der": made.Certificate[0], "note.txt": []byte("not read")} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var c verify.Config
	if err := addFolder(folder, &c); err != nil || len(c.Certificates) != 1 {
		t.Errorf("%d certificates, %v", len(c.Certificates), err)
	}
	for _, name := range []string{"bad.crl", "bad.pem"} {
		bad := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(bad, []byte("neither"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := addFolder(filepath.Dir(bad), new(verify.Config)); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := addFolder(filepath.Join(dir, "none"), new(verify.Config)); err == nil {
		t.Error("a folder that is not there is taken for an empty one")
	}
}
