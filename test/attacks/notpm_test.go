// SPDX-License-Identifier: Apache-2.0

package attacks

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/verify"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// pcr4 is the value that the policy wants of a PCR that no log of the agent explains.
var pcr4 = strings.Repeat("a0", 32)

// strict pins everything but the AK.
func strict(t *testing.T, app, agent string) string {
	return policy("unlisted_apps = \"refuse\"\n", fmt.Sprintf(`
[[pcr]]
bank = "sha256"
index = 4
values = [%q]

[[app]]
name = "billing"
unit = "billing.service"
user = %q
digests = [%q]

[agent]
digests = [%q]

[caller]
unit = "billing.service"
uid = %d
`, pcr4, username(t), app, agent, os.Getuid()))
}

// TestEvidenceWithoutATPMCountsAsMeasured: cases 97 and 100. Root of the guest takes the evidence of a
// machine whose application was replaced, writes the log as it should have been, signs the
// quote and the batch with keys that it made, and has the processor vouch for all of it. A
// policy that pins everything but the AK cannot refuse that: it must not call it measured.
func TestEvidenceWithoutATPMCountsAsMeasured(t *testing.T) {
	x := switchOn(t, filepath.Join(t.TempDir(), "m"))
	program := x.declare("billing", "the reviewed program")
	reviewed := x.digest("billing")
	agent := fileDigest(t, filepath.Join(shared.commands, "agentd-sim"))
	known := filepath.Join(t.TempDir(), "known.json")
	nonce, file := x.attest()
	x.verify(policy("", ""), nonce, file, "--save-log", known).accepted(t, "the machine before the attack")
	before := fileDigest(t, known)
	name := x.verify(policy("", ""), nonce, file).akName(t)

	must(t, os.WriteFile(program+".new", []byte("the attacker's program"), 0o700))
	must(t, os.Rename(program+".new", program))
	x.do("measure", "--app", "billing")
	pinned := strict(t, reviewed, agent)
	nonce, file = x.attest()
	x.verify(pinned, nonce, file).refused(t, "what the attacker runs", 5, "policy.app-digest")

	honestFile := file

	// Without a TPM, and with a nonce of the verifier's choice.
	nonce, file = x.withoutTPM(file, program, "the reviewed program", true)
	guest := x.verify(pinned, nonce, file)
	guest.accepted(t, "evidence without a TPM, under a policy that does not ask for one")
	guest.restsOn(t, "guest", "quote.signature", "policy.pcr", "policy.app-digest", "policy.agent", "policy.caller-unit", "policy.caller-user", "log.replay", "ak.attributes")
	if last := verdictLine(guest.text); !strings.Contains(last, "guest's word") {
		t.Errorf("the verdict does not say on whose word it rests: %q", last)
	}
	dangers := x.dangers(pinned)
	if len(dangers) < 2 { // the launch that covers the firmware alone is one
		t.Errorf("explain sees no danger in demands that rest on the guest alone: %q", dangers)
	}

	// The history that the verifier knows is not forgotten.
	x.verify(pinned, nonce, file, "--known-log", known, "--save-log", known).refused(t, "evidence without the known history", 2, "log.continuation")
	if after := fileDigest(t, known); after != before {
		t.Error("the known history was replaced")
	}

	// Nor by a guest that the host launched from its own disk: the processor names another boot.
	policyFile := write(t, pinned)
	other, elsewhere := x.withoutTPM(honestFile, program, "the reviewed program", false)
	args := []string{"verify", "--policy", policyFile, "--nonce", other, "--trust-test-root-that-vouches-for-no-hardware", x.Root(), "--known-log", known, "--save-log", known, elsewhere}
	if code, stdout, stderr := x.run(args...); code != 1 {
		t.Errorf("another guest: exit code %d, want 1\n%s%s", code, stdout, stderr)
	}
	if after := fileDigest(t, known); after != before {
		t.Error("another guest replaced the known history")
	}
	x.verify("continuation = \"required\"\n"+pinned, other, elsewhere, "--known-log", known).refused(t, "another guest, where the known one is asked for", 5, "policy.continuation")

	// A policy that asks for a TPM has this machine's, and no other.
	measured := policy("ak_names = [\""+name+"\"]\n", "\n[basis]\nhistory = \"tpm\"\n")
	x.verify(measured, nonce, file).refused(t, "evidence without a TPM, where one is asked for", 5, "policy.basis-history")
	nonce, file = x.attest()
	honest := x.verify(measured, nonce, file)
	honest.accepted(t, "evidence of the machine, where its TPM is asked for")
	honest.restsOn(t, "tpm", "log.replay", "quote.signature")
}

