// SPDX-License-Identifier: Apache-2.0

// Report turns the output of `go test -json` into lines for people.
//
//	go test -json ./... | report        a line for each package, then the output of what failed
//	report FILE...                      what passing tests say, what was skipped and why, the counts
//	report -again LIST FILE COMMAND...  a second run of the tests that failed in FILE, by COMMAND
//
// The first form ends with 1 if a test failed or a package did not build. It prints lines
// that are not JSON, such as those of the compiler, unchanged.
//
// The third form is for a machine that judges changes. A test that depends on how quick the machine
// is fails once in thousands of runs: that is a fault of the test, and not of the change. At most
// three tests may fail once, and LIST says which and how. What does not depend on the machine is
// never run again: a data race, a panic, a package that does not build.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
)

func main() {
	args, act := os.Args[1:], func(args []string) error { return run(os.Stdin, os.Stdout, args) }
	if len(args) > 2 && args[0] == "-again" {
		act = func(args []string) error { return again(args[1], args[2], args[3:], os.Stdout) }
	}
	if err := act(args); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// run reads the files, or in if there are none, and writes the report to out.
func run(in io.Reader, out io.Writer, files []string) error {
	all := newResults()
	if len(files) == 0 {
		if err := all.read(in, out); err != nil {
			return err
		}
		return all.failures(out)
	}
	second := newResults()
	for _, file := range files {
		r := all
		if strings.HasSuffix(file, againSuffix) {
			r = second
		}
		if err := r.readFile(file); err != nil {
			return err
		}
	}
	all.forgive(second)
	all.summary(out)
	return nil
}

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action, Package, Output string
	Test                    string  // empty in the events of a package
	Elapsed                 float64 // seconds
}

// result is how a test, or a package if test is empty, ended in all runs that were read.
type result struct {
	pkg, test string
	ended     []string // actions: pass, fail, skip
	took      float64  // seconds, in the last run
	output    []string // lines
	again     bool     // passed in a second run only
	why       []string // lines of a run that skipped it
}

// String returns the name without the module's path.
func (r *result) String() string {
	return strings.TrimSpace(strings.TrimPrefix(r.pkg, "github.com/cvm-agentd/agentd/") + " " + r.test)
}

// failed reports whether it failed, or did not end because the process ended first.
func (r *result) failed() bool {
	return slices.Contains(r.ended, "fail") || r.test != "" && len(r.ended) == 0
}

// results are those of every test.
type results struct {
	all  []*result // in the order of their first lines
	by   map[[2]string]*result
	torn string // first line that begins as an event does and is not one
}

func newResults() *results { return &results{by: map[[2]string]*result{}} }

// readFile reads the run in a file.
func (r *results) readFile(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := r.read(f, io.Discard); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (r *results) at(e event) *result {
	key := [2]string{e.Package, e.Test}
	if r.by[key] == nil {
		r.by[key] = &result{pkg: e.Package, test: e.Test}
		r.all = append(r.all, r.by[key])
	}
	return r.by[key]
}

// read reads one run, and writes a line to out when a package ends.
func (r *results) read(in io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		r.line(lines.Text(), out)
	}
	return lines.Err()
}

func (r *results) line(line string, out io.Writer) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		if r.torn == "" && strings.HasPrefix(line, "{") {
			r.torn = line
		}
		fmt.Fprintln(out, line)
		return
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		t := r.at(e)
		t.output = append(t.output, e.Output)
	case "pass", "fail", "skip":
		t := r.at(e)
		t.ended, t.took = append(t.ended, e.Action), e.Elapsed
		if e.Action == "skip" {
			t.why, t.output = t.output, nil
		} else if e.Test == "" {
			fmt.Fprintf(out, "%s\t%s\t%.3fs\n", map[string]string{"pass": "ok  ", "fail": "FAIL"}[e.Action], e.Package, e.Elapsed)
		}
	}
}

