// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// first is a run in which a test passes and logs, one fails, one is skipped, one never
// ends, and a package does not build.
const first = `# command line noise
{"Action":"build-output","ImportPath":"x/broken","Output":"broken.go:1: syntax error\n"}
{"Action":"fail","Package":"x/broken","Elapsed":0}
{"Action":"output","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestGood","Output":"=== RUN   TestGood\n"}
{"Action":"output","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestGood","Output":"    pcr_test.go:10: 24 registers\n"}
{"Action":"pass","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestGood","Elapsed":0.1}
{"Action":"output","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestDevice","Output":"    pcr_test.go:20: needs a software TPM:\n"}
{"Action":"output","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestDevice","Output":"        swtpm is   not installed\n"}
{"Action":"output","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestDevice","Output":"--- SKIP: TestDevice (0.00s)\n"}
{"Action":"skip","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestDevice","Elapsed":0}
{"Action":"output","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestLater","Output":"    pcr_test.go:30: not with -short\n"}
{"Action":"skip","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestLater","Elapsed":0}
{"Action":"pass","Package":"github.com/cvm-agentd/agentd/pcr","Elapsed":1.25}
{"Action":"output","Package":"x/bad","Test":"TestBad","Output":"    bad_test.go:1: got 1, want 2\n"}
{"Action":"fail","Package":"x/bad","Test":"TestBad","Elapsed":0}
{"Action":"output","Package":"x/bad","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"x/bad","Elapsed":2}
`

// second is a later run of what the first one skipped.
const second = `{"Action":"pass","Package":"github.com/cvm-agentd/agentd/pcr","Test":"TestLater","Elapsed":0}
{"Action":"skip","Package":"github.com/cvm-agentd/agentd/none","Elapsed":0}
`

func TestStream(t *testing.T) {
	var out strings.Builder
	if err := run(strings.NewReader(first), &out, nil); err == nil {
		t.Error("no error for a run with failures")
	}
	const want = "# command line noise\n" +
		"broken.go:1: syntax error\n" +
		"FAIL\tx/broken\t0.000s\n" +
		"ok  \tgithub.com/cvm-agentd/agentd/pcr\t1.250s\n" +
		"FAIL\tx/bad\t2.000s\n" +
		"--- output of x/broken\n" +
		"--- output of x/bad TestBad\n" +
		"    bad_test.go:1: got 1, want 2\n" +
		"--- output of x/bad TestHangs\n" +
		"panic: test timed out\n" +
		"--- output of x/bad\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	if err := run(strings.NewReader(second), &out, nil); err != nil {
		t.Errorf("a run without failures: %v", err)
	}
}

func TestSummary(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i, text := range []string{first, second} {
		files = append(files, filepath.Join(dir, string(rune('a'+i))))
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	if err := run(nil, &out, files); err != nil {
		t.Fatal(err)
	}
	const want = "\nwhat passing tests say of themselves:\n" +
		"  pcr TestGood: 24 registers\n" +
		"\nskipped:\n" +
		"  pcr TestDevice: needs a software TPM: swtpm is not installed\n" +
		"\nskipped for want of: a program 1, recordings 0, a command of their own 0, what this machine cannot do 0\n" +
		"\ntests: 2 passed, 3 failed, 1 skipped\n"
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &out, want)
	}
	if err := run(nil, &out, []string{filepath.Join(dir, "missing")}); err == nil {
		t.Error("no error for a missing file")
	}
}

// TestKinds: each reason is counted once, and one that no kind names is the machine's.
func TestKinds(t *testing.T) {
	got := wants([]string{
		"systemd-analyze is not installed", "cmd.go:380: python3 plays the TPM testscript.go:609", "swtpm is not installed: apt-get install swtpm",
		"no recordings of real machines: set X to their folder", "needs a virtual machine: run `make test-vm`", "writes the corpus only with -write-corpus: go generate ./verify",
		"no user namespaces here: operation not permitted", "needs root", "",
	})
	if want := "a program 3, recordings 1, a command of their own 2, what this machine cannot do 3"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
