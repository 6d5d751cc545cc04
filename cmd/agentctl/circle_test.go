// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// refusing is an agent that answers everything with one code, apart from what it knows by
// heart. Its status says so too, as that of an agent that cannot make evidence.
func refusing(t *testing.T, socket string, code *api.Code) {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		const detail = "what was found"
		info := code.Info()
		var out any = &api.Problem{Type: "about:blank", Title: info.Title, Status: info.Status, Code: *code, Detail: detail}
		switch r.URL.Path {
		case "/v1/apps":
			out = api.Apps{Apps: []api.App{{Name: "billing", State: api.AppUnmeasured, Reason: detail}}}
		case "/v1/self":
			out = api.Self{UnitReason: detail, Keys: api.Finding{Reason: detail}, Measured: api.Finding{Reason: detail}}
		case "/v1/status":
			st := api.Status{Version: "test", Evidence: api.EvidenceStatus{Code: *code, Reason: detail}}
			st.TPM = api.TPMStatus{State: api.StateDegraded, Code: *code, Reason: detail}
			st.Platform = api.PlatformStatus{State: api.StateAbsent, Reason: detail}
			st.Keys = api.KeyStatus{State: api.StateDegraded, Code: *code, Reason: detail}
			st.Ledger = api.LedgerStatus{Reason: detail}
			st.Apps = api.AppCounts{Declared: 2, Unmeasured: 2}
			out = st
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(info.Status)
		}
		b, err := strictjson.Encode(out)
		if err != nil {
			t.Error(err)
		}
		w.Write(b)
	})}
	t.Cleanup(func() { server.Close() })
	go server.Serve(l)
}

// quoted are the commands of agentctl in what a message says to do.
var quoted = regexp.MustCompile("`agentctl ([^`]+)`")

// advice are the lines of an output that say what to do.
var advice = regexp.MustCompile(`(?m)^(?:hint| *do): (.+)$`)

// TestHintsLeadSomewhere: over all codes of the API, and the commands that show them: what a
// message says to do is never a command that prints the same again. Commands that change
// something are not run: they are for a person who has read on.
func TestHintsLeadSomewhere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	var code api.Code
	refusing(t, socket, &code)
	ask := func(args ...string) string {
		_, stdout, stderr := agentctl(t, append(args, "--socket", socket, "--admin", socket)...)
		return stdout + stderr
	}
	looks := [][]string{
		{"attest", "--nonce", "000102030405060708090a0b0c0d0e0f"}, {"status"}, {"doctor", "--config", "/nonexistent"}, {"self"},
		{"app", "list"}, {"app", "reload"}, {"key", "list"}, {"key", "derive", "--label", "x", "--length", "32"}, {"unseal", "--name", "x"},
		{"enroll", "request"}, {"log"}, {"key", "store-key"},
	}
	read := []string{"doctor", "status", "self", "app list", "key list"}
	followed := 0
	for _, info := range api.Codes() {
		code = info.Code
		for _, args := range looks {
			out := ask(args...)
			hints := advice.FindAllStringSubmatch(out, -1)
			if args[0] == "attest" && (len(hints) != 1 || !strings.Contains(out, string(code)) || !strings.Contains(out, "what was found")) {
				t.Errorf("%s: %v does not say what was attempted, what was found and what to do:\n%s", code, args, out)
			}
			for _, h := range hints {
				for _, q := range quoted.FindAllStringSubmatch(h[1], -1) {
					command := strings.TrimSuffix(q[1], " --wait 1m")
					if !slices.Contains(read, command) {
						continue
					}
					followed++
					if again := ask(strings.Fields(command)...); strings.Contains(again, h[1]) {
						t.Errorf("%s: %v says %q, and agentctl %s says it again:\n%s", code, args, h[1], command, again)
					}
				}
			}
		}
	}
	if followed < 20 {
		t.Errorf("%d hints were followed: the test sees too little", followed)
	}
}

// TestHintsNameCommands: what messages of agent and agentctl, and the documents, say to run
// exists, with the flags that they give it, and takes the words that follow.
func TestHintsNameCommands(t *testing.T) {
	root := newRoot(&terminal{}, &sockets{})
	seen := 0
	check := func(where, text string) {
		for _, q := range quoted.FindAllStringSubmatch(text, -1) {
			line, _, _ := strings.Cut(q[1], " >") // into a file
			words := strings.Fields(strings.NewReplacer("[", "", "]", "", `\"`, "").Replace(line))
			if len(words) == 0 || !regexp.MustCompile(`^[a-z-]+$`).MatchString(words[0]) || words[0] == "help" {
				continue // made of parts when it runs
			}
			seen++
			c, rest, err := root.Find(words)
			if err != nil || c == root {
				t.Errorf("%s: there is no command `agentctl %s`", where, q[1])
				continue
			}
			var names []string // that are not those of flags or their values
			for i := 0; i < len(rest); i++ {
				name, ok := strings.CutPrefix(rest[i], "--")
				if !ok {
					names = append(names, rest[i])
					continue
				}
				name, _, given := strings.Cut(name, "=")
				flag := cmp.Or(c.Flags().Lookup(name), c.InheritedFlags().Lookup(name))
				if flag == nil && name != "help" {
					t.Errorf("%s: `%s` has no flag --%s", where, c.CommandPath(), name)
				} else if flag != nil && flag.NoOptDefVal == "" && !given {
					i++
				}
			}
			if err := c.ValidateArgs(names); err != nil && strings.Contains(err.Error(), "unexpected argument") || c.HasSubCommands() && len(names) > 0 {
				t.Errorf("%s: `agentctl %s`: %q does not take %q", where, q[1], c.CommandPath(), names)
			}
		}
	}
	for _, info := range api.Codes() {
		check(string(info.Code), info.Hint)
	}
	for _, folder := range []string{"..", "../../agent", "../../internal", "../../api", "../../verify", "../../sealing", "../../client",
		"../../docs", "../../README.md", "../../CONTRIBUTING.md"} {
		err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !slices.Contains([]string{".go", ".md"}, filepath.Ext(path)) || strings.HasSuffix(path, "_test.go") {
				return err
			}
			b, err := os.ReadFile(path)
			check(path, string(b))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 60 {
		t.Errorf("%d commands were found: the test sees too little", seen)
	}
}
