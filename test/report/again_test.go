// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// lines are events of tests of package x: "fail TestA", or "TestA says what it prints". A test
// without a name is the package.
func lines(events ...string) string {
	var out strings.Builder
	for _, e := range events {
		first, second, _ := strings.Cut(e, " ")
		if said, ok := strings.CutPrefix(second, "says "); ok {
			fmt.Fprintf(&out, `{"Action":"output","Package":"x","Test":%q,"Output":"    %s\n"}`+"\n", first, said)
		} else {
			fmt.Fprintf(&out, `{"Action":%q,"Package":"x","Test":%q}`+"\n", first, second)
		}
	}
	return out.String()
}

// after are lines of package x, as JSON has them.
func after(said ...string) string {
	var out strings.Builder
	for _, line := range said {
		fmt.Fprintf(&out, `{"Action":"output","Package":"x","Output":"%s"}`+"\n", line)
	}
	return out.String()
}

// twice runs again for a first run and a second one, which ends as it is told. It returns the list
// of what failed once, the summary of both, and how the second run was called.
func twice(t *testing.T, before, first, second string, code int) (list, summary, called string, err error) {
	t.Helper()
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{"list": before, "run.json": first, "second": second} {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	script := fmt.Sprintf(`echo "$@" >>%s; cat %s; exit %d`, file("called"), file("second"), code)
	var out strings.Builder
	err = again(file("list"), file("run.json"), []string{"sh", "-c", script, "go", "test"}, &out)
	read := func(name string) string {
		b, _ := os.ReadFile(file(name))
		return string(b)
	}
	files := []string{file("run" + againSuffix), file("run.json")}
	if read("run"+againSuffix) == "" {
		files = files[1:]
	}
	var sum strings.Builder
	if err := run(nil, &sum, files); err != nil {
		t.Fatal(err)
	}
	return read("list"), sum.String(), read("called"), err
}

// TestAgain: a test that passes in its second run is listed, with all that it and its subtests said
// when they failed.
func TestAgain(t *testing.T) {
	first := lines("TestA says a_test.go:1: late", "fail TestA", "TestB says nothing of interest", "TestB/x says b_test.go:2: 0, want 1",
		"fail TestB/x", "pass TestB/y", "fail TestB", "pass TestC", "fail ")
	list, summary, called, err := twice(t, "", first, lines("pass TestA", "pass TestB/x", "pass TestB/y", "pass TestB", "pass "), 0)
	if err != nil {
		t.Fatal(err)
	}
	const want = "FAILED ONCE: x TestA: it passed in a second run. What it said before:\n    a_test.go:1: late\n" +
		"FAILED ONCE: x TestB: it passed in a second run. What it said before:\n    nothing of interest\n    b_test.go:2: 0, want 1\n"
	if list != want {
		t.Errorf("the list says\n%s\nwant\n%s", list, want)
	}
	if want := "test -count=1 -run ^TestA$|^TestB$ x\n"; called != want {
		t.Errorf("called with %q, want %q", called, want)
	}
	if want := "\ntests: 5 passed (2 IN A SECOND RUN ONLY), 0 failed, 0 skipped\n"; !strings.HasSuffix(summary, want) {
		t.Errorf("the summary says %s", summary)
	}
}

// timed are events of a test of package x that failed, and of its subtests: a name, seconds, and how it
// ended.
func timed(test string, seconds float64, subtests ...string) string {
	var out strings.Builder
	for _, s := range subtests {
		name, ended, _ := strings.Cut(s, ": ")
		fmt.Fprintf(&out, `{"Action":%q,"Package":"x","Test":%q,"Elapsed":%v}`+"\n", ended, test+"/"+name, seconds)
	}
	fmt.Fprintf(&out, `{"Action":"output","Package":"x","Test":%q,"Output":"--- FAIL: %s (0.00s)\n"}`+"\n", test, test)
	fmt.Fprintf(&out, `{"Action":"fail","Package":"x","Test":%q,"Elapsed":0.1}`+"\n", test)
	return out.String()
}

// TestAgainAlone: of a long test only the subtests are run again that failed, unless the test says
// something itself. All that failed must pass then, and the package's other tests are run as a whole.
func TestAgainAlone(t *testing.T) {
	good := lines("pass TestA/a", "pass TestA/b", "pass TestA/b/c", "pass TestA/b.d", "pass TestA", "pass TestB", "pass ")
	for _, c := range []struct{ first, want string }{
		{timed("TestA", 31, "a: pass", "b: fail"), "^TestA$/^(b)$"},
		{timed("TestA", 31, "a: fail", "b: fail", "b/c: fail"), "^TestA$/^(a|b)$"},
		{timed("TestA", 61, "b/c: fail"), "^TestA$"}, // the time of b/c is part of that of b
		{timed("TestA", 31, "a: pass", "b.d: fail") + lines("TestB says late", "fail TestB"), `^TestA$/^(b\.d)$|^TestB$`},
		{timed("TestA", 29, "a: pass", "b: fail"), "^TestA$"},
		{lines("TestA says of all") + timed("TestA", 31, "a: pass", "b: fail"), "^TestA$"},
		{timed("TestA", 31, "a: pass", "b: pass"), "^TestA$"},
	} {
		_, _, called, err := twice(t, "", c.first+lines("fail "), good, 0)
		if want := "test -count=1 -run " + c.want + " x\n"; err != nil || called != want {
			t.Errorf("%v, called with %q, want %q", err, called, want)
		}
	}
	list, _, _, err := twice(t, "", timed("TestA", 31, "a: fail", "b: fail")+lines("fail "), lines("pass TestA/b", "pass TestA", "pass "), 0)
	if err == nil || !strings.Contains(err.Error(), "x TestA/a did not pass in a second run") || list != "" {
		t.Errorf("a subtest that was not run again: %v, the list says %q", err, list)
	}
}

// rowsAgain has this program run TestRows.
const rowsAgain = "AGENTD_TEST_ROWS"

// TestRows is a test as others that are run again.
func TestRows(t *testing.T) {
	if os.Getenv(rowsAgain) == "" {
		return // TestPatternFits runs it
	}
	for _, name := range []string{"plain", "plain more", "a (b) | [c]", "a.b", "aXb", "folder/file", "folder/other"} {
		t.Run(name, func(t *testing.T) {})
	}
}

// TestPatternFits: the Go command runs the subtests by these patterns that were meant, and no others.
func TestPatternFits(t *testing.T) {
	for _, c := range []struct{ subtest, want string }{
		{"plain", "plain"}, {"plain_more", "plain_more"}, {"a_(b)_|_[c]", "a_(b)_|_[c]"}, {"a.b", "a.b"}, {"folder/file", "folder/file folder/other"},
	} {
		r := newResults()
		first, _, _ := strings.Cut(c.subtest, "/")
		if err := r.read(strings.NewReader(timed("TestRows", 61, first+": fail")), new(strings.Builder)); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run", r.pattern(r.by[[2]string{"x", "TestRows"}])+"|^TestNone$")
		cmd.Env = append(os.Environ(), rowsAgain+"=yes")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var ran []string
		for line := range strings.Lines(string(out)) {
			if name, ok := strings.CutPrefix(line, "=== RUN   TestRows/"); ok {
				ran = append(ran, strings.TrimSpace(name))
			}
		}
		if got := strings.Join(ran, " "); got != c.want {
			t.Errorf("%s: %q were run, want %q", c.subtest, got, c.want)
		}
	}
}

// TestNotAgain: what a second run must not hide, it does not hide.
func TestNotAgain(t *testing.T) {
	failed := func(said ...string) string { return lines(append(said, "fail TestA", "fail ")...) }
	good := lines("pass TestA", "pass ")
	one := onceMark + "y TestY: it passed\n"
	for name, c := range map[string]struct {
		before, first, second string
		code                  int
		want                  string
	}{
		"a data race":              {"", failed("TestA says WARNING: DATA RACE"), good, 0, "DATA RACE"},
		"a race, says the package": {"", failed(" says testing.go:1: race detected during execution of test"), good, 0, "race detected"},
		"a race, says another":     {"", lines("TestB says WARNING: DATA RACE", "pass TestB") + failed(), good, 0, "DATA RACE"},
		"a race in a command":      {"", failed("TestA says agentd: exit status 66"), good, 0, "exit status 66"},
		"a panic":                  {"", failed("TestA says panic: nil map"), good, 0, "panic"},
		"a fault of the runtime":   {"", failed("TestA says fatal error: all goroutines are asleep - deadlock!"), good, 0, "fatal error"},
		"a process that is killed": {"", failed(" says signal: killed"), good, 0, "signal: killed"},
		"one that does not end":    {"", lines("TestB says === RUN TestB") + failed(), good, 0, "x TestB did not end"},
		"a package without an end": {"", failed() + `{"Action":"pass","Package":"y","Test":"TestY"}` + "\n", good, 0, "y TestY did not end"},
		"an event that is cut":     {"", failed() + `{"Action":"fail","Package":"y","Te`, good, 0, "damaged"},
		"more after its tests":     {"", lines("fail TestA") + after("FAIL\\n", "the agent left a process\\n", "FAIL\\tx\\t0.1s\\n") + lines("fail "), good, 0, "the agent left a process"},
		"another exit code":        {"", lines("fail TestA") + after("FAIL\\n", "exit status 3\\n", "FAIL\\tx\\t0.1s\\n") + lines("fail "), good, 0, "exit status 3"},
		"no build":                 {"", lines("fail "), good, 0, "without a test"},
		"no build beside":          {"", failed() + `{"Action":"fail","Package":"y"}` + "\n", good, 0, "y failed without a test"},
		"no test":                  {"", "go: updates to go.mod needed\n", good, 0, "no test failed"},
		"too many":                 {"", lines("fail TestA", "fail TestB", "fail TestC", "fail TestD", "fail "), good, 0, "at most 3"},
		"too many with others":     {one + one, lines("fail TestA", "fail TestB", "fail "), good, 0, "2 tests failed, and 2 before: at most 3"},
		"a second failure":         {"", failed(), lines("TestA says again", "fail TestA", "fail "), 1, "in a second run"},
		"a command that fails":     {"", failed(), good, 1, "in a second run"},
		"skipped then":             {"", failed(), lines("skip TestA", "pass "), 0, "not run, or skipped"},
		"not run then":             {"", failed(), lines("pass "), 0, "not run, or skipped"},
		"one of two not run then":  {"", lines("fail TestA", "fail TestB", "fail "), good, 0, "x TestB did not pass in a second run: it was not run"},
		"a subtest skipped then":   {"", lines("fail TestA/x") + failed(), lines("skip TestA/x") + good, 0, "x TestA/x did not pass in a second run"},
		"a subtest gone then":      {"", lines("fail TestA/x") + failed(), good, 0, "x TestA/x did not pass in a second run"},
		"a race then":              {"", failed(), lines("TestA says WARNING: DATA RACE", "pass TestA", "pass "), 0, "in a second run: x TestA says: WARNING: DATA RACE"},
		"no build then":            {"", failed(), lines("fail "), 1, "in a second run"},
	} {
		t.Run(name, func(t *testing.T) {
			list, summary, _, err := twice(t, c.before, c.first, c.second, c.code)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if list != c.before {
				t.Errorf("the list says %q", list)
			}
			if c.code == 0 && strings.Contains(c.want, "in a second run") || name == "no test" || name == "a command that fails" {
				return // the counts are those of tests
			}
			if strings.Contains(summary, " 0 failed") {
				t.Errorf("the summary says %s", summary)
			}
		})
	}
}

// TestListIsNeeded: without a list nothing is run again.
func TestListIsNeeded(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "run.json")
	if err := os.WriteFile(file, []byte(lines("fail TestA", "fail ")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{filepath.Join(dir, "none"), file}, {file, filepath.Join(dir, "none.json")}, {file, dir}} {
		if err := again(args[0], args[1], []string{"true"}, new(strings.Builder)); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	if err := again(file, file, nil, new(strings.Builder)); err == nil {
		t.Error("no command, and no error")
	}
}

// TestForgiven: one second run forgives one failure, and not that of another run of the same test.
func TestForgiven(t *testing.T) {
	r, second := newResults(), newResults()
	for _, x := range []struct {
		to   *results
		text string
	}{{r, lines("fail TestA", "fail ")}, {r, lines("fail TestA", "fail ")}, {second, lines("pass TestA", "pass ")}} {
		if err := x.to.read(strings.NewReader(x.text), new(strings.Builder)); err != nil {
			t.Fatal(err)
		}
	}
	r.forgive(second)
	if !r.by[[2]string{"x", "TestA"}].failed() {
		t.Error("two failures were forgiven")
	}
	r.forgive(second)
	if r.by[[2]string{"x", "TestA"}].failed() {
		t.Error("a second failure was not forgiven by a second run")
	}
}
