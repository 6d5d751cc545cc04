// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"os"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// booted is evidence of one boot of a machine, with as many applications in its log.
func booted(t *testing.T, boot byte, apps int) []byte {
	t.Helper()
	r := evidencetest.New()
	r.Report.Body = func(b []byte) { copy(b[evidencetest.AtReportID:], bytes.Repeat([]byte{boot}, 32)) }
	r.Batch.Reset += uint32(boot)
	r.Events[0] = evidencetest.Agent(pcr.EventAgent, string('0'+boot), r.AgentKey)
	r.Events[0].Agent.Declarations = pcr.Declarations{} // those of later applications do not show in an earlier log
	for i := range apps {
		name := string(rune('a' + i))
		r.Events = append(r.Events, evidencetest.App(name, name+".service", name, name))
	}
	return r.Encode(t)
}

// TestSaveLogKeepsHistory: case 100. A known history is replaced only by one that continues
// it, or with the flag that says so; the verdict is printed all the same.
func TestSaveLogKeepsHistory(t *testing.T) {
	first, later, other := booted(t, 1, 0), booted(t, 1, 1), booted(t, 2, 0)
	const required = openPolicy + "continuation = \"required\"\n"
	for _, c := range []struct {
		name     string
		policy   string
		before   []byte // evidence whose state is in known.json; nil if there is no such file
		present  string // instead: content of known.json
		evidence []byte
		args     []string
		code     int
		saved    bool // known.json has the new state
		says     string
	}{
		{name: "no file yet", evidence: first, args: []string{"--save-log", "known.json"}, saved: true},
		{name: "an empty file", present: "\n", evidence: first, args: []string{"--save-log", "known.json"}, code: 1, says: "give --known-log"},
		{name: "continued", before: first, evidence: later, args: []string{"--known-log", "known.json", "--save-log", "known.json"}, saved: true},
		{name: "the same again, not compared", before: first, evidence: first, args: []string{"--save-log", "known.json"}, saved: true},
		{name: "not compared", before: first, evidence: later, args: []string{"--save-log", "known.json"}, code: 1, says: "give --known-log known.json too"},
		{name: "another boot, not compared", before: first, evidence: other, args: []string{"--save-log", "known.json"}, code: 1, says: "give --known-log known.json too"},
		{name: "another boot", before: first, evidence: other, args: []string{"--known-log", "known.json", "--save-log", "known.json"}, code: 1, says: "--replace-known-log"},
		{name: "another boot, into a new file", before: first, evidence: other, args: []string{"--known-log", "known.json", "--save-log", "new.json"}, code: 1, says: "--replace-known-log"},
		{name: "another boot, decided", before: first, evidence: other, args: []string{"--known-log", "known.json", "--save-log", "known.json", "--replace-known-log"}, saved: true},
		{name: "another boot, the known file is something else", present: "{}", evidence: other, args: []string{"--save-log", "known.json"}, code: 1, says: "give --known-log"},
		{name: "another log of the same boot, decided", before: later, evidence: first, args: []string{"--known-log", "known.json", "--save-log", "known.json", "--replace-known-log"}, code: 2},
		{name: "required, nothing known", policy: required, evidence: first, args: []string{"--save-log", "known.json"}, code: 5},
		{name: "required, begun", policy: required, evidence: first, args: []string{"--save-log", "known.json", "--replace-known-log"}, saved: true},
		{name: "required, another boot", policy: required, before: first, evidence: other, args: []string{"--known-log", "known.json", "--save-log", "known.json"}, code: 5},
		{name: "required, another boot, decided", policy: required, before: first, evidence: other, args: []string{"--known-log", "known.json", "--save-log", "known.json", "--replace-known-log"}, saved: true},
		{name: "nowhere to save", evidence: first, args: []string{"--replace-known-log"}, code: 1, says: "--save-log is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.policy == "" {
				c.policy = openPolicy
			}
			t.Chdir(folder(t, map[string][]byte{"before.json": c.before, "e.json": c.evidence, "policy.toml": []byte(c.policy), "open.toml": []byte(openPolicy), "root.pem": rootPEM(t)}))
			verify := func(policy, file string, args ...string) (int, string, string) {
				return agentctl(t, append([]string{"verify", "--policy", policy, "--nonce", hex.EncodeToString(evidencetest.Nonce), "--at", "2026-06-01T12:00:00Z",
					"--trust-test-root-that-vouches-for-no-hardware", "root.pem", file}, args...)...)
			}
			if c.before != nil {
				if code, stdout, stderr := verify("open.toml", "before.json", "--save-log", "known.json"); code != 0 {
					t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
				}
			} else if c.present != "" {
				if err := os.WriteFile("known.json", []byte(c.present), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before, _ := os.ReadFile("known.json")
			code, stdout, stderr := verify("policy.toml", "e.json", c.args...)
			if code != c.code || !strings.Contains(stderr, c.says) {
				t.Fatalf("exit code %d, want %d and %q\n%s%s", code, c.code, c.says, stdout, stderr)
			}
			after, _ := os.ReadFile("known.json")
			if c.saved != (len(after) > 0 && (c.name == "the same again, not compared" || !bytes.Equal(before, after))) || !c.saved && !bytes.Equal(before, after) {
				t.Errorf("before\n%s\nafter\n%s", before, after)
			}
			if _, err := os.Stat("new.json"); err == nil {
				t.Error("the state of another boot was saved to the new file")
			}
		})
	}
}
