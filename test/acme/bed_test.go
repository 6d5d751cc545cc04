// SPDX-License-Identifier: Apache-2.0

package acme

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/deviceattest"
	"github.com/cvm-agentd/agentd/internal/declared"
	"github.com/cvm-agentd/agentd/test/pages"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
)

// programs names the folder with step-ca.
const programs = "AGENTD_TEST_STEP_CA"

// unit is what this process is to the simulated machine.
const unit = "billing.service"

// TestMain makes this process the app: the machine reads the variable with which a program was started.
func TestMain(m *testing.M) {
	if os.Getenv(programs) != "" && os.Getenv(declared.Variable) != unit {
		self, err := os.Executable()
		if err == nil {
			err = syscall.Exec(self, os.Args, append(os.Environ(), declared.Variable+"="+unit))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// signer is a certificate with its key.
type signer struct {
	x   *x509.Certificate
	key crypto.Signer
}

// issue returns a certificate of an authority, issued by s or, if that is nil, by itself.
func (s *signer) issue(t *testing.T, name string, change func(*x509.Certificate)) *signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(x)
	}
	parent, by := x, crypto.Signer(key)
	if s != nil {
		parent, by = s.x, s.key
	}
	der, err := x509.CreateCertificate(rand.Reader, x, parent, key.Public(), by)
	if err == nil {
		x, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &signer{x, key}
}

func pool(all ...*signer) *x509.CertPool {
	p := x509.NewCertPool()
	for _, s := range all {
		p.AddCert(s.x)
	}
	return p
}

// bed is a machine, an attestation authority and a certification authority.
type bed struct {
	t        *testing.T
	dir      string
	commands string
	machine  *simulated.Machine

	web            *signer // authority of TLS of agentd-verifier and its administrators
	root, vouching *signer // attestation root, and the authority below it
	ca, issuing    *signer // root of step-ca, and its authority below it
	verifier       string  // its URL
	step           string  // URL of step-ca
	stepCA         *servers.Process
}

// newBed is one with a machine that is started with these arguments, and has this after certify_apps of
// its configuration.
func newBed(t *testing.T, config string, machine ...string) *bed {
	t.Helper()
	folder := os.Getenv(programs)
	if folder == "" {
		t.Skip("needs step-ca: run `make test-acme`")
	}
	b := &bed{t: t, dir: t.TempDir()}
	var none *signer
	b.web, b.ca = none.issue(t, "web", nil), none.issue(t, "ca", nil)
	b.issuing = b.ca.issue(t, "issuing", nil)
	b.makeAuthority()
	b.startMachine(config, machine...)
	b.startVerifier()
	b.startStep(folder)
	return b
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) write(name string, content []byte) string {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), content, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return b.path(name)
}

// pair writes a certificate and its key.
func (b *bed) pair(name string, s *signer) {
	b.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name+".crt", text(s))
	b.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func text(s *signer) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.x.Raw})
}

// makeAuthority makes the attestation authority as docs/acme.md does.
func (b *bed) makeAuthority() {
	t := b.t
	page, err := pages.Read("../../docs/acme.md")
	if err != nil {
		t.Fatal(err)
	}
	session := ""
	for _, x := range page.Blocks {
		if x.Lang == "sh" && strings.Contains(x.Text, "ak.crt") {
			session = x.Text
		}
	}
	cmd := exec.CommandContext(t.Context(), "sh", "-euc", session)
	cmd.Dir = b.dir
	if out, err := cmd.CombinedOutput(); err != nil || session == "" {
		t.Fatalf("%v\n%s\n%s", err, session, out)
	}
	b.root, b.vouching = b.read("root"), b.read("ak")
}

// read reads a certificate and its key.
func (b *bed) read(name string) *signer {
	b.t.Helper()
	pair, err := tls.LoadX509KeyPair(b.path(name+".crt"), b.path(name+".key"))
	if err != nil {
		b.t.Fatal(err)
	}
	return &signer{pair.Leaf, pair.PrivateKey.(crypto.Signer)}
}

// startMachine starts a machine that lets the app billing, which this process is, have keys certified.
func (b *bed) startMachine(config string, args ...string) {
	t := b.t
	commands, done, err := simulated.Commands()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(done)
	b.commands = commands
	dir, err := os.MkdirTemp("", "acme-") // for a short path of its sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	u, err := user.Current()
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, "apps.d"), 0o700)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "apps.d", "billing.toml"), fmt.Appendf(nil, "unit = %q\nuser = %q\nfiles = [%q, %q]\n", unit, u.Username, self, filepath.Join(commands, "agentctl")), 0o600)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.toml"), []byte("[keys]\ncertify_apps = [\"billing\"]\n"+config), 0o600)
	}
	if err == nil {
		b.machine, err = simulated.Start(commands, dir, "", append(args, "--declare-identity-without-checking")...)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.machine.Stop(); err != nil {
			t.Error(err)
		}
	})
}

