// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/ima"
	"github.com/cvm-agentd/agentd/pcr"
)

// measuredMachine is evidence of a machine with a list of IMA of these files, and the list.
func measuredMachine(t *testing.T, files ...[]byte) (document, list []byte) {
	t.Helper()
	r := evidencetest.New()
	r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13}}, {Algorithm: pcr.SHA384, PCRs: []uint32{13}}}
	for i := range uint32(10) {
		r.PCRs.Set(pcr.SHA256, i, bytes.Repeat([]byte{0x10 + byte(i)}, 32))
	}
	entries := append([][]byte{evidencetest.IMAAggregate(r.PCRs)}, files...)
	r.PCRs.Set(pcr.SHA256, 10, evidencetest.IMAValue(pcr.SHA256, entries...))
	return r.Encode(t), bytes.Join(entries, nil)
}

// TestVerifyWithIMAList: a list in a file, or from a pipe, is judged by the policy, and a file
// that was changed on disk is named by its path.
func TestVerifyWithIMAList(t *testing.T) {
	good, changed := evidencetest.IMAFile("/usr/bin/true", "true"), evidencetest.IMAFile("/usr/bin/false\x1b[2J", "changed")
	document, list := measuredMachine(t, good)
	evil, evilList := measuredMachine(t, good, changed)
	reference := ima.EncodeReference(pcr.SHA256, [][]byte{pcr.SHA256.Sum([]byte("true"))})
	policy := openPolicy + "[[ima_files]]\nreference = \"" + hex.EncodeToString(pcr.SHA256.Sum(reference)) + "\"\n"
	t.Chdir(folder(t, map[string][]byte{"e.json": document, "evil.json": evil, "policy.toml": []byte(policy), "root.pem": rootPEM(t),
		"ima.bin": append(bytes.Clone(list), "entries after the quote"...), "evil.bin": evilList, "short.bin": list[:len(list)-len(good)], "reference": reference}))
	verify := func(more ...string) (int, string, string) {
		return agentctl(t, append([]string{"verify", "--policy", "policy.toml", "--nonce", hex.EncodeToString(evidencetest.Nonce), "--at", "2026-06-01T12:00:00Z",
			"--trust-test-root-that-vouches-for-no-hardware", "root.pem"}, more...)...)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string // on either output
	}{
		{"accepted", []string{"--ima-list", "ima.bin", "--ima-reference", "reference", "e.json"}, 0, "2 measurements of the kernel"},
		{"no list", []string{"--ima-reference", "reference", "e.json"}, 5, "policy.ima"},
		{"changed on disk", []string{"--ima-list", "evil.bin", "--ima-reference", "reference", "evil.json"}, 5, `/usr/bin/false?[2J`},
		{"read before the quote", []string{"--ima-list", "short.bin", "--ima-reference", "reference", "e.json"}, 2, "read before the quote"},
		{"of another machine", []string{"--ima-list", "evil.bin", "--ima-reference", "reference", "e.json"}, 0, "2 measurements"}, // its beginning is the same
		{"no reference", []string{"--ima-list", "ima.bin", "e.json"}, 1, "which was not given"},
		{"no file", []string{"--ima-list", "absent.bin", "--ima-reference", "reference", "e.json"}, 1, "absent.bin"},
		{"a folder", []string{"--ima-list", ".", "--ima-reference", "reference", "e.json"}, 1, "is a directory"},
		{"a bare report", []string{"--ima-list", "ima.bin", "--snp-report", "e.json"}, 1, "--ima-list belongs to a quote"},
		{"standard input twice", []string{"--ima-list", "-", "--ima-reference", "-", "e.json"}, 1, "--ima-list - and --ima-reference - would each be read from standard input"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, stdout, stderr := verify(c.args...)
			if out := strings.Join(strings.Fields(stdout+stderr), " "); code != c.code || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d, want %d and %q\n%s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
}

// TestShowIMAList: show prints each entry and where they lead to, and what is wrong with the rest.
func TestShowIMAList(t *testing.T) {
	_, list := measuredMachine(t, evidencetest.IMAFile("/usr/bin/true", "true"), evidencetest.IMAViolation("/var/log/x\x1b"))
	digest := hex.EncodeToString(pcr.SHA256.Sum([]byte("true")))
	t.Chdir(folder(t, map[string][]byte{"ima.bin": list, "cut.bin": list[:len(list)-1]}))
	for name, want := range map[string][]string{
		"ima.bin": {"NOT VERIFIED", `"/usr/bin/true" sha256:` + digest, `violation: "/var/log/x\x1b"`, "bank sha1", "in bank sha256 of kernels before Linux 5.8"},
		"cut.bin": {"boot_aggregate", "the rest cannot be read: IMA list, entry 2: the list ends within the entry"},
	} {
		code, stdout, stderr := agentctl(t, "show", name)
		out := strings.Join(strings.Fields(strings.NewReplacer("│", "", "├─", "", "└─", "").Replace(stdout)), " ")
		for _, w := range want {
			if code != 0 || !strings.Contains(out, w) {
				t.Errorf("%s: exit code %d, want %q\n%s%s", name, code, w, stdout, stderr)
			}
		}
	}
}
