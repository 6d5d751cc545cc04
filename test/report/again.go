// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

const (
	// mostAgain is how many tests may fail once, in all stages that use one list. More than that
	// is not a machine that was slow for a moment.
	mostAgain = 3

	// onceMark begins each entry of the list.
	onceMark = "FAILED ONCE: "

	// againSuffix ends the name of the file with the second run of tests.
	againSuffix = ".again.json"

	// longTest is how many seconds a test takes whose subtests are run a second time alone.
	longTest = 60

	// mostLines is how much of a first failure the list repeats. The whole is where it happened.
	mostLines = 200
)

// fatal is what no second run may hide: it does not depend on how quick a machine is, or it ended
// the process, so that other tests did not run.
var fatal = regexp.MustCompile(`DATA RACE|race detected during|exit status 66|panic:|fatal error:|test timed out|signal: `)

// again runs a second time what failed in the file first, which is the output of command, a form of
// `go test -json`. It appends to the list what passed then, and returns an error if anything did
// not, or if something failed that must not pass so.
func again(list, first string, command []string, out io.Writer) error {
	name, ok := strings.CutSuffix(first, ".json")
	if !ok || len(command) == 0 {
		return errors.New("usage: report -again LIST FILE.json COMMAND")
	}
	before := newResults()
	if err := before.readFile(first); err != nil {
		return err
	}
	tests, err := before.repeatable()
	if err != nil {
		return fmt.Errorf("nothing is run a second time: %w", err)
	}
	told, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	if n := bytes.Count(told, []byte(onceMark)); n+len(tests) > mostAgain {
		return fmt.Errorf("nothing is run a second time: %d tests failed, and %d before: at most %d may", len(tests), n, mostAgain)
	}
	var second bytes.Buffer
	for pkg, these := range byPackage(tests) {
		var patterns []string
		for _, t := range these {
			patterns = append(patterns, before.pattern(t))
		}
		run := strings.Join(patterns, "|")
		fmt.Fprintf(out, "== %s%s %s: a second run\n", onceMark, &result{pkg: pkg}, run)
		cmd := exec.Command(command[0], append(slices.Clone(command[1:]), "-count=1", "-run", run, pkg)...)
		cmd.Stdout, cmd.Stderr = &second, &second
		err = errors.Join(err, cmd.Run())
	}
	if wrong := os.WriteFile(name+againSuffix, second.Bytes(), 0o666); wrong != nil {
		return wrong
	}
	after := newResults()
	if err := errors.Join(err, after.read(&second, out), after.failures(out)); err != nil {
		return fmt.Errorf("in a second run: %w", err)
	}
	if line := after.fatal(nil); line != "" {
		return fmt.Errorf("in a second run: %s", line)
	}
	for _, t := range before.all { // subtests too: a test passes without one that is skipped or gone
		if a := after.by[[2]string{t.pkg, t.test}]; t.test != "" && t.failed() && (a == nil || !slices.Contains(a.ended, "pass")) {
			return fmt.Errorf("%s did not pass in a second run: it was not run, or skipped", t)
		}
	}
	f, err := os.OpenFile(list, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, t := range tests {
		if _, err := fmt.Fprintf(f, "%s%s: it passed in a second run. What it said before:\n%s", onceMark, t, before.said(t)); err != nil {
			return err
		}
	}
	return f.Close()
}

// repeatable returns the tests that failed, without their subtests, if a second run may tell
// more. The error says why it must not.
func (r *results) repeatable() (tests []*result, err error) {
	explained := map[string]bool{}
	if r.torn != "" {
		return nil, fmt.Errorf("its output is damaged: %.80q", r.torn)
	}
	for _, t := range r.all {
		if p := r.by[[2]string{t.pkg, ""}]; len(t.ended) == 0 || p == nil || len(p.ended) == 0 {
			return nil, fmt.Errorf("%s did not end", t)
		}
		if t.test != "" && !strings.Contains(t.test, "/") && t.failed() {
			tests = append(tests, t)
			explained[t.pkg] = true
		}
	}
	if line := r.fatal(explained); line != "" {
		return nil, errors.New(line)
	}
	for _, t := range r.all {
		if t.test == "" && t.failed() && !explained[t.pkg] {
			return nil, fmt.Errorf("%s failed without a test: it does not build, or ended early", t)
		}
		if line := t.afterTests(); line != "" {
			return nil, fmt.Errorf("%s says after its tests: %s", t, line)
		}
	}
	if len(tests) == 0 {
		return nil, errors.New("no test failed: the command itself did")
	}
	return tests, nil
}

// usual are the lines with which a package ends in which a test failed.
var usual = regexp.MustCompile(`^(FAIL|FAIL\t.*|exit status 1|coverage: .*)\n$`)

// afterTests returns what else a package that failed says after its tests, empty if nothing: it may
// be why it failed too.
func (t *result) afterTests() string {
	if i := slices.Index(t.output, "FAIL\n"); i >= 0 && t.test == "" && t.failed() {
		for _, line := range t.output[i:] {
			if !usual.MatchString(line) {
				return strings.TrimSpace(line)
			}
		}
	}
	return ""
}

// fatal returns the first line of some packages that no second run may hide, empty if there is
// none. Nil packages are all.
func (r *results) fatal(packages map[string]bool) string {
	for _, t := range r.all {
		for _, line := range t.output {
			if (packages == nil || packages[t.pkg]) && fatal.MatchString(line) {
				return fmt.Sprintf("%s says: %s", t, strings.TrimSpace(line))
			}
		}
	}
	return ""
}

// said returns the last lines of a test and its subtests that failed.
func (r *results) said(test *result) string {
	var lines []string
	for _, t := range r.all {
		if t.pkg == test.pkg && (t.test == test.test || strings.HasPrefix(t.test, test.test+"/")) && t.failed() {
			lines = append(lines, t.output...)
		}
	}
	text := strings.Join(lines[max(len(lines)-mostLines, 0):], "")
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	return text
}

// byPackage returns tests by package, in the order in which these failed.
func byPackage(tests []*result) func(yield func(string, []*result) bool) {
	return func(yield func(string, []*result) bool) {
		for len(tests) > 0 {
			pkg, these, rest := tests[0].pkg, []*result(nil), []*result(nil)
			for _, t := range tests {
				if t.pkg == pkg {
					these = append(these, t)
				} else {
					rest = append(rest, t)
				}
			}
			if !yield(pkg, these) {
				return
			}
			tests = rest
		}
	}
}

// pattern returns the pattern of -run that a test is run a second time by. Of a long test whose
// subtests alone failed these are run: a test that says something itself may be about all of them.
func (r *results) pattern(test *result) string {
	whole := "^" + regexp.QuoteMeta(test.test) + "$"
	took := 0.0
	var failed []string
	for _, t := range r.all {
		rest, ok := strings.CutPrefix(t.test, test.test+"/")
		if !ok || t.pkg != test.pkg {
			continue
		}
		first, _, deeper := strings.Cut(rest, "/")
		if !deeper {
			took += t.took
		}
		if first = regexp.QuoteMeta(first); t.failed() && !slices.Contains(failed, first) {
			failed = append(failed, first)
		}
	}
	speaks := slices.ContainsFunc(test.output, func(line string) bool { return !frame.MatchString(line) })
	if speaks || len(failed) == 0 || max(took, test.took) < longTest { // its own time is without parallel ones
		return whole
	}
	return whole + "/^(" + strings.Join(failed, "|") + ")$"
}

// forgive makes one failure of each test that passed in a second run a pass, and that of its
// subtests and its package.
func (r *results) forgive(second *results) {
	for _, a := range second.all {
		if !slices.Contains(a.ended, "pass") || slices.Contains(a.ended, "fail") {
			continue
		}
		for _, t := range r.all {
			part := t.test == a.test || a.test != "" && strings.HasPrefix(t.test, a.test+"/")
			if i := slices.Index(t.ended, "fail"); t.pkg == a.pkg && part && i >= 0 && !strings.Contains(a.test, "/") {
				t.ended[i], t.again = "pass", true
			}
		}
	}
}
