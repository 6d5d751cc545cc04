// SPDX-License-Identifier: Apache-2.0

// Package conformance tries agentd-conformance from outside, on verifiers that are right and on some
// that are wrong.
package conformance

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/conformance"
	"github.com/cvm-agentd/agentd/internal/junit"
)

// commands is where agentctl and agentd-conformance are.
var commands string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if commands, err = os.MkdirTemp("", "agentd-test-conformance-"); err != nil {
		panic(err)
	}
	defer os.RemoveAll(commands)
	for _, name := range []string{"agentctl", "agentd-conformance"} {
		if out, err := exec.Command("go", "build", "-o", commands+"/", "../../cmd/"+name).CombinedOutput(); err != nil {
			panic(fmt.Sprintf("build %s: %v\n%s", name, err, out))
		}
	}
	return m.Run()
}

// kit runs the kit, and returns its exit code and output.
func kit(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(commands, "agentd-conformance"), args...)
	c.Env = append(os.Environ(), "AGENTCTL="+filepath.Join(commands, "agentctl"), "TMPDIR="+t.TempDir())
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	// What a command writes has a cap, whatever it does. Maxrss is in KiB.
	if usage, ok := c.ProcessState.SysUsage().(*syscall.Rusage); ok && usage.Maxrss > 500<<10 {
		t.Errorf("the kit used %d MiB of memory", usage.Maxrss>>10)
	}
	return c.ProcessState.ExitCode(), out.String(), errs.String()
}

// judged runs the kit on a verifier, and returns its report.
func judged(t *testing.T, want int, args ...string) *conformance.Report {
	t.Helper()
	code, out, errs := kit(t, append(args, "--format", "json")...)
	if code != want {
		t.Errorf("exit code %d, want %d\n%s", code, want, errs)
	}
	r := new(conformance.Report)
	if err := json.Unmarshal([]byte(out), r); err != nil {
		t.Fatalf("%v\n%.500s\n%s", err, out, errs)
	}
	if r.Type != conformance.ReportType || r.Conforms != (code == 0) || len(r.Corpus) != 64 {
		t.Errorf("type %s, conforms %v, corpus %s", r.Type, r.Conforms, r.Corpus)
	}
	if n := r.Passed + r.Failed + r.Errors + r.Unsupported + r.NotRun; n != len(r.Cases) {
		t.Errorf("%d cases are counted, and there are %d", n, len(r.Cases))
	}
	return r
}

// script writes a verifier in shell.
func script(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "verifier")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

// wrong lists the cases that did not pass, for a message.
func wrong(r *conformance.Report) string {
	var b strings.Builder
	for _, x := range r.Cases {
		if x.Outcome != conformance.Passed && x.Outcome != conformance.Unsupported {
			fmt.Fprintf(&b, "%s %s (%s): %s\n", x.Outcome, x.Name, x.About, x.Detail)
		}
	}
	return b.String()
}

// slow is a limit of time that even a busy machine keeps.
const slow = "2m"

// TestOurVerifier: agentctl passes every case, by the adapter that the kit ships.
func TestOurVerifier(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each case: not with -short")
	}
	r := judged(t, 0, "--timeout", slow, "--verifier", "../../internal/conformance/adapters/agentctl")
	if r.Passed != len(r.Cases) || r.Passed < 900 || r.ChecksCompared < 850 || r.MustAccept < 30 {
		t.Errorf("%d of %d passed, checks compared in %d, %d to accept\n%s", r.Passed, len(r.Cases), r.ChecksCompared, r.MustAccept, wrong(r))
	}
}

