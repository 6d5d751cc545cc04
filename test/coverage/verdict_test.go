// SPDX-License-Identifier: Apache-2.0

package coverage

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// process is a program of the unit of an app that started, and asks for evidence when it is
// told to.
type process struct {
	*exec.Cmd
	stdin io.WriteCloser
	out   bytes.Buffer
	nonce []byte
}

// run starts a process of the unit of an app. Its start stays that of the shell, since the
// command takes the place of the shell in the same process.
func (b *bed) run(app string) *process {
	b.t.Helper()
	// As units do before they start: the answer comes when the tick of the record is over. An app
	// that is not declared any more is not measured.
	_, _ = b.machine.Admin().Measure(b.t.Context(), app)
	p := &process{nonce: make([]byte, 32)}
	rand.Read(p.nonce)
	p.Cmd = exec.Command("sh", "-c", `read go; exec "$0" attest --socket "$1" --anchored --nonce "$2"`,
		filepath.Join(b.commands, "agentctl"), b.machine.Socket(), hex.EncodeToString(p.nonce))
	p.Env, p.Stdout, p.Stderr = append(os.Environ(), "AGENTD_SIM_DECLARED_UNIT="+app+".service"), &p.out, os.Stderr
	var err error
	p.stdin, err = p.StdinPipe()
	must(b.t, err)
	must(b.t, p.Start())
	return p
}

// verdict has a process ask, and appraises the answer.
func (b *bed) verdict(p *process, v map[string]*verify.Verifier) map[string][]verify.CheckID {
	b.t.Helper()
	_, err := io.WriteString(p.stdin, "\n")
	must(b.t, errors.Join(err, p.stdin.Close(), p.Wait()))
	out := make(map[string][]verify.CheckID)
	for name, v := range v {
		a, err := v.Appraise(p.out.Bytes(), verify.Expect{Nonce: p.nonce}, time.Now())
		must(b.t, err)
		out[name] = nil
		for _, c := range a.Failed() {
			out[name] = append(out[name], c.ID)
		}
	}
	return out
}

// covered waits until an app is covered, and the tick of its record is over.
func (b *bed) covered(app string) {
	b.t.Helper()
	for end := time.Now().Add(patience); b.app(app).Covered == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("%s is not covered: %+v", app, b.app(app))
		}
	}
	_, err := b.machine.Admin().Measure(b.t.Context(), app)
	must(b.t, err)
}

// verifiers have policies about an app, by what they ask.
func (b *bed) verifiers(app string) map[string]*verify.Verifier {
	b.t.Helper()
	root, err := os.ReadFile(b.machine.Root())
	must(b.t, err)
	list, err := snp.ParseCertificates(root)
	must(b.t, err)
	roots := new(snp.Roots)
	must(b.t, roots.AddTestRootThatVouchesForNoHardware(list[0]))
	base, err := os.ReadFile(b.machine.Policy())
	must(b.t, err)
	a := b.app(app)
	rule := fmt.Sprintf("\n[[app]]\nname = %q\ndigests = [%q]\ndeclarations = [%q]\n", app, a.Digest, a.Declaration)
	caller := fmt.Sprintf("\n[caller]\nunit = %q\napp = %q\n", app+".service", app)
	const tolerant = "tolerate_gaps = true\ntolerate_unmeasured = true\n"
	out := make(map[string]*verify.Verifier)
	for name, text := range map[string][2]string{
		"listed":                {"", rule},
		"listed, tolerant":      {tolerant, rule},
		"listed, not carried":   {"carried = \"refuse\"\n", rule},
		"listed, no others":     {"unlisted_apps = \"refuse\"\n", rule},
		"now":                   {"", rule + "covered = \"now\"\n"},
		"caller":                {"", caller},
		"caller, tolerant":      {tolerant, caller},
		"listed caller":         {"", rule + caller},
		"unlisted":              {"", ""},
		"unlisted, tolerant":    {tolerant, ""},
		"unlisted, not carried": {"carried = \"refuse\"\n", ""},
	} {
		p, err := verify.ParsePolicy([]byte(text[0] + string(base) + text[1]))
		must(b.t, err)
		out[name], err = verify.New(p, verify.Config{Roots: verify.Roots{SNP: roots}})
		must(b.t, err)
	}
	return out
}

// TestVerdictAfterRestart: cases 98 and 99. What a verifier says of a real log: after a
// restart that was carried over, after a program was swapped and put back while the agent was
// dead, of processes that started before and after, and after the declaration is gone.
func TestVerdictAfterRestart(t *testing.T) {
	b := newBed(t)
	b.args = []string{"--declare-identity-without-checking"}
	b.declare("svc")
	b.start()
	b.handed("svc")
	v := b.verifiers("svc")
	check := func(when string, p *process, refused map[string]verify.CheckID) {
		t.Helper()
		for name, failed := range b.verdict(p, v) {
			var want []verify.CheckID
			if id := refused[name]; id != "" {
				want = []verify.CheckID{id}
			}
			if !slices.Equal(failed, want) {
				t.Errorf("%s, asked by a policy that says %q: failed are %v, want %v", when, name, failed, want)
			}
		}
	}
	check("at first", b.run("svc"), nil)

	before := b.run("svc")
	must(t, b.machine.Stop())
	b.start()
	b.covered("svc")
	check("after a restart that is carried over", before, map[string]verify.CheckID{
		"listed, not carried": "policy.app-covered", "unlisted, not carried": "policy.log-gaps"})

	b.handed("svc")
	before = b.run("svc")
	b.machine.Kill()
	must(t, changes["swapped-back"].do(b, "svc"))
	b.start()
	b.covered("svc")
	broken := map[string]verify.CheckID{
		"listed": "policy.app-covered", "listed, tolerant": "policy.app-covered", "listed, not carried": "policy.app-covered",
		"listed, no others": "policy.app-covered", "unlisted": "policy.log-gaps", "unlisted, not carried": "policy.log-gaps",
	}
	check("swapped and put back, a process that started after", b.run("svc"), broken)
	broken["caller"], broken["caller, tolerant"], broken["listed caller"] = "policy.caller-covered", "policy.caller-covered", "policy.app-covered"
	check("swapped and put back, a process that started before", before, broken)

	must(t, os.Remove(filepath.Join(b.dir, "apps.d", "svc.toml")))
	_, err := b.machine.Admin().Reload(t.Context())
	must(t, err)
	must(t, os.WriteFile(b.path("svc", "bin", "main"), []byte("evil"), 0o755))
	for name, failed := range b.verdict(b.run("svc"), v) {
		switch {
		case strings.Contains(name, "caller") && !slices.Contains(failed, "policy.caller-unit") && !slices.Contains(failed, "policy.caller-app"),
			strings.HasPrefix(name, "listed") && !slices.Contains(failed, "policy.app-covered"),
			name == "now" && !slices.Equal(failed, []verify.CheckID{"policy.app-covered"}),
			name == "unlisted, tolerant" && failed != nil:
			t.Errorf("withdrawn, asked by a policy that says %q: failed are %v", name, failed)
		}
	}
}
