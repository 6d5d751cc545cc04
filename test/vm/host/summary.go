// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// check is one check. If a check fails that later ones need, the run ends.
type check struct {
	name  string
	vital bool
	run   func(*session, context.Context) error
}

type result struct {
	name    string
	err     error
	skipped bool
	took    time.Duration
}

// errMachine means that the machine did not come back, so the run ends.
var errMachine = errors.New("the machine is no longer usable")

func (r result) String() string {
	switch {
	case r.skipped:
		return fmt.Sprintf("skip  %-34s", r.name)
	case r.err != nil:
		return fmt.Sprintf("FAIL  %-34s %5.1f s  %v", r.name, r.took.Seconds(), r.err)
	}
	return fmt.Sprintf("ok    %-34s %5.1f s", r.name, r.took.Seconds())
}

// chosen returns the checks to run: those that were asked for, and those before the last of
// them that other checks need.
func (s *session) chosen() map[string]bool {
	last := -1
	for i, c := range checks {
		if s.options.only.MatchString(c.name) {
			last = i
		}
	}
	out := map[string]bool{}
	for _, c := range checks[:last+1] {
		out[c.name] = c.vital || s.options.only.MatchString(c.name)
	}
	return out
}

// all runs the checks, and writes the summary.
func (s *session) all(ctx context.Context) error {
	begin := time.Now()
	chosen := s.chosen()
	if len(chosen) == 0 {
		return fmt.Errorf("no check matches %q", s.options.only)
	}
	var results []result
	stopped := false
	for _, c := range checks {
		if stopped || !chosen[c.name] {
			results = append(results, result{name: c.name, skipped: true})
			continue
		}
		at := time.Now()
		err := c.run(s, ctx)
		if ctx.Err() != nil {
			err = errors.Join(context.Cause(ctx), err)
		}
		r := result{name: c.name, err: err, took: time.Since(at)}
		results = append(results, r)
		fmt.Println("test-vm:", r)
		if err != nil && c.vital || ctx.Err() != nil || errors.Is(err, errMachine) {
			stopped = true
		}
	}
	return s.summarise(results, time.Since(begin))
}

func (s *session) summarise(results []result, took time.Duration) error {
	var b bytes.Buffer
	failed, skipped := 0, 0
	for _, r := range results {
		fmt.Fprintln(&b, r)
		if r.err != nil {
			failed++
		}
		if r.skipped {
			skipped++
		}
	}
	fmt.Fprintf(&b, "%d checks: %d passed, %d failed, %d not run; %.0f s, with packages and image %.0f s\n",
		len(results), len(results)-failed-skipped, failed, skipped, took.Seconds(), time.Since(s.options.begin).Seconds())
	if n := s.machine.panics(); n > 0 {
		fmt.Fprintf(&b, "the machine's kernel panicked %d times and booted again\n", n)
	}
	fmt.Printf("\n%s", &b)
	if err := os.WriteFile(s.options.summary, b.Bytes(), 0o644); err != nil {
		return err
	}
	if failed > 0 {
		s.keepConsole()
	}
	if failed > 0 || skipped > 0 && s.options.only.String() == "" {
		return fmt.Errorf("%d checks failed, %d were not run: see %s", failed, skipped, s.options.summary)
	}
	return nil
}

// lastLines is the number of lines of the console that are printed.
const lastLines = 40

// keepConsole copies the console of the machine, and prints its last lines.
func (s *session) keepConsole() {
	f, err := os.Open(s.machine.console())
	if err != nil {
		fmt.Println("test-vm: console:", err)
		return
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 16<<20))
	if err == nil {
		err = os.WriteFile(s.options.console, b, 0o644)
	}
	if err != nil {
		fmt.Println("test-vm: console:", err)
		return
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	fmt.Printf("test-vm: end of the console, which is kept in %s:\n", s.options.console)
	for _, l := range lines[max(0, len(lines)-lastLines):] {
		fmt.Printf("  %q\n", strings.TrimRight(l, "\r"))
	}
}
