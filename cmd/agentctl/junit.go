// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/junit"
	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// junitOf returns an appraisal as a suite. What was required and could not be asserted is a
// failure, since it refuses the evidence.
func junitOf(name string, a *verify.Appraisal) junit.Suite {
	s := junit.Suite{
		Name: cleanLine(name), Tests: len(a.Checks), Time: junit.NoTime, Timestamp: a.Time.UTC().Format("2006-01-02T15:04:05"),
		Properties: junitProperties(a),
	}
	for _, c := range a.Checks {
		part, _, _ := strings.Cut(string(c.ID), ".")
		x := junit.Case{Class: "agentctl.verify." + part, Name: string(c.ID), Time: junit.NoTime}
		switch {
		case c.Verdict == verify.Pass:
			x.Output = cleanLine(verdict.Sentence(c))
		case c.Verdict == verify.NotAsserted && !c.Required:
			x.Skipped = &junit.Skipped{Message: "not asserted: " + cleanLine(c.Sentence)}
			s.Skipped++
		default:
			x.Failure = junitFail(c)
			s.Failures++
		}
		s.Cases = append(s.Cases, x)
	}
	var out []string
	for _, sentence := range a.Sentences {
		out = append(out, cleanLine(sentence))
	}
	s.Output = strings.Join(out, "\n")
	if a.Verdict != verify.Pass && s.Failures == 0 { // never green
		s.Tests, s.Failures = s.Tests+1, 1
		s.Cases = append(s.Cases, junit.Case{Class: "agentctl.verify", Name: "verdict", Time: junit.NoTime, Failure: &junit.Failure{Message: "refused", Type: a.Class.String()}})
	}
	return s
}

func junitFail(c verify.Check) *junit.Failure {
	message := cleanLine(c.Sentence)
	if c.Verdict == verify.NotAsserted {
		message = "required, and not asserted: " + message
	}
	lines := []string{message}
	if c.Expected != "" {
		lines = append(lines, "expected "+cleanLine(c.Expected))
	}
	if c.Found != "" {
		lines = append(lines, "found    "+cleanLine(c.Found))
	}
	return &junit.Failure{Message: message, Type: c.Class.String(), Text: strings.Join(lines, "\n")}
}

// junitProperties are the members of an appraisal that are not checks.
func junitProperties(a *verify.Appraisal) []junit.Property {
	var out []junit.Property
	for _, p := range [][2]string{
		{"material", string(a.Material)}, {"policy", a.Policy}, {"verdict", string(a.Verdict)}, {"class", a.Class.String()},
		{"exitCode", fmt.Sprint(a.ExitCode())}, {"basis", string(a.Basis)}, {"binding", fmt.Sprint(a.Binding)},
		{"akOrigin", fmt.Sprint(a.AKOrigin)}, {"freshness", fmt.Sprint(a.Freshness)},
	} {
		if value := cleanLine(p[1]); value != "" {
			out = append(out, junit.Property{Name: p[0], Value: value})
		}
	}
	return out
}

// writeJUnit prints suites as one document. cleanLine has replaced what XML cannot contain.
func (t *terminal) writeJUnit(command string, suites []junit.Suite) error {
	if err := junit.Write(t.out, command, suites); err != nil {
		return misuse(err)
	}
	return nil
}
