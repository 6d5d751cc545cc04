// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// onScreen runs a command on a terminal of so many columns.
func onScreen(t *testing.T, columns int, args ...string) (stdout string) {
	t.Helper()
	var out, errs bytes.Buffer
	run(t.Context(), args, &terminal{in: strings.NewReader(""), out: &out, err: &errs, columns: columns})
	if out.Len() == 0 {
		t.Fatalf("agentctl %v prints nothing: %s", args, errs.String())
	}
	return out.String()
}

// anyTree returns a tree of texts of strangers.
func anyTree(random *rand.Rand, depth int) *node {
	n := &node{}
	for range 1 + random.IntN(3) {
		c := n.add("%s", strangers[random.IntN(len(strangers))])
		if depth > 0 {
			c.children = anyTree(random, depth-1).children
		}
	}
	return n
}

// TestTreesFit: whatever strangers wrote, no line of a tree is wider than the terminal, and each
// below the first begins with a branch or a space. In a file each text is one line.
func TestTreesFit(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	for range 50 {
		n := anyTree(random, 4)
		n.text = strings.Repeat("first ", 40)
		for _, width := range []int{0, 20, 57, 80, 132, 300} {
			var out bytes.Buffer
			n.draw(&terminal{out: &out, columns: width})
			lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
			if wide := tooWide(out.String(), width); wide != "" && width >= 57 {
				t.Fatalf("%d columns: %q", width, wide)
			}
			for _, line := range lines[1:] {
				if !strings.ContainsRune(" ├└│", []rune(line + "x")[0]) || steers(line) {
					t.Fatalf("%d columns: a stranger wrote the line %q", width, line)
				}
			}
			if width == 0 && len(lines) != 1+nodes(n) {
				t.Fatalf("%d lines of %d", len(lines), 1+nodes(n))
			}
		}
	}
}

// nodes counts what is below n.
func nodes(n *node) int {
	all := len(n.children)
	for _, c := range n.children {
		all += nodes(c)
	}
	return all
}

// frame is what trees and tables add to words.
var frame = regexp.MustCompile(`[├└│─\s]+`)

// TestAnswersFit: what commands say fits the terminal, and has the same words as in a file.
func TestAnswersFit(t *testing.T) {
	recipe := evidencetest.New()
	recipe.Booted()
	e := recipe.Build(t)
	set := evidencetest.NewParavisor().Build(t)
	plain := jsonOf(t, e)
	e.Certificates = append(e.Certificates, hostileCertificate(t))
	t.Chdir(folder(t, map[string][]byte{
		"e.json": plain, "hostile.json": jsonOf(t, e), "report": e.Report.Bytes, "hcl": set.HCL, "quote": set.Quote, "log": e.FirmwareLog,
		"policy.toml": []byte(openPolicy + "[[app]]\nname = \"billing\"\nunit = \"billing.service\"\nuser = \"root\"\ndigests = [\"" + strings.Repeat("1", 64) + "\"]\n"),
	}))
	long := strings.Repeat("a reason of many words ", 20)
	apps := fmt.Sprintf(`{"apps":[{"name":"billing","unit":"billing.service","user":"billing","state":"unmeasured","reason":%q,"source":"/etc/agentd/apps.d/billing.toml"}]}`, long)
	socket := fakeAgent(t, map[string]answer{
		"/v1/apps":   {200, apps},
		"/v1/status": {200, fmt.Sprintf(`{"version":"0.1.0","evidence":{"ready":false,"code":"tpm-unavailable","reason":%[1]q},"tpm":{"state":"degraded","reason":%[1]q},"platform":{"state":"ok","kind":"sev-snp"},"keys":{"state":"absent","reason":%[1]q},"ledger":{"reason":%[1]q}}`, long)},
		"/v1/self":   {200, fmt.Sprintf(`{"uid":1,"gid":1,"pid":5,"unitReason":%[1]q,"measured":{"yes":false,"reason":%[1]q},"keys":{"yes":false,"reason":%[1]q},"method":"pidfd"}`, long)},
		"/v1/store":  {200, fmt.Sprintf(`{"status":{"state":"degraded","reason":%q},"blobs":[{"app":"billing","kind":"secret","name":"token","unproven":true}]}`, long)},
		"/v1/log":    {200, string(jsonOf(t, e.Log))},
	})
	agent := []string{"--socket=" + socket, "--admin=" + socket}
	for _, args := range [][]string{
		{"show", "e.json"}, {"show", "--pcrs", "e.json"}, {"show", "hostile.json"}, {"show", "report"}, {"show", "hcl"}, {"show", "quote"}, {"show", "log"},
		{"app", "list"}, {"status"}, {"self"}, {"key", "list"}, {"log"}, {"doctor"}, {"policy", "diff", "policy.toml"},
		{"verify", "--policy", "policy.toml", "--accept-replay", "--verbose", "e.json"}, {"policy", "explain", "policy.toml"},
	} {
		args = append(args, agent...)
		whole := frame.ReplaceAllString(onScreen(t, 0, args...), "")
		for _, width := range []int{57, 80, 132} {
			text := onScreen(t, width, args...)
			var folded strings.Builder // without commands to copy
			for line := range strings.Lines(text) {
				if !strings.Contains(line, "agentctl policy add-digest") {
					folded.WriteString(line)
				}
			}
			if wide := tooWide(folded.String(), width); wide != "" {
				t.Errorf("%v, %d columns: %q", args, width, wide)
			}
			if args[0] != "verify" && frame.ReplaceAllString(text, "") != whole {
				t.Errorf("%v, %d columns: other words:\n%s", args, width, text)
			}
			if steers(text) {
				t.Errorf("%v: %q", args, text)
			}
		}
	}
}

func jsonOf(t *testing.T, v any) []byte {
	t.Helper()
	b, err := strictjson.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
