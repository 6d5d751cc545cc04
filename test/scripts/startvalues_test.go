// SPDX-License-Identifier: Apache-2.0

package scripts

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/tcglog"
	"github.com/cvm-agentd/agentd/internal/tpm/registers"
	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/simulated"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// recordedLogs are the recorded firmware logs of real machines.
var recordedLogs = []string{
	"google_go-tpm-tools/cos-93-amd-sev.bin", "google_go-tpm-tools/cos-101-amd-sev.bin", "google_go-tpm-tools/eventlogwithsp800155.bin",
	"google_go-tpm-tools/rhel8-uefi.bin", "google_go-tpm-tools/ubuntu-2404-amd-sevsnp.bin", "keylime_keylime/mb_log.b64",
}

// TestStartOnRecordedBoots: a machine boots as a recorded one did, then the agent starts.
// `policy init` from its evidence gives a policy that accepts this very machine, with the
// log in each PCR that it may be in by default or by choice (case 102).
func TestStartOnRecordedBoots(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	for _, file := range recordedLogs {
		b := vectors.Read(t, file)
		if strings.HasSuffix(file, ".b64") {
			var err error
			if b, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(b)), "")); err != nil {
				t.Fatal(err)
			}
		}
		for _, index := range []uint32{13, 14} {
			t.Run(fmt.Sprintf("%s/%d", filepath.Base(file), index), func(t *testing.T) {
				t.Parallel()
				m := bootAs(t, b, index)
				m.accepted(t, 0)
				m.accepted(t, 0, "--firmware-log")
			})
		}
	}
}

// TestStartOnOtherBoots: a machine whose PCR has another value is genuine, and refused as a
// matter of policy. The draft of one whose firmware's log leads to the value accepts it
// (case 102).
func TestStartOnOtherBoots(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	ubuntu := vectors.Read(t, "google_go-tpm-tools/ubuntu-2404-amd-sevsnp.bin")
	for name, c := range map[string]struct {
		after   [][]byte // contents that extend the PCR after the recorded log
		index   uint32
		without int // exit code of verify if the evidence has no firmware log
		with    int
		doctor  string
	}{
		"a separator":                      {[][]byte{[]byte("os-separator")}, 13, 0, 0, "ok    start value    sha256: PCR 13 (sha256) had the value after one os-separator of systemd"},
		"shim and a separator":             {[][]byte{[]byte("os-separator")}, 14, 0, 0, "ok    start value    sha384: PCR 14 (sha384) had the value after shim of Ubuntu without MOKs, and one"},
		"boot software that nothing knows": {[][]byte{[]byte("an extension")}, 13, 5, 5, "no log of the machine leads to it"},
		"PCR 9, by its log":                {nil, 9, 5, 0, "note  start value    sha256: PCR 9 (sha256) had the value "},
		"PCR 9, by its log, a separator":   {[][]byte{[]byte("os-separator")}, 9, 5, 0, "the firmware's log leads to it, with one os-separator of systemd"},
		"PCR 9, and what its log lacks":    {[][]byte{[]byte("an extension")}, 9, 5, 5, "BAD   start value    sha256: PCR 9 (sha256) had the value "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := bootAs(t, ubuntu, c.index, c.after...)
			m.accepted(t, c.without)
			m.accepted(t, c.with, "--firmware-log")
			doctor := 0
			if c.with != 0 {
				doctor = 1
			}
			if out := m.run(t, doctor, "doctor", "--config", filepath.Join(m.dir, "config.toml")); !strings.Contains(out, c.doctor) {
				t.Errorf("the doctor does not say %q:\n%s", c.doctor, out)
			}
		})
	}
}

// TestLogInAnotherPCR: root deletes log and state, and has the agent begin a log in a PCR
// that nothing extended. No start value shows that. The drafted policy wants the PCR of the
// agent's default configuration, and refuses the other (case 88).
func TestLogInAnotherPCR(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts simulated machines: not with -short")
	}
	m := bootAs(t, vectors.Read(t, "google_go-tpm-tools/ubuntu-2404-amd-sevsnp.bin"), 13)
	m.accepted(t, 0)
	m.stop(t)
	for _, folder := range []string{"log", "state"} {
		if err := os.RemoveAll(filepath.Join(m.dir, folder)); err != nil {
			t.Fatal(err)
		}
	}
	m.start(t, 12)
	m.run(t, 0, "attest", "--nonce", goldenNonce, "--out", filepath.Join(m.dir, "evidence.json"))
	policy, err := os.ReadFile(filepath.Join(m.dir, "golden.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if out := m.verify(t, 5); !strings.Contains(out, "policy.log-pcr") {
		t.Errorf("the policy does not refuse the PCR:\n%s", out)
	}
	other := strings.Replace(string(policy), "\nversion = 1\n", "\nversion = 1\nlog_pcr = 12\n", 1)
	if err := os.WriteFile(filepath.Join(m.dir, "golden.toml"), []byte(other), 0o600); err != nil || other == string(policy) {
		t.Fatalf("the draft has no root keys: %v\n%s", err, policy)
	}
	m.verify(t, 0)
}