// TestReader: the reader in Python passes the first case of each check, and all that must be accepted,
// as far as it supports them. What it says it lacks is listed and not counted as passed, and the exit
// code says so unless --without does. The test of ../reader has it judge all cases, in one process.
func TestReader(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a process for each case: not with -short")
	}
	var python string
	for _, name := range []string{"python3", "/usr/bin/python3"} {
		if p, err := exec.LookPath(name); err == nil && exec.Command(p, "-c", "import cryptography").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		t.Skip("no python3 with the module cryptography: install python3 and python3-cryptography")
	}
	reader := python + " -B ../reader/answer.py"
	r := judged(t, 0, "--timeout", slow, "--without", "policy,snp-report,azure-paravisor-set", "--run", "*-01", "--run", "accepted-*", "--verifier", reader)
	if r.Passed+r.Unsupported != len(r.Cases) || r.Passed < 90 || r.Unsupported < 60 || r.ChecksCompared < 50 || r.MustAccept < 30 {
		t.Errorf("%d passed, %d not supported of %d, checks compared in %d\n%s", r.Passed, r.Unsupported, len(r.Cases), r.ChecksCompared, wrong(r))
	}
	r = judged(t, 3, "--timeout", slow, "--run", "policy-vmpl-*", "--run", "quote-magic-*", "--verifier", reader)
	if r.Unsupported != 6 || r.Passed != 2 {
		t.Errorf("%d not supported, %d passed\n%s", r.Unsupported, r.Passed, wrong(r))
	}
}

// some selects cases that must be accepted and others, of no feature, in short time.
var some = []string{"--run", "accepted-01", "--run", "accepted-02", "--run", "quote-magic-*", "--run", "quote-type-*"}

// TestWrongVerifiers: each kind of wrong verifier is reported as what it is.
func TestWrongVerifiers(t *testing.T) {
	const yes, no = `{"verdict":"accept"}`, `{"verdict":"refuse"}`
	for _, c := range []struct {
		name, text string
		want       conformance.Count
		accepted   int
		says       string // of each case that did not pass
	}{
		{"accepts everything", "echo '" + yes + "'", conformance.Count{Passed: 2, Failed: 4}, 4, "ACCEPTED, and must be refused"},
		{"refuses everything", "echo '" + no + "'", conformance.Count{Passed: 4, Failed: 2}, 0, "refused, and must be accepted"},
		{"refuses by another check", `[ -e "$1/evidence" ] && echo '{"verdict":"refuse","checks":["ak.decode"]}'`, conformance.Count{Failed: 6}, 0, "re"},
		{"crashes after an answer", "echo '" + no + "'; kill -SEGV $$", conformance.Count{Errors: 6}, 0, "it ended with signal: segmentation fault"},
		{"ends with 1, as a crashed interpreter", "echo Traceback >&2; exit 1", conformance.Count{Errors: 6}, 0, "exit status 1: Traceback"},
		{"says nothing", "exit 0", conformance.Count{Errors: 6}, 0, "printed nothing"},
		{"breaks its JSON", `printf '{"verdict":"refuse"'`, conformance.Count{Errors: 6}, 0, "one JSON object"},
		{"says two things", "echo '" + no + yes + "'", conformance.Count{Errors: 6}, 0, "one JSON object"},
		{"logs to its output", "echo verifying; echo '" + no + "'", conformance.Count{Errors: 6}, 0, "one JSON object"},
		{"floods its output", "ulimit -t 10; exec yes '" + no + "'", conformance.Count{Errors: 6}, 0, "it wrote too much: more than 65536 bytes"},
		{"floods its errors", "ulimit -t 10; yes >&2; echo '" + no + "'", conformance.Count{Errors: 6}, 0, "it wrote too much: more than 65536 bytes"},
		{"lacks the core", `echo '{"verdict":"refuse","unsupported":["core"]}'`, conformance.Count{Errors: 6}, 0, `"core" is not a feature`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := judged(t, 2, append(slices.Clone(some), "--timeout", slow, "--verifier", script(t, c.text))...)
			if r.Count != c.want || r.WronglyAccepted != c.accepted {
				t.Errorf("%+v, %d accepted wrongly; want %+v, %d\n%s", r.Count, r.WronglyAccepted, c.want, c.accepted, wrong(r))
			}
			for _, x := range r.Cases {
				if x.Outcome != conformance.Passed && !strings.Contains(x.Detail, c.says) {
					t.Errorf("%s says %q, want %q", x.Name, x.Detail, c.says)
				}
			}
		})
	}
}