// failures writes the output of what failed, and returns an error if anything did.
func (r *results) failures(out io.Writer) error {
	var err error
	for _, t := range r.all {
		if t.failed() {
			err = errors.New("some tests failed: their output is above")
			fmt.Fprintf(out, "--- output of %s\n%s", t, strings.Join(t.output, ""))
		}
	}
	return err
}

var (
	place = regexp.MustCompile(`^ *[^ ]+_test\.go:[0-9]+: `)
	frame = regexp.MustCompile(`^ *(===|---)`)
)

// summary writes what passing tests say of themselves, what was skipped and why, and how
// many tests passed, failed and were skipped. A test that one run skipped and another ran
// was not skipped. A package that failed without a test, as one that does not build, counts.
func (r *results) summary(out io.Writer) {
	slices.SortStableFunc(r.all, func(a, b *result) int { return strings.Compare(a.String(), b.String()) })
	var said, skipped, whys []string
	passed, again, failed := 0, 0, map[string]bool{}
	for _, t := range r.all {
		switch {
		case t.failed():
			failed[t.String()] = true
			if t.test != "" {
				delete(failed, (&result{pkg: t.pkg}).String()) // sorted before its tests
			}
		case t.test == "": // a package that passed
		case slices.Contains(t.ended, "pass"):
			passed++
			if t.again && !strings.Contains(t.test, "/") {
				again++
			}
			for _, line := range t.output {
				if place.MatchString(line) && !strings.Contains(t.test, "/") {
					said = append(said, fmt.Sprintf("  %s: %s", t, strings.TrimSuffix(place.ReplaceAllString(line, ""), "\n")))
				}
			}
		default:
			why := reason(t.why)
			skipped = append(skipped, fmt.Sprintf("  %s: %s", t, why))
			whys = append(whys, why)
		}
	}
	fmt.Fprintf(out, "\nwhat passing tests say of themselves:\n%s", list(slices.Compact(said)))
	fmt.Fprintf(out, "\nskipped:\n%s", list(skipped))
	fmt.Fprintf(out, "\nskipped for want of: %s\n", wants(whys))
	counts := fmt.Sprintf("%d passed", passed)
	if again > 0 {
		counts += fmt.Sprintf(" (%d IN A SECOND RUN ONLY)", again)
	}
	fmt.Fprintf(out, "\ntests: %s, %d failed, %d skipped\n", counts, len(failed), len(skipped))
}

// kind is what a skipped test wants.
type kind struct {
	name  string
	words *regexp.Regexp
}

// kinds are what skipped tests want, by the words of their reasons. The first that fits
// counts, and the last fits all.
var kinds = []kind{
	{"a program", regexp.MustCompile(`not installed|needs a software TPM|of tpm2-tools|no python3|python3 plays`)},
	{"recordings", regexp.MustCompile(`recordings of real machines`)},
	{"a command of their own", regexp.MustCompile(`run .make test-vm|-write-corpus|not with -short|takes seconds|some thousand times|is misuse of the command`)},
	{"what this machine cannot do", regexp.MustCompile(``)},
}

// wants counts the reasons of each kind.
func wants(whys []string) string {
	counts := make([]int, len(kinds))
	for _, why := range whys {
		counts[slices.IndexFunc(kinds, func(k kind) bool { return k.words.MatchString(why) })]++
	}
	var out []string
	for i, k := range kinds {
		out = append(out, fmt.Sprintf("%s %d", k.name, counts[i]))
	}
	return strings.Join(out, ", ")
}

// reason returns the lines of a skipped test as one.
func reason(lines []string) string {
	var words []string
	for _, line := range lines {
		if !frame.MatchString(line) {
			words = append(words, strings.Fields(place.ReplaceAllString(line, ""))...)
		}
	}
	return strings.Join(words, " ")
}

// list returns lines, or says that there are none.
func list(lines []string) string {
	return strings.Join(append(lines, ""), "\n") + map[bool]string{true: "  nothing\n"}[len(lines) == 0]
}
