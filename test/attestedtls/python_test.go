// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/attestedtls"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/simulated/relying"
	"github.com/cvm-agentd/agentd/verify"
)

// interpreter is a Python that has pyOpenSSL, or nothing: on the path there may be another one than
// that of the distribution.
var interpreter = sync.OnceValue(func() string {
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		path, err := exec.LookPath(name)
		if err == nil && exec.Command(path, "-c", "import OpenSSL").Run() == nil {
			return path
		}
	}
	return ""
})

// python returns the interpreter. Without one the test skips.
func python(t *testing.T) string {
	t.Helper()
	path := interpreter()
	if path == "" {
		t.Skip("no python3 with the module OpenSSL: install python3 and python3-openssl")
	}
	return path
}

// said is what the client in Python prints.
type said struct {
	Code   attestedtls.Code `json:"code"`
	Remote bool             `json:"remote"`
	Answer string           `json:"answer"`

	Continued []bool `json:"continued"` // for each connection after the first
}

// runPython has the client connect, under the policy of a machine.
func runPython(t *testing.T, address, policy string, m *simulated.Machine, flags ...string) said {
	t.Helper()
	if _, err := os.Stat("client.py"); err != nil { // go test notices if it changes
		t.Fatal(err)
	}
	args := append([]string{"-B", "client.py"}, flags...)
	args = append(args, address, filepath.Join(shared.commands, "agentctl"), "verify", "--policy", policy, "--trust-test-root-that-vouches-for-no-hardware="+m.Root())
	cmd := exec.Command(python(t), args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if e := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &e) || e.ExitCode() != 2) {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	var s said
	if err := json.Unmarshal(out, &s); err != nil {
		t.Fatalf("%v: %s\n%s", err, out, &stderr)
	}
	return s
}

// altered is an agent whose requests are changed on the way.
type altered struct {
	attestedtls.Agent
	change func(*api.EvidenceRequest)
}

func (a altered) EvidenceWithKey(ctx context.Context, r api.EvidenceRequest, _ crypto.Signer) ([]byte, error) {
	a.change(&r)
	return a.Agent.Evidence(ctx, r)
}