// TestHangs: a verifier that does not end is ended with what it started. The run gives up after ten,
// and the rest is listed as not run.
func TestHangs(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	hang := script(t, "sleep 1000 & echo $! >>"+pids+"; wait")
	r := judged(t, 2, "--timeout", "300ms", "--jobs", "2", "--run", "quote-*", "--verifier", hang)
	if r.Passed+r.Failed+r.Unsupported != 0 || r.Errors < 10 || r.Errors > 12 || r.NotRun != len(r.Cases)-r.Errors || r.NotRun < 20 {
		t.Errorf("%+v of %d", r.Count, len(r.Cases))
	}
	b, err := os.ReadFile(pids)
	if err != nil {
		t.Skip("no child began in time")
	}
	for pid := range strings.FieldsSeq(string(b)) {
		gone := func() bool {
			stat, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
			return err != nil || bytes.Contains(stat, []byte(") Z "))
		}
		for end := time.Now().Add(20 * time.Second); !gone(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Errorf("process %s, which the verifier started, still runs", pid)
				break
			}
		}
	}
}

// TestLeavesAChild: a program that stays behind and keeps the output open does not hold the kit up, and
// its answer does not count.
func TestLeavesAChild(t *testing.T) {
	away := script(t, `setsid sleep 30 & echo '{"verdict":"refuse"}'`)
	r := judged(t, 2, "--run", "quote-magic-01", "--timeout", slow, "--verifier", away)
	if r.Errors != 1 || !strings.Contains(r.Cases[0].Detail, "keeps its output open") {
		t.Errorf("%+v\n%s", r.Count, wrong(r))
	}
}

// TestLacks: a verifier says what it lacks. Such cases are skipped, and the others are judged.
func TestLacks(t *testing.T) {
	lacks := script(t, `echo '{"verdict":"refuse","unsupported":["ima","svsm"],"reason":"a\u001b[2Jb"}'`)
	args := []string{"--run", "ima-replay-0*", "--run", "svsm-manifest-0*", "--run", "quote-magic-*", "--timeout", slow, "--verifier", lacks}
	r := judged(t, 3, args...)
	if r.Passed != 2 || r.Unsupported != len(r.Cases)-2 || r.Unsupported < 10 || r.MustAccept != 0 {
		t.Errorf("%+v of %d", r.Count, len(r.Cases))
	}
	for _, x := range r.Cases {
		if x.Answer.Reason != "a?[2Jb" {
			t.Errorf("%s: the report repeats the reason as %q", x.Name, x.Answer.Reason)
		}
	}
	code, text, _ := kit(t, args...)
	if code != 3 || !strings.Contains(text, "No case of the selection must be accepted") || !strings.Contains(text, "INCOMPLETE: none failed, 2 of ") {
		t.Errorf("exit code %d\n%s", code, text)
	}
	code, text, _ = kit(t, append(args, "--format", "junit")...)
	var doc junit.Suites
	if err := xml.Unmarshal([]byte(text), &doc); err != nil || len(doc.Suites) != 1 {
		t.Fatalf("%v\n%.300s", err, text)
	}
	if s := doc.Suites[0]; code != 3 || s.Skipped != r.Unsupported || s.Tests != len(r.Cases) || s.Failures+s.Errors != 0 || len(s.Cases) != s.Tests {
		t.Errorf("%d tests, %d skipped, %d failures, %d errors", s.Tests, s.Skipped, s.Failures, s.Errors)
	}
	// What --without names is not run at all, and the exit code is 0.
	ran := filepath.Join(t.TempDir(), "ran")
	counted := script(t, "echo x >>"+ran+`; echo '{"verdict":"refuse"}'`)
	r = judged(t, 0, append(slices.Clone(args[:len(args)-1]), counted, "--without", "ima,svsm")...)
	if b, err := os.ReadFile(ran); err != nil || bytes.Count(b, []byte("x")) != 2 || r.Passed != 2 {
		t.Errorf("%d passed, ran %q, %v", r.Passed, b, err)
	}
}