// booted is a simulated machine, whose TPM keeps its PCRs while the agent is stopped.
type booted struct {
	dir, firmware, tpm string
	banks              []pcr.Algorithm
	env                []string
	machine            *simulated.Machine
}

// bootAs replays a firmware log into a new TPM, extends one PCR by contents, and starts the
// agent with its log in that PCR.
func bootAs(t *testing.T, log []byte, index uint32, contents ...[]byte) *booted {
	t.Helper()
	if shared.platform == "" {
		t.Skip(simulated.ErrNoTPM)
	}
	l, err := tcglog.Parse(log)
	if err != nil {
		t.Fatal(err)
	}
	s := swtpm.Start(t, swtpm.WithBanks(l.Banks...))
	for _, e := range l.Events {
		if e.Type != tcglog.NoAction {
			if err := registers.Extend(s, e.PCR, e.Digests); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range contents {
		if err := registers.Extend(s, index, pcr.Digests(l.Banks, c)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "agentd-boot-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := &booted{dir: filepath.Join(dir, "m"), firmware: filepath.Join(dir, "firmware"), tpm: s.Listen().Address(), banks: l.Banks}
	if err := os.WriteFile(m.firmware, log, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.env = append(os.Environ(), "AGENTD_SOCKET="+filepath.Join(m.dir, "agentd.sock"), "AGENTD_ADMIN_SOCKET="+filepath.Join(m.dir, "admin.sock"))
	m.start(t, index)
	t.Cleanup(func() { m.stop(t) })
	return m
}

// start starts the agent with its log in this PCR.
func (m *booted) start(t *testing.T, index uint32) {
	t.Helper()
	quoted := []string{"sha256:0-15"}
	if slices.Contains(m.banks, pcr.SHA384) {
		quoted = append(quoted, "sha384:0-15")
	}
	config := fmt.Sprintf("[sockets]\nclient_group = \"\"\n\n[tpm]\npcrs = %q\n\n[measurement]\npcr = %d\nfirmware_log = %q\n", strings.Join(quoted, "+"), index, m.firmware)
	if err := os.WriteFile(filepath.Join(m.dir, "config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var err error
	if m.machine, err = simulated.Start(shared.commands, m.dir, shared.platform, "--product", "genoa", "--tpm", m.tpm); err != nil {
		t.Fatal(err)
	}
}

func (m *booted) stop(t *testing.T) {
	t.Helper()
	if m.machine == nil {
		return
	}
	if err := m.machine.Stop(); err != nil {
		t.Error(err)
	}
	m.machine = nil
}

// goldenNonce is the nonce of all evidence here.
var goldenNonce = strings.Repeat("5a", 32)

// accepted takes evidence, drafts a policy from it, and checks the exit code of verify for
// new evidence of the same machine.
func (m *booted) accepted(t *testing.T, want int, args ...string) {
	t.Helper()
	for _, file := range []string{"golden.json", "evidence.json"} {
		m.run(t, 0, append([]string{"attest", "--nonce", goldenNonce, "--out", filepath.Join(m.dir, file)}, args...)...)
	}
	m.run(t, 0, "policy", "init", "--from", filepath.Join(m.dir, "golden.json"), "--out", filepath.Join(m.dir, "golden.toml"), testRoot, filepath.Join(m.dir, "test-root.pem"))
	if out := m.verify(t, want); !strings.Contains(out, "policy.start-value") {
		t.Errorf("verify %v says nothing of the start value:\n%s", args, out)
	}
}

const testRoot = "--trust-test-root-that-vouches-for-no-hardware"

// verify verifies the last evidence under the drafted policy.
func (m *booted) verify(t *testing.T, want int) string {
	t.Helper()
	return m.run(t, want, "verify", "--verbose", "--policy", filepath.Join(m.dir, "golden.toml"), "--nonce", goldenNonce, filepath.Join(m.dir, "evidence.json"), testRoot, filepath.Join(m.dir, "test-root.pem"))
}

// run runs agentctl, checks its exit code, and returns what it printed.
func (m *booted) run(t *testing.T, want int, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(shared.commands, "agentctl"), args...)
	cmd.Env = m.env
	out, err := cmd.CombinedOutput()
	if code := cmd.ProcessState.ExitCode(); code != want {
		t.Fatalf("agentctl %s: exit code %d, want %d: %v\n%s", strings.Join(args, " "), code, want, err, out)
	}
	return string(out)
}