// restsOn checks that these checks passed, on this party's word.
func (r ruling) restsOn(t *testing.T, basis verify.Basis, ids ...verify.CheckID) {
	t.Helper()
	for _, id := range ids {
		if c := r.Check(id); c.Verdict != verify.Pass || c.Basis != basis {
			t.Errorf("%s: %s, on the word of %q, want %q", id, c.Verdict, c.Basis, basis)
		}
	}
}

// akName returns the name of the AK that accepted evidence claims.
func (r ruling) akName(t *testing.T) string {
	t.Helper()
	claims, err := r.Claims()
	must(t, err)
	return claims.AKName
}

// verdictLine returns the last line of a verdict, which is folded.
func verdictLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	first := len(lines) - 1
	for first > 0 && strings.HasPrefix(lines[first], " ") {
		first--
	}
	return strings.Join(lines[first:], " ")
}

// dangers returns what policy explain calls a danger.
func (x *target) dangers(policy string) []string {
	x.t.Helper()
	var out struct{ Dangers []string }
	must(x.t, json.Unmarshal([]byte(x.do("policy", "explain", "--json", write(x.t, policy))), &out))
	return out.Dangers
}

// withoutTPM makes evidence from the honest one in file, as a program of the guest can that
// has reports of the processor and nothing else, and returns it with its nonce. All keys are
// made here. The log ends before the first record that does not suit, PCR 4 has the value that
// the policy wants, and the caller is the program of this content. Unless same is set, the host
// launched the same firmware once more for it, from a disk of its own.
func (x *target) withoutTPM(file, program, content string, same bool) (nonce, forged string) {
	x.t.Helper()
	b, err := os.ReadFile(file)
	must(x.t, err)
	honest, err := evidence.Parse(b)
	must(x.t, err)
	records, err := pcr.DecodeLog(honest.Log.Records, 0)
	must(x.t, err)

	nonce = newNonce()
	r := evidencetest.New()
	r.Neighbours, r.AgentKey, r.AK = 0, evidencetest.Key('e'), evidencetest.ECCKey('e')
	r.Statement.Caller.UID, r.Statement.Caller.GID = uint32(os.Getuid()), uint32(os.Getgid()) // the user of the application
	digest := evidence.Digest(sha256.Sum256([]byte(content)))
	r.Statement.Caller.Executable = &evidence.Executable{State: evidence.ExecutableFile, Path: program, Digest: &digest, Covered: true}
	r.Statement.PublicKey, r.Statement.UserData = []byte("a key of the attacker"), nil
	r.Statement.Nonce, err = hex.DecodeString(nonce)
	must(x.t, err)
	r.LogPCR, r.Banks, r.Events = records[0].PCR, nil, nil
	for _, d := range records[0].Digests {
		r.Banks = append(r.Banks, d.Algorithm)
	}
	measured := false
	for _, record := range records[1:] {
		e, err := record.Event()
		must(x.t, err)
		if e.App != nil && measured {
			break // the attacker's program
		}
		measured = measured || e.App != nil
		if e.Agent != nil {
			e.Agent.Previous, e.Agent.AgentKey = evidence.LogHead{}, evidence.Bytes(r.AgentKey.Public().(ed25519.PublicKey))
		}
		r.Events = append(r.Events, *e)
	}
	r.PCRs, r.Select, err = pcr.ValuesFromBanks(honest.Batch.PCRs)
	must(x.t, err)
	for _, bank := range r.Banks {
		delete(r.PCRs[bank], r.LogPCR)
	}
	wanted, err := hex.DecodeString(pcr4)
	must(x.t, err)
	r.PCRs.Set(pcr.SHA256, 4, wanted)
	r.Batch.Time = honest.Batch.Time + 1
	r.Document = func(e *evidence.Evidence) {
		p, err := soft.New(soft.Options{Directory: filepath.Join(x.Dir, "platform"), SameLaunch: same, Version: 5, Product: snp.Genoa})
		must(x.t, err)
		defer p.Close()
		report, err := p.Report(x.t.Context(), platform.Fixed(e.ReportData()))
		must(x.t, err)
		e.Report.Bytes, e.Certificates = report.Bytes, nil
		for _, c := range report.Certificates {
			e.Certificates = append(e.Certificates, c)
		}
	}
	return nonce, write(x.t, string(r.Encode(x.t)))
}
