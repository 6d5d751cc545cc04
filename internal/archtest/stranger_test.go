// SPDX-License-Identifier: Apache-2.0

package archtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// strangers are programs of other modules, which use nothing but the public packages. The
// first two are the shortest useful ones; the last must not compile.
var strangers = []struct {
	name, source string
	refusal      string // of the compiler
}{
	{name: "verifies evidence", source: `package main

import (
	"fmt"
	"os"
	"time"

	"github.com/cvm-agentd/agentd/verify"
)

func main() {
	text, _ := os.ReadFile("policy.toml")
	document, _ := os.ReadFile("evidence.json")
	policy, err := verify.ParsePolicy(text)
	if err != nil {
		panic(err)
	}
	verifier, _ := verify.New(policy, verify.Config{})
	claims, err := verifier.Verify(document, verify.Expect{Nonce: []byte(os.Args[1])}, time.Now())
	fmt.Println(claims, err)
}
`},
	{name: "asks for evidence", source: `package main

import (
	"context"
	"os"

	"github.com/cvm-agentd/agentd/api"
	"github.com/cvm-agentd/agentd/client"
)

func main() {
	var agent client.Client
	document, err := agent.Evidence(context.Background(), api.EvidenceRequest{Nonce: []byte(os.Args[1])})
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(document)
}
`},
	{name: "reaches inside", refusal: "use of internal package", source: `package main

import _ "github.com/cvm-agentd/agentd/internal/tpm"

func main() {}
`},
}

// TestStrangers checks from outside the module that short programs over the public
// packages compile, and that one over an internal package does not. It needs no network:
// the modules are those of this module, from the cache.
func TestStrangers(t *testing.T) {
	sums, err := os.ReadFile(filepath.Join(root(t), "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range strangers {
		t.Run(s.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, content := range map[string]string{
				"main.go": s.source,
				"go.sum":  string(sums),
				"go.mod": "module stranger.example\n\ngo 1.26.0\n\n" +
					"require " + module + " v0.0.0\n\nreplace " + module + " => " + root(t) + "\n",
			} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.Command("go", "list", "-export", ".") // compiles, and does not link
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "CGO_ENABLED=0")
			out, err := cmd.CombinedOutput()
			switch {
			case s.refusal == "" && err != nil:
				t.Errorf("compile: %v\n%s", err, out)
			case s.refusal != "" && (err == nil || !strings.Contains(string(out), s.refusal)):
				t.Errorf("compile: %v, want %q\n%s", err, s.refusal, out)
			}
		})
	}
}
