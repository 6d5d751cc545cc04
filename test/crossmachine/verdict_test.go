// SPDX-License-Identifier: Apache-2.0

package crossmachine

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// need skips the test if there are no machines.
func need(t *testing.T) {
	t.Helper()
	switch {
	case testing.Short():
		t.Skip("starts simulated machines: not with -short")
	case shared.a == nil:
		t.Skip(simulated.ErrNoTPM)
	}
}

// policy accepts each of the machines by itself, fresh and anchored.
func policy(root, tables string) string { return policyFor("plain", root, tables) }

// policyFor lists what all machines launch as of this kind.
func policyFor(kind, root, tables string) string {
	m := soft.Measurement()
	if !strings.Contains(root, "freshness = ") {
		root = "freshness = \"anchored\"\nmax_anchor_age = \"24h\"\n" + root
	}
	return fmt.Sprintf("version = 1\nproducts = [\"genoa\", \"milan\"]\n%s\n[[launch]]\nmeasurement = %q\nkind = %q\ncovers = \"firmware\"\n%s",
		root, hex.EncodeToString(m[:]), kind, tables)
}

func document(t *testing.T, e *evidence.Evidence) []byte {
	t.Helper()
	b, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func parse(t *testing.T, b []byte) *evidence.Evidence {
	t.Helper()
	e, err := evidence.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// verifier is the library's, with what the flags of the command say.
func verifier(t *testing.T, policy string) *verify.Verifier {
	t.Helper()
	p, err := verify.ParsePolicy([]byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(shared.roots)
	if err != nil {
		t.Fatal(err)
	}
	ders, err := snp.DecodeCertificates(b)
	if err != nil {
		t.Fatal(err)
	}
	roots := new(snp.Roots)
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err == nil {
			err = roots.AddTestRootThatVouchesForNoHardware(c)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	v, err := verify.New(p, verify.Config{Roots: verify.Roots{SNP: roots}})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// command runs "agentctl verify" and reads the appraisal that it prints.
func command(t *testing.T, policy string, stdin []byte, args ...string) *verify.Appraisal {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.toml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	args = append([]string{"verify", "--json", "--policy", file, "--at", shared.at.UTC().Format(time.RFC3339),
		"--trust-test-root-that-vouches-for-no-hardware", shared.roots}, args...)
	cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), args...)
	cmd.Stdin = bytes.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	code := 0
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	a := new(verify.Appraisal)
	if err := json.Unmarshal(out, a); err != nil {
		t.Fatalf("exit code %d, %v\n%s", code, err, &stderr)
	}
	if code != a.ExitCode() {
		t.Errorf("the command ended with %d, and its appraisal says %d", code, a.ExitCode())
	}
	return a
}

// failed are the checks that failed, in their order, without those that were not
// reached. Which of two vTPMs has the later clock is chance: whether the clock seems to
// run backwards tells something only if both quotes are of one.
func failed(a *verify.Appraisal) []verify.CheckID {
	var ids []verify.CheckID
	oneTPM := a.Check("anchor.signer").Verdict != verify.Fail
	for _, c := range a.Checks {
		if c.Verdict == verify.Fail && (oneTPM || c.ID != "anchor.clock") {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// both has library and command appraise evidence, and wants exactly these checks to
// fail in both; none means that it is accepted. It returns what the library said.
func both(t *testing.T, policy string, doc []byte, want ...verify.CheckID) *verify.Appraisal {
	t.Helper()
	a, err := verifier(t, policy).Appraise(doc, verify.Expect{Nonce: nonce}, shared.at)
	if err != nil {
		t.Fatal(err)
	}
	hold(t, "library", a, want)
	hold(t, "command", command(t, policy, doc, "--nonce", "hex:"+hex.EncodeToString(nonce), "-"), want)
	return a
}

func hold(t *testing.T, who string, a *verify.Appraisal, want []verify.CheckID) {
	t.Helper()
	verdict := verify.Pass
	if len(want) > 0 {
		verdict = verify.Fail
	}
	_, err := a.Claims()
	if got := failed(a); !slices.Equal(got, want) || a.Verdict != verdict || (err == nil) != (verdict == verify.Pass) {
		t.Errorf("%s: %s, failed %v; want %s, %v", who, a.Verdict, got, verdict, want)
		for _, c := range a.Failed() {
			t.Logf("%s: %s %s: %s", who, c.Verdict, c.ID, c.Sentence)
		}
	}
}
