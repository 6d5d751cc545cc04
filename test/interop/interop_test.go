// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/export"
	"github.com/cvm-agentd/agentd/test/simulated"
)

// shared is one simulated machine for all tests, and commands the folder of the programs.
var (
	shared   *simulated.Machine
	commands string
)

func TestMain(m *testing.M) {
	os.Exit(simulated.Main(m, func(built, dir string) (func() error, error) {
		var err error
		commands = built
		if shared, err = simulated.Start(built, dir, ""); err != nil {
			return nil, err
		}
		return shared.Stop, nil
	}))
}

// attest is evidence of the simulated machine.
func attest(t *testing.T, freshness evidence.Freshness) *evidence.Evidence {
	t.Helper()
	if shared == nil {
		t.Skip(simulated.ErrNoTPM)
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	document, err := shared.Client().Evidence(t.Context(), api.EvidenceRequest{Nonce: nonce, Freshness: freshness})
	if err != nil {
		t.Fatal(err)
	}
	e, err := evidence.Parse(document)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// parts is e as files in a folder.
func parts(t *testing.T, e *evidence.Evidence) string {
	t.Helper()
	files, err := export.Files(e)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "parts")
	if err := export.Write(dir, files); err != nil {
		t.Fatal(err)
	}
	return dir
}

// flipped writes name in dir with one bit changed and puts it back at the end of the test.
func flipped(t *testing.T, dir, name string, offset int) {
	t.Helper()
	path := filepath.Join(dir, name)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[offset] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Error(err)
		}
	})
}

// checkquote runs tpm2_checkquote on the parts in dir whose names begin with prefix.
func checkquote(t *testing.T, dir, prefix string) error {
	t.Helper()
	tool, err := exec.LookPath("tpm2_checkquote")
	if err != nil {
		t.Skip("tpm2_checkquote is not installed: apt-get install tpm2-tools")
	}
	data, err := os.ReadFile(filepath.Join(dir, prefix+"quote-data"))
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	out, err := exec.Command(tool, "-u", at("ak.pem"), "-m", at(prefix+"quote.msg"), "-s", at(prefix+"quote.sig"),
		"-f", at(prefix+"pcrs"), "-g", "sha256", "-q", string(bytes.TrimSpace(data))).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func TestCheckquote(t *testing.T) {
	for _, c := range []struct {
		freshness evidence.Freshness
		prefix    string
	}{{evidence.Fresh, ""}, {evidence.Anchored, ""}, {evidence.Anchored, "anchor-"}} {
		t.Run(string(c.freshness)+c.prefix, func(t *testing.T) {
			dir := parts(t, attest(t, c.freshness))
			if err := checkquote(t, dir, c.prefix); err != nil {
				t.Fatalf("tpm2_checkquote refuses the evidence of the agent: %v", err)
			}
			for _, f := range []struct {
				name   string
				offset int
			}{
				{"quote.msg", 50}, {"quote.msg", 120}, {"quote.sig", 20}, {"quote.sig", 60},
				{"pcrs", 136 + 4 + 2 + 5}, // in the value of PCR 0
			} {
				t.Run(fmt.Sprintf("%s byte %d flipped", f.name, f.offset), func(t *testing.T) {
					flipped(t, dir, c.prefix+f.name, f.offset)
					if checkquote(t, dir, c.prefix) == nil {
						t.Error("accepted")
					}
				})
			}
		})
	}
}

// goSevGuest builds the check command of go-sev-guest.
func goSevGuest(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/google/go-sev-guest/tools/check").CombinedOutput(); err != nil {
		t.Fatalf("build check of go-sev-guest: %v\n%s", err, out)
	}
	return path
}

func TestGoSevGuestCheck(t *testing.T) {
	e := attest(t, evidence.Fresh)
	dir := parts(t, e)
	tool := goSevGuest(t)
	// Intermediate and root, in the order that check expects.
	var bundle []byte
	for _, name := range []string{"certificate-1.pem", "certificate-0.pem"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		bundle = append(bundle, b...)
	}
	roots := filepath.Join(dir, "roots.pem")
	if err := os.WriteFile(roots, bundle, 0o600); err != nil {
		t.Fatal(err)
	}
	data := e.ReportData()
	check := func(t *testing.T, more ...string) error {
		t.Helper()
		args := append([]string{"-in", filepath.Join(dir, "report-certificates.bin"), "-network=false",
			"-report_data", hex.EncodeToString(data[:]), "-guest_policy", "0x30000"}, more...)
		out, err := exec.Command(tool, args...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, bytes.TrimSpace(out))
		}
		return nil
	}
	if err := check(t, "-product_key_path", roots); err != nil {
		t.Fatalf("check of go-sev-guest refuses the report of the agent: %v", err)
	}
	if check(t) == nil {
		t.Error("check of go-sev-guest accepts the simulator under AMD's own roots")
	}
	for what, offset := range map[string]int{"launch measurement": 0x90, "report data": 0x50, "guest policy": 0x8, "signature": 0x2A0 + 3, "VCEK": inVCEK(t, e, dir)} {
		t.Run(what+" flipped", func(t *testing.T) {
			flipped(t, dir, "report-certificates.bin", offset)
			if check(t, "-product_key_path", roots) == nil {
				t.Error("accepted")
			}
		})
	}
}

// inVCEK is the place of a byte of the VCEK's own signature in the exported file.
func inVCEK(t *testing.T, e *evidence.Evidence, dir string) int {
	t.Helper()
	file, err := os.ReadFile(filepath.Join(dir, "report-certificates.bin"))
	if err != nil {
		t.Fatal(err)
	}
	for _, der := range e.Certificates {
		if c, err := x509.ParseCertificate(der); err == nil && c.Subject.CommonName == "SEV-VCEK" {
			if at := bytes.Index(file, der); at > 0 {
				return at + len(der) - 10
			}
		}
	}
	t.Fatal("the export holds no VCEK")
	return 0
}
