// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"fmt"
	"io"
	"strings"

	"github.com/cvm-agentd/agentd/internal/corpus"
	"github.com/cvm-agentd/agentd/internal/junit"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/internal/text"
)

// WriteJSON writes the report as one object.
func (r *Report) WriteJSON(to io.Writer) error {
	b, err := strictjson.Encode(r)
	if err == nil {
		b, err = strictjson.Indent(b)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(to, "%s\n", b)
	return err
}

// WriteText writes the report for people: what did not pass, a table by feature, the verdict.
func (r *Report) WriteText(to io.Writer) error {
	var b strings.Builder
	for _, first := range []bool{true, false} { // what was accepted wrongly comes first
		for _, x := range r.Cases {
			if x.Outcome == Passed || x.Outcome == Unsupported || x.Outcome == NotRun || accepted(&x) != first {
				continue
			}
			fmt.Fprintf(&b, "%-6s  %s: %s\n        %s\n", x.Outcome, x.Name, x.About, text.Line(x.Detail))
		}
	}
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%-20s %7s %7s %7s %14s %8s\n", "feature", "passed", "failed", "errors", "not supported", "not run")
	for _, f := range r.Features {
		fmt.Fprintf(&b, "%-20s %7d %7d %7d %14d %8d\n", f.Name, f.Passed, f.Failed, f.Errors, f.Unsupported, f.NotRun)
	}
	fmt.Fprintf(&b, "%-20s %7d %7d %7d %14d %8d\n\n", "all cases", r.Passed, r.Failed, r.Errors, r.Unsupported, r.NotRun)
	if r.MustAccept == 0 {
		b.WriteString("No case of the selection must be accepted: a verifier that refuses everything passes it.\n")
	}
	fmt.Fprintf(&b, "The verifier named checks in %d of %s that passed.\n", r.ChecksCompared, text.Count(r.Passed, "case"))
	fmt.Fprintln(&b, r.verdict())
	_, err := io.WriteString(to, b.String())
	return err
}

// accepted reports whether a case was accepted that must be refused.
func accepted(x *Result) bool {
	return x.Outcome == Failed && x.Answer.Verdict == Accept
}

// verdict returns the last line for people.
func (r *Report) verdict() string {
	all := len(r.Cases)
	switch {
	case r.WronglyAccepted > 0:
		return fmt.Sprintf("FAIL: the verifier ACCEPTED %s that must be refused; %d of %d passed.", text.Count(r.WronglyAccepted, "case"), r.Passed, all)
	case r.ExitCode() == exitFailed:
		return fmt.Sprintf("FAIL: %d failed, %s, %d not run; %d of %d passed.", r.Failed, text.Count(r.Errors, "error"), r.NotRun, r.Passed, all)
	case r.unnamed > 0:
		return fmt.Sprintf("INCOMPLETE: none failed, %d of %d passed, and %d are not supported for a reason that --without does not name.", r.Passed, all, r.unnamed)
	case r.Unsupported > 0:
		return fmt.Sprintf("PASS, without %d of %s: they need what --without names.", r.Unsupported, text.Count(all, "case"))
	}
	return fmt.Sprintf("PASS: %s.", text.Count(all, "case"))
}

// WriteJUnit writes the report for servers of continuous integration.
func (r *Report) WriteJUnit(to io.Writer) error {
	s := junit.Suite{Name: "agentd-conformance", Time: junit.NoTime, Tests: len(r.Cases), Failures: r.Failed, Errors: r.Errors + r.NotRun, Skipped: r.Unsupported, Output: r.verdict()}
	s.Properties = []junit.Property{{Name: "version", Value: r.Version}, {Name: "corpus", Value: r.Corpus}, {Name: "verifier", Value: text.Line(strings.Join(r.Verifier, " "))}}
	for _, x := range r.Cases {
		c := junit.Case{Class: "agentd.conformance." + strings.Join(append([]string{Core}, x.Features...), "."), Name: x.Name, Time: junit.NoTime, Output: text.Line(x.About)}
		detail := text.Line(x.Detail)
		switch x.Outcome {
		case Passed:
		case Unsupported:
			c.Skipped = &junit.Skipped{Message: "not supported: " + detail}
		case Failed:
			c.Failure = &junit.Failure{Message: detail, Type: string(Failed)}
		default:
			c.Error = &junit.Failure{Message: detail, Type: string(x.Outcome)}
		}
		s.Cases = append(s.Cases, c)
	}
	return junit.Write(to, "agentd-conformance", []junit.Suite{s})
}

// List writes one line for each case: name, verdict, features, and what it is about.
func List(to io.Writer, cases []*corpus.Case) error {
	for _, c := range cases {
		if _, err := fmt.Fprintf(to, "%-28s %-7s %-28s %s\n", nameOf(c), expected(c).Verdict, strings.Join(append([]string{Core}, c.Features...), ","), c.About); err != nil {
			return err
		}
	}
	return nil
}
