// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
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
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/test/tunnel/servers"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// program is the command, built once for all tests.
var program = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "agentd-verifier-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "../cmd/agentd-verifier").CombinedOutput()
	if err != nil {
		err = fmt.Errorf("build the command: %w\n%s", err, out)
	}
	return filepath.Join(dir, "agentd-verifier"), err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := program(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// authority certifies the service, its clients and its administrators.
type authority struct {
	key  *ecdsa.PrivateKey
	root *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{key: key}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, x, x, key.Public(), key)
	if err == nil {
		a.root, err = x509.ParseCertificate(der)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue returns a certificate with its key.
func (a *authority) issue(t *testing.T, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, x, a.root, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// bed is a database, and what workers on it have in common.
type bed struct {
	t        *testing.T
	dir      string
	ca       *authority
	postgres *servers.Postgres // nil: SQLite
	database string            // the table [database]
	extra    string            // more of the configuration
	admin    string            // the tables below [admin]
	tracing  string            // the table [tracing]
	policies string            // the table [policies]
	limits   string            // the table [limits]
	roots    []*x509.Certificate
	own      *tls.Certificate // that the client of a worker comes with; nil: none

	mu      sync.Mutex
	clients [16]*http.Client // with mu
}

// newBed is one on SQLite, or on a PostgreSQL of its own with these settings.
func newBed(t *testing.T, postgres bool, settings ...string) *bed {
	t.Helper()
	b := &bed{t: t, dir: t.TempDir(), ca: newAuthority(t), limits: "rate = 100000\nburst = 100000\nclient_at_once = 1000\nat_once = 64\n"}
	for _, p := range snp.Products() {
		b.roots = append(b.roots, evidencetest.Root(t, p))
	}
	b.database = fmt.Sprintf("file = %q", filepath.Join(b.dir, "verifier.db"))
	if postgres {
		b.postgres = servers.StartPostgres(t, servers.IfThere(t, "initdb", "postgres", "psql"), settings...)
		b.database = fmt.Sprintf("url = \"postgres://tester@%s/postgres?sslmode=disable\"", b.postgres.Address)
	}
	b.write("ca.crt", encode("CERTIFICATE", b.ca.root.Raw))
	b.writePair("server", b.ca.issue(t, "service"))
	b.newTokenKey("token.key")
	return b
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (b *bed) path(name string) string { return filepath.Join(b.dir, name) }

func (b *bed) write(name string, content []byte) {
	b.t.Helper()
	if err := os.WriteFile(b.path(name), content, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bed) writePair(name string, c tls.Certificate) {
	b.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name+".crt", encode("CERTIFICATE", c.Certificate[0]))
	b.write(name+".key", encode("PRIVATE KEY", der))
}

func (b *bed) newTokenKey(name string) {
	b.t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.write(name, encode("PRIVATE KEY", der))
}

// worker is a running process.
type worker struct {
	*servers.Process
	*bed
	name              string
	url, admin, stats string
	client            *http.Client
}

// config writes the configuration of a worker.
func (w *worker) config(tokenKeys ...string) {
	w.t.Helper()
	var roots bytes.Buffer
	for _, r := range w.roots {
		roots.Write(encode("CERTIFICATE", r.Raw))
	}
	w.write("roots.pem", roots.Bytes())
	for i, k := range tokenKeys {
		tokenKeys[i] = fmt.Sprintf("%q", w.path(k))
	}
	address := func(url string) string { _, a, _ := strings.Cut(url, "://"); return a }
	w.write(w.name+".toml", fmt.Appendf(nil, `[server]
listen = %q
certificate = %q
key = %q
drain_seconds = 1
%s
[database]
%s
[tokens]
issuer = "https://verifier.example"
keys = [%s]
lifetime_seconds = 60
[trust]
test_root_that_vouches_for_no_hardware = %q
[admin]
listen = %q
client_ca = %q
names = ["alice"]
%s
[monitoring]
listen = %q
[tracing]
%s
[policies]
%s
[limits]
%s
`, address(w.url), w.path("server.crt"), w.path("server.key"), w.extra, w.database, strings.Join(tokenKeys, ", "), w.path("roots.pem"), address(w.admin), w.path("ca.crt"), w.bed.admin, address(w.stats), w.tracing, w.policies, w.limits))
}

// start starts a worker. It is not ready if the database is away.
func (b *bed) start(name string) *worker {
	b.t.Helper()
	w := &worker{bed: b, name: name, url: "https://" + servers.Local(servers.Port(b.t)), admin: "https://" + servers.Local(servers.Port(b.t)), stats: "http://" + servers.Local(servers.Port(b.t)), client: b.clientWith(b.own)}
	w.config("token.key")
	w.again()
	return w
}

// again starts the process, also after it ended.
func (w *worker) again() {
	w.t.Helper()
	path, err := program()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(path, "serve", "--config", w.path(w.name+".toml"))
	var p *servers.Process
	w.t.Cleanup(func() { // after the process is ended
		if p != nil && strings.Contains(p.Output(), "DATA RACE") {
			w.t.Errorf("a data race:\n%s", p.Output())
		}
	})
	w.Process = servers.Start(w.t, cmd, syscall.SIGTERM, func() error {
		r, err := w.client.Get(w.url + "/healthz")
		if err == nil {
			r.Body.Close()
		}
		return err
	})
	p = w.Process
}

// run runs another command of the program, and returns its exit code and what it printed.
func (w *worker) run(args ...string) (int, string) {
	w.t.Helper()
	path, err := program()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(path, append([]string{args[0], "--config", w.path(w.name + ".toml")}, args[1:]...)...)
	out, _ := cmd.CombinedOutput()
	return cmd.ProcessState.ExitCode(), string(out)
}

// clientWith is a client of the service, with a certificate if one is given.
func (b *bed) clientWith(c *tls.Certificate) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(b.ca.root)
	config := &tls.Config{RootCAs: roots}
	if c != nil {
		config.Certificates = []tls.Certificate{*c}
	}
	transport := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 256}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * time.Minute}
}

// clientOf is the client of a number: 16 share one, so that each has not a connection of its own.
func (b *bed) clientOf(n int) *http.Client {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.clients[n%16] == nil {
		b.clients[n%16] = b.clientWith(nil)
	}
	return b.clients[n%16]
}

// ask sends a request, and decodes the answer into out. The status is 0 if none came.
func ask(c *http.Client, method, url string, body []byte, out any) (int, error) {
	r, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	answer, err := c.Do(r)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	if out != nil {
		if err := json.Unmarshal(b, out); err != nil {
			return answer.StatusCode, fmt.Errorf("%s %s: %d: %w: %s", method, url, answer.StatusCode, err, b)
		}
	}
	return answer.StatusCode, nil
}

// answer is what a client reads.
type answer struct {
	Nonce     []byte
	Token     string
	Code      string
	Appraisal struct {
		Verdict string
		Policy  string
		Checks  []struct{ ID, Verdict string }
	}
}

func (a *answer) failed() (out []string) {
	for _, c := range a.Appraisal.Checks {
		if c.Verdict == "fail" {
			out = append(out, c.ID)
		}
	}
	return out
}

// certified is when the certificates of evidence were made: one time for all, so that they are made once.
var certified = time.Now()

// evidence is the body of a request for an appraisal.
func evidence(t *testing.T, nonce []byte, change func(*evidencetest.Recipe)) []byte {
	t.Helper()
	r := evidencetest.New()
	r.Report.NotBefore, r.Report.NotAfter = certified.Add(-time.Hour), certified.Add(24*time.Hour)
	r.Statement.Nonce = nonce
	if change != nil {
		change(r)
	}
	b, err := json.Marshal(map[string]any{"nonce": nonce, "evidence": json.RawMessage(r.Encode(t))})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// challenge asks for a nonce.
func (w *worker) challenge(base string) []byte {
	w.t.Helper()
	var a answer
	if code, err := ask(w.client, "POST", w.url+base+"/v1/challenges", nil, &a); err != nil || code != 200 || len(a.Nonce) != 32 {
		w.t.Fatalf("%d, %v, %+v\n%s", code, err, a, w.Output())
	}
	return a.Nonce
}

// appraise has evidence appraised.
func (w *worker) appraise(base string, change func(*evidencetest.Recipe)) (int, *answer) {
	w.t.Helper()
	a := new(answer)
	code, err := ask(w.client, "POST", w.url+base+"/v1/appraisals", evidence(w.t, w.challenge(base), change), a)
	if err != nil {
		w.t.Fatal(err)
	}
	return code, a
}

// alice is an administrator.
func (b *bed) alice() *http.Client {
	c := b.ca.issue(b.t, "alice")
	return b.clientWith(&c)
}

// easy accepts recipes.
const easy = "version = 1\nunlisted_launch = \"allow\"\n"

// put puts a policy into force, and returns status and answer.
func (w *worker) put(c *http.Client, name, text, audience string, more map[string]any) (int, map[string]any) {
	w.t.Helper()
	q := map[string]any{"text": text}
	if audience != "" {
		q["audience"] = audience
	}
	for k, v := range more {
		q[k] = v
	}
	b, err := json.Marshal(q)
	if err != nil {
		w.t.Fatal(err)
	}
	var out map[string]any
	code, err := ask(c, "PUT", w.admin+"/admin/v1/policies/"+name, b, &out)
	if err != nil {
		w.t.Fatal(err)
	}
	return code, out
}

// eventually waits until f returns nil.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(servers.Patience); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if err = f(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
