// SPDX-License-Identifier: Apache-2.0

// Report turns the output of `go test -json` into lines for people.
//
//	go test -json ./... | report        a line for each package, then the output of what failed
//	report FILE...                      what passing tests say, what was skipped and why, the counts
//
// The first form ends with 1 if a test failed or a package did not build. Lines of the
// input that are not JSON, such as those of the compiler, are printed unchanged.
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
	if err := run(os.Stdin, os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

// run reads the files, or in if there are none, and writes the report to out.
func run(in io.Reader, out io.Writer, files []string) error {
	all := &results{tests: map[name]*result{}}
	if len(files) == 0 {
		if err := all.read(in, out); err != nil {
			return err
		}
		return all.failures(out)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = all.read(f, io.Discard)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	all.summary(out)
	return nil
}

// event is a line of `go test -json` (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string // empty in the events of a package
	Output  string
	Elapsed float64 // seconds
}

// name is a test and its package, or a package alone.
type name struct{ pkg, test string }

// String returns the name without the module's path.
func (n name) String() string {
	return strings.TrimSpace(strings.TrimPrefix(n.pkg, "github.com/cvm-agentd/agentd/") + " " + n.test)
}

// result is how a test ended in all runs that were read.
type result struct {
	ended  []string // actions: pass, fail, skip
	output []string // lines
	why    []string // lines of a run that skipped it
}

func (r *result) did(action string) bool { return slices.Contains(r.ended, action) }

// results are those of every test, in the order of their first line.
type results struct {
	tests map[name]*result
	order []name
}

func (r *results) at(n name) *result {
	if r.tests[n] == nil {
		r.tests[n] = &result{}
		r.order = append(r.order, n)
	}
	return r.tests[n]
}

// read reads one run, and writes a line to out when a package ends.
func (r *results) read(in io.Reader, out io.Writer) error {
	for lines := bufio.NewReader(in); ; {
		line, err := lines.ReadString('\n')
		if line != "" {
			r.line(line, out)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (r *results) line(line string, out io.Writer) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprintln(out, strings.TrimSuffix(line, "\n"))
		return
	}
	n := name{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "output":
		t := r.at(n)
		t.output = append(t.output, e.Output)
	case "pass", "fail", "skip":
		t := r.at(n)
		t.ended = append(t.ended, e.Action)
		if e.Action == "skip" {
			t.why, t.output = t.output, nil
		}
		if mark := map[string]string{"pass": "ok  ", "fail": "FAIL"}[e.Action]; e.Test == "" && mark != "" {
			fmt.Fprintf(out, "%s\t%s\t%.3fs\n", mark, e.Package, e.Elapsed)
		}
	}
}

// failures writes the output of what failed, and returns an error if anything did.
func (r *results) failures(out io.Writer) error {
	n := 0
	for _, test := range r.order {
		t := r.tests[test]
		if !t.did("fail") && (test.test == "" || len(t.ended) > 0) {
			continue
		}
		n++
		fmt.Fprintf(out, "--- output of %s\n", test)
		if !t.did("fail") {
			fmt.Fprintln(out, "(it did not end: the process ended first)")
		}
		for _, line := range t.output {
			fmt.Fprint(out, line)
		}
	}
	if n > 0 {
		return errors.New("some tests failed: their output is above")
	}
	return nil
}

var (
	logged = regexp.MustCompile(`^ *[^ ]+_test\.go:[0-9]+: `)
	frame  = regexp.MustCompile(`^ *(===|---)`)
)

// summary writes what passing tests say of themselves, what was skipped and why, and how
// many tests passed, failed and were skipped. A test that one run skipped and another ran
// was not skipped.
func (r *results) summary(out io.Writer) {
	sorted := slices.Clone(r.order)
	slices.SortFunc(sorted, func(a, b name) int {
		return strings.Compare(a.pkg+" "+a.test, b.pkg+" "+b.test)
	})
	said, skipped := []string{}, []string{}
	passed, failed, passedOver := 0, 0, 0
	for _, n := range sorted {
		t := r.tests[n]
		switch {
		case t.did("fail"), n.test != "" && len(t.ended) == 0:
			if n.test != "" || !r.anyFailed(n.pkg) {
				failed++
			}
		case n.test == "": // a package that passed
		case t.did("pass"):
			passed++
			if !strings.Contains(n.test, "/") {
				said = append(said, remarks(n, t)...)
			}
		default:
			passedOver++
			skipped = append(skipped, fmt.Sprintf("  %s: %s", n, reason(t)))
		}
	}
	fmt.Fprintf(out, "\nwhat passing tests say of themselves:\n%s", lines(said))
	fmt.Fprintf(out, "\nskipped:\n%s", lines(skipped))
	fmt.Fprintf(out, "\ntests: %d passed, %d failed, %d skipped\n", passed, failed, passedOver)
}

// anyFailed reports whether a test of the package failed: then the package's own failure
// is not counted.
func (r *results) anyFailed(pkg string) bool {
	for n, t := range r.tests {
		if n.pkg == pkg && n.test != "" && (t.did("fail") || len(t.ended) == 0) {
			return true
		}
	}
	return false
}

// remarks returns the lines that a test logged, each once.
func remarks(n name, t *result) (all []string) {
	for _, line := range t.output {
		if logged.MatchString(line) {
			said := fmt.Sprintf("  %s: %s", n, strings.TrimSuffix(logged.ReplaceAllString(line, ""), "\n"))
			if !slices.Contains(all, said) {
				all = append(all, said)
			}
		}
	}
	return all
}

// reason returns why a test was skipped, in one line.
func reason(t *result) string {
	var words []string
	for _, line := range t.why {
		if frame.MatchString(line) {
			continue
		}
		line = strings.Join(strings.Fields(logged.ReplaceAllString(line, "")), " ")
		if line != "" && !slices.Contains(words, line) {
			words = append(words, line)
		}
	}
	return strings.Join(words, " ")
}

// lines joins lines, or says that there are none.
func lines(all []string) string {
	if len(all) == 0 {
		return "  nothing\n"
	}
	return strings.Join(all, "\n") + "\n"
}
