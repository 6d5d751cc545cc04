// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/xml"
	"fmt"
	"strings"

	"github.com/cvm-agentd/agentd/internal/verdict"
	"github.com/cvm-agentd/agentd/verify"
)

// What servers of continuous integration read: a suite for each document, with a case for
// each check. The order of members is that of the schema.
type (
	junitSuites struct {
		XMLName xml.Name     `xml:"testsuites"`
		Name    string       `xml:"name,attr"`
		Suites  []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Timestamp  string          `xml:"timestamp,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
		Output     string          `xml:"system-out"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		Class   string        `xml:"classname,attr"`
		Name    string        `xml:"name,attr"`
		Time    string        `xml:"time,attr"`
		Skipped *junitSkipped `xml:"skipped"`
		Failure *junitFailure `xml:"failure"`
		Output  string        `xml:"system-out,omitempty"`
	}
	junitSkipped struct {
		Message string `xml:"message,attr"`
	}
	junitFailure struct {
		Message string `xml:"message,attr"`
		Type    string `xml:"type,attr"`
		Text    string `xml:",chardata"`
	}
)

// noTime is how long a check took: it is not measured.
const noTime = "0"

// junit returns an appraisal as a suite. What was required and could not be asserted is a
// failure, since it refuses the evidence.
func junit(name string, a *verify.Appraisal) junitSuite {
	s := junitSuite{
		Name: cleanLine(name), Tests: len(a.Checks), Time: noTime, Timestamp: a.Time.UTC().Format("2006-01-02T15:04:05"),
		Properties: junitProperties(a),
	}
	for _, c := range a.Checks {
		part, _, _ := strings.Cut(string(c.ID), ".")
		x := junitCase{Class: "agentctl.verify." + part, Name: string(c.ID), Time: noTime}
		switch {
		case c.Verdict == verify.Pass:
			x.Output = cleanLine(verdict.Sentence(c))
		case c.Verdict == verify.NotAsserted && !c.Required:
			x.Skipped = &junitSkipped{"not asserted: " + cleanLine(c.Sentence)}
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
		s.Cases = append(s.Cases, junitCase{Class: "agentctl.verify", Name: "verdict", Time: noTime, Failure: &junitFailure{Message: "refused", Type: a.Class.String()}})
	}
	return s
}

func junitFail(c verify.Check) *junitFailure {
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
	return &junitFailure{Message: message, Type: c.Class.String(), Text: strings.Join(lines, "\n")}
}

// junitProperties are the members of an appraisal that are not checks.
func junitProperties(a *verify.Appraisal) []junitProperty {
	var out []junitProperty
	for _, p := range []junitProperty{
		{"material", string(a.Material)}, {"policy", a.Policy}, {"verdict", string(a.Verdict)}, {"class", a.Class.String()},
		{"exitCode", fmt.Sprint(a.ExitCode())}, {"basis", string(a.Basis)}, {"binding", fmt.Sprint(a.Binding)},
		{"akOrigin", fmt.Sprint(a.AKOrigin)}, {"freshness", fmt.Sprint(a.Freshness)},
	} {
		if p.Value = cleanLine(p.Value); p.Value != "" {
			out = append(out, p)
		}
	}
	return out
}

// writeJUnit prints suites as one document. Nothing of them can end an element: XML escapes
// what has a meaning in it, and cleanLine has replaced what XML cannot contain.
func (t *terminal) writeJUnit(command string, suites []junitSuite) error {
	b, err := xml.MarshalIndent(junitSuites{Name: command, Suites: suites}, "", "  ")
	if err != nil {
		return misuse(err)
	}
	_, err = fmt.Fprintf(t.out, "%s%s\n", xml.Header, b)
	return err
}