// startVerifier starts agentd-verifier with two policies: default accepts the machine, strict no machine.
func (b *bed) startVerifier() {
	t := b.t
	cmd := exec.Command("go", "build", "-o", b.dir+"/", "./cmd/agentd-verifier")
	cmd.Dir = "../../service"
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	leaf := func(x *x509.Certificate) {
		x.IsCA, x.KeyUsage, x.IPAddresses = false, x509.KeyUsageDigitalSignature, []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	b.pair("server", b.web.issue(t, "verifier", leaf))
	b.write("web.crt", text(b.web))
	root, err := os.ReadFile(b.machine.Root())
	if err != nil {
		t.Fatal(err)
	}
	b.write("test-root.pem", root)
	address, admin := servers.Local(servers.Port(t)), servers.Local(servers.Port(t))
	b.verifier = "https://" + address
	config := b.write("verifier.toml", fmt.Appendf(nil, `[server]
listen = %q
certificate = %q
key = %q
[database]
file = %q
[authority]
certificate = %q
key = %q
policies = ["default"]
[trust]
test_root_that_vouches_for_no_hardware = %q
[admin]
listen = %q
client_ca = %q
names = ["alice"]
`, address, b.path("server.crt"), b.path("server.key"), b.path("verifier.db"), b.path("ak.crt"), b.path("ak.key"), b.path("test-root.pem"), admin, b.path("web.crt")))
	alice := b.web.issue(t, "alice", leaf)
	h := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(b.web), Certificates: []tls.Certificate{{Certificate: [][]byte{alice.x.Raw}, PrivateKey: alice.key}}}}}
	servers.Start(t, exec.Command(b.path("agentd-verifier"), "serve", "--config", config), syscall.SIGTERM, ready(h, b.verifier+"/healthz"))
	policy, err := os.ReadFile(b.machine.Policy())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"default": string(policy), "other": string(policy), "strict": regexp.MustCompile(`measurement = "[0-9a-f]{8}`).ReplaceAllString(string(policy), `measurement = "0badcafe`)} {
		body, err := json.Marshal(map[string]string{"text": text})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, "https://"+admin+"/admin/v1/policies/"+name, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := h.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		said, _ := io.ReadAll(a.Body)
		a.Body.Close()
		if a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s: %s", name, a.Status, said)
		}
	}
}

// ready returns what reports whether a server answers.
func ready(h *http.Client, url string) func() error {
	return func() error {
		r, err := h.Get(url)
		if err == nil {
			r.Body.Close()
		}
		return err
	}
}

// startStep starts step-ca with the configuration that docs/acme.md shows.
func (b *bed) startStep(folder string) {
	t := b.t
	b.pair("issuing", b.issuing)
	b.write("ca.crt", text(b.ca))
	b.write("attestation-root.crt", text(b.root))
	page, err := pages.Read("../../docs/acme.md")
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	for _, x := range page.Blocks {
		if x.Lang == "json" && strings.Contains(x.Text, "provisioners") {
			if err := json.Unmarshal([]byte(x.Text), &config); err != nil {
				t.Fatalf("%v\n%s", err, x.Text)
			}
		}
	}
	if config == nil {
		t.Fatal("docs/acme.md shows no configuration of step-ca")
	}
	address := servers.Local(servers.Port(t))
	b.step = "https://" + address
	config["root"], config["crt"], config["key"] = b.path("ca.crt"), b.path("issuing.crt"), b.path("issuing.key")
	config["address"], config["dnsNames"] = address, []string{"127.0.0.1"}
	config["db"].(map[string]any)["dataSource"] = b.path("step-db")
	for _, p := range config["authority"].(map[string]any)["provisioners"].([]any) {
		p.(map[string]any)["attestationRoots"] = text(b.root) // in base64
	}
	encoded, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(folder, "step-ca"), b.write("ca.json", encoded))
	cmd.Env = append(os.Environ(), "STEPPATH="+b.dir)
	h := &http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool(b.ca)}}}
	b.stepCA = servers.Start(t, cmd, syscall.SIGTERM, ready(h, b.step+"/health"))
}

// client is one of the app's certificates, at a provisioner of step-ca.
func (b *bed) client(provisioner string) *deviceattest.Client {
	return &deviceattest.Client{
		Agent: b.machine.Client(), Label: "tls",
		Authority: deviceattest.Server{URL: b.verifier, TLS: &tls.Config{RootCAs: pool(b.web)}},
		Directory: deviceattest.Server{URL: b.step + "/acme/" + provisioner + "/directory", TLS: &tls.Config{RootCAs: pool(b.ca)}},
	}
}

func (b *bed) obtain(c *deviceattest.Client) (*tls.Certificate, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), servers.Patience)
	defer cancel()
	return c.Obtain(ctx)
}