// TestPython: a client that was written from docs/attested-tls.md alone accepts what this package
// accepts, one way and mutual, and refuses what it refuses, with the same code. Case 129.
func TestPython(t *testing.T) {
	here, there := machines(t)
	text, err := os.ReadFile(there.Policy())
	if err != nil {
		t.Fatal(err)
	}
	strange := filepath.Join(t.TempDir(), "strange.toml")
	at := bytes.Index(text, []byte("measurement = \""))
	if err := os.WriteFile(strange, append(append(bytes.Clone(text[:at]), "measurement = \""+strings.Repeat("ab", 48)...), text[at+len("measurement = \"")+96:]...), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*api.EvidenceRequest)) *attestedtls.Attester {
		return &attestedtls.Attester{Agent: altered{there.Client(), change}}
	}
	honest := func() *attestedtls.Attester { return of(there) }
	flip := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	for _, c := range []struct {
		name   string
		server *attestedtls.Server
		policy string
		flags  []string
		want   said
	}{
		{"one way", &attestedtls.Server{Attester: honest()}, there.Policy(), nil, said{Answer: "hello\n"}},
		{"with an audience and an application", &attestedtls.Server{Attester: honest(), Application: "echo"}, there.Policy(), []string{"--audience", "accounting", "--application", "echo"}, said{Answer: "hello\n"}},
		{"fresh", &attestedtls.Server{Attester: honest()}, there.Policy(), []string{"--fresh"}, said{Answer: "hello\n"}},
		{"mutual", &attestedtls.Server{Attester: honest(), Verifier: accepts(t, here, nil)}, there.Policy(), []string{"--attest", here.Socket()}, said{Answer: "hello\n"}},
		{"mutual, refused by the server", &attestedtls.Server{Attester: honest(), Verifier: accepts(t, here, func(p *verify.Policy) { p.Launches[0].Measurement = strings.Repeat("ab", 48) })}, there.Policy(), []string{"--attest", here.Socket()}, said{Code: attestedtls.CodePolicy, Remote: true}},
		{"mutual, and the client does not attest", &attestedtls.Server{Attester: honest(), Verifier: accepts(t, here, nil)}, there.Policy(), nil, said{Code: attestedtls.CodeNotAttested, Remote: true}},
		{"another machine", &attestedtls.Server{Attester: honest()}, strange, nil, said{Code: attestedtls.CodePolicy}},
		{"another application", &attestedtls.Server{Attester: honest(), Application: "echo"}, there.Policy(), []string{"--application", "http/1.1"}, said{Code: attestedtls.CodeApplication, Remote: true}},
		{"another nonce", &attestedtls.Server{Attester: changed(func(r *api.EvidenceRequest) { r.Nonce = flip(r.Nonce, 0) })}, there.Policy(), nil, said{Code: attestedtls.CodeNonce}},
		{"another audience", &attestedtls.Server{Attester: changed(func(r *api.EvidenceRequest) { r.Audience = "elsewhere" })}, there.Policy(), nil, said{Code: attestedtls.CodeAudience}},
		{"another key", &attestedtls.Server{Attester: changed(func(r *api.EvidenceRequest) { r.PublicKey = flip(r.PublicKey, len(r.PublicKey)-1) })}, there.Policy(), nil, said{Code: attestedtls.CodeKey}},
		{"another exporter", &attestedtls.Server{Attester: changed(func(r *api.EvidenceRequest) { r.UserData = flip(r.UserData, len(r.UserData)-1) })}, there.Policy(), nil, said{Code: attestedtls.CodeExporter}},
		{"another role", &attestedtls.Server{Attester: changed(func(r *api.EvidenceRequest) {
			r.UserData = bytes.Replace(r.UserData, []byte("server"), []byte("client"), 1)
		})}, there.Policy(), nil, said{Code: attestedtls.CodeRole}},
		{"another protocol", &attestedtls.Server{Attester: changed(func(r *api.EvidenceRequest) { r.UserData = []byte(attestedtls.EvidenceUserData) })}, there.Policy(), nil, said{Code: attestedtls.CodeUserData}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address, _ := listen(t, c.server)
			if got := runPython(t, address, c.policy, there, c.flags...); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

// TestPythonContinues: that client continues evidence as the document says, as the end that verifies
// and as the one that attests, and with the ends of this package. Case 129.
func TestPythonContinues(t *testing.T) {
	here, there := machines(t)
	continues := func(most time.Duration) *attestedtls.Verifier { return accepts(t, here, nil, most) }
	for _, c := range []struct {
		name   string
		server *attestedtls.Server
		flags  []string
		client []bool // whether the client continued, after its first connection
		theirs []bool // whether the server did
	}{
		{"one way", &attestedtls.Server{Attester: of(there)}, []string{"--continue", "3", "--audience", "accounting"}, []bool{true, true, true}, nil},
		{"fresh", &attestedtls.Server{Attester: of(there)}, []string{"--fresh"}, nil, nil},
		{"mutual", &attestedtls.Server{Attester: of(there), Verifier: continues(time.Minute)}, []string{"--continue", "2", "--attest", here.Socket()}, []bool{true, true}, []bool{false, true, true}},
		{"mutual, and the server alone continues", &attestedtls.Server{Attester: of(there), Verifier: continues(0)}, []string{"--continue", "1", "--attest", here.Socket()}, []bool{true}, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			address, all := listen(t, c.server)
			got := runPython(t, address, there.Policy(), there, c.flags...)
			if want := (said{Answer: "hello\n", Continued: c.client}); !reflect.DeepEqual(got, want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
			all.mu.Lock()
			defer all.mu.Unlock()
			if !reflect.DeepEqual(all.continued, c.theirs) {
				t.Errorf("the server continued %v, want %v", all.continued, c.theirs)
			}
		})
	}
}

// TestPythonRelay: an attacker with a copy of the leaf's key passes on, between that client and the
// server that it knows from before, the server's proof of another connection. Case 129.
func TestPythonRelay(t *testing.T) {
	_, there := machines(t)
	_, stolen := relying.Leaf(t, "server.example")
	address, _ := listen(t, &attestedtls.Server{Attester: of(there), TLS: &tls.Config{Certificates: []tls.Certificate{stolen}}})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	config := &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{stolen}, NextProtos: []string{attestedtls.Protocol}}
	go func() {
		for first := true; ; first = false {
			victim, err := l.Accept()
			if err != nil {
				return
			}
			real, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			if !first { // the first one is honest
				victim, real = tls.Server(victim, config), tls.Client(real, config)
			}
			go func() {
				defer victim.Close()
				go io.Copy(real, victim)
				io.Copy(victim, real)
			}()
		}
	}()
	got := runPython(t, l.Addr().String(), there.Policy(), there, "--continue", "1")
	if want := (said{Code: attestedtls.CodeContinued, Continued: []bool{false}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