// TestContract: what the command gets is what docs/conformance.md says, and nothing says what is expected.
func TestContract(t *testing.T) {
	dir := t.TempDir()
	seen := script(t, "{ [ $# = 3 ] && echo $1 $2 $AGENTD_CONFORMANCE; pwd; cat; } >"+dir+"/said; cp -r \"$3\" "+dir+`/folder; echo '{"verdict":"refuse","checks":["report.revocation"]}'`)
	r := judged(t, 0, "--run", "report-revocation-01.case", "--timeout", slow, "--verifier", seen+"  one two")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "said"))
	if err != nil || string(b) != "one two 1\n"+here+"\n" || r.Passed != 1 || r.ChecksCompared != 1 {
		t.Errorf("the command saw %q, %v; %d passed\n%s", b, err, r.Passed, wrong(r))
	}
	var names []string
	files, err := os.ReadDir(filepath.Join(dir, "folder"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, f.Name())
	}
	if want := []string{"certificates.pem", "evidence", "nonce", "policy.toml", "revocation-1.crl", "roots.pem", "time"}; !slices.Equal(names, want) {
		t.Errorf("the folder has %q, want %q", names, want)
	}
	export := filepath.Join(dir, "export")
	if code, _, errs := kit(t, "--export", export, "--run", "report-revocation-01", "--run", "accepted-01"); code != 0 {
		t.Fatal(errs)
	}
	if out, err := exec.Command("diff", "-r", filepath.Join(dir, "folder"), filepath.Join(export, "report-revocation-01")).CombinedOutput(); err != nil {
		t.Errorf("the exported case differs: %s", out)
	}
	for name, want := range map[string]string{"report-revocation-01.expected": "refuse\nreport.revocation\n", "accepted-01.expected": "accept\n"} {
		if b, err := os.ReadFile(filepath.Join(export, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	if code, _, errs := kit(t, "--export", export); code != 1 || !strings.Contains(errs, "exists") {
		t.Errorf("exit code %d, %s: exported over a folder", code, errs)
	}
}

// TestMisuse: a command line that says two things, or none, is refused with a hint.
func TestMisuse(t *testing.T) {
	for args, want := range map[string]string{
		"": "give one of --verifier COMMAND, --list and --export DIR", "--list --verifier x": "give one of",
		"--verifier x y": `unexpected argument "y"`, "--verifier /nonexistent/x": "find the verifier", "--verifier true --run [": "--run",
		"--list --run nothing-*": "none has such a name", "--list --feature tea": `"tea" is not a feature`, "--verifier x --without ima,core": `"core" is not a feature`,
		"--verifier x --timeout 1ms": "want 100ms to 10m", "--verifier x --jobs 0": "want 1 to 64", "--verifier x --format xml": "want text, json or junit",
		"--verifier x --verifier y": "it was given before",
	} {
		if code, out, errs := kit(t, strings.Fields(args)...); code != 1 || !strings.Contains(errs, want) || out != "" {
			t.Errorf("%s: exit code %d, %q, %q, want %q", args, code, out, errs, want)
		}
	}
	code, out, _ := kit(t, "--list", "--feature", "gcp")
	if lines := strings.Count(out, "\n"); code != 0 || lines < 20 || strings.Count(out, "accept ") != 1 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out, _ := kit(t, "--help"); code != 0 || !strings.Contains(out, "\n  azure-paravisor-set  ") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if code, out, _ := kit(t, "--version"); code != 0 || !strings.HasPrefix(out, "agentd-conformance ") {
		t.Errorf("exit code %d, %s", code, out)
	}
}

// TestInterrupted: a signal ends the run and what it started, without a report and without leftovers.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	began := filepath.Join(dir, "began")
	c := exec.CommandContext(t.Context(), filepath.Join(commands, "agentd-conformance"), "--jobs", "1", "--timeout", "10m", "--verifier", script(t, "echo $$ >"+began+".new; mv "+began+".new "+began+"; exec sleep 1000"))
	tmp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	c.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out bytes.Buffer
	c.Stdout = &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var pid []byte
	for end := time.Now().Add(time.Minute); len(pid) == 0; time.Sleep(10 * time.Millisecond) {
		pid, _ = os.ReadFile(began)
		if time.Now().After(end) {
			t.Fatal("the verifier did not begin")
		}
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := c.Wait(); err == nil || c.ProcessState.ExitCode() != 1 || out.Len() > 0 {
		t.Errorf("%v, and printed %q", err, &out)
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(pid))); err != nil || exists(n) {
		t.Errorf("process %s still runs (%v)", pid, err)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func exists(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return runtime.GOOS == "linux" && err == nil && !bytes.Contains(stat, []byte(") Z "))
}
