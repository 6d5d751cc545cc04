// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"slices"

	"github.com/cvm-agentd/agentd/internal/corpus"
)

// ReportType is the type of a report in JSON.
const ReportType = "agentd/conformance/1"

// Outcome is what came of a case.
type Outcome string

// Outcomes.
const (
	Passed      Outcome = "passed"
	Failed      Outcome = "failed"
	Error       Outcome = "error"
	Unsupported Outcome = "unsupported"
	NotRun      Outcome = "notRun"
)

// Result is what came of one case.
type Result struct {
	Name     string   `json:"name"`
	About    string   `json:"about"`
	Features []string `json:"features,omitempty"`
	Expected Expected `json:"expected"`
	Outcome  Outcome  `json:"outcome"`
	Detail   string   `json:"detail,omitempty"` // why it did not pass
	Answer   *Answer  `json:"answer,omitempty"`

	named bool // the command line says that the feature is not supported
}

// Count has numbers of cases.
type Count struct {
	Passed      int `json:"passed"`
	Failed      int `json:"failed"`
	Errors      int `json:"errors"`
	Unsupported int `json:"unsupported"`
	NotRun      int `json:"notRun"`
}

func (n *Count) add(o Outcome) {
	switch o {
	case Passed:
		n.Passed++
	case Failed:
		n.Failed++
	case Unsupported:
		n.Unsupported++
	case NotRun:
		n.NotRun++
	default: // a case that nothing came of is not in order either
		n.Errors++
	}
}

// FeatureCount has the cases that need a feature.
type FeatureCount struct {
	Name string `json:"name"`
	Count
}

// Core is the name under which a report counts the cases that need no feature.
const Core = "core"

// Report is what came of a run.
type Report struct {
	Type     string   `json:"type"`
	Version  string   `json:"version"`
	Corpus   string   `json:"corpus"` // SHA-256, in hexadecimal
	Verifier []string `json:"verifier"`
	Count
	WronglyAccepted int            `json:"wronglyAccepted"`
	ChecksCompared  int            `json:"checksCompared"`
	MustAccept      int            `json:"mustAccept"`
	Conforms        bool           `json:"conforms"`
	Features        []FeatureCount `json:"features"`
	Cases           []Result       `json:"cases"`

	unnamed int // cases that are not supported for a reason that the command line does not name
}

// report makes the report of results.
func report(version, sum string, verifier []string, results []Result) *Report {
	r := &Report{Type: ReportType, Version: version, Corpus: sum, Verifier: verifier, Cases: results}
	names := []string{Core}
	for _, f := range corpus.Features {
		names = append(names, f.Name)
	}
	counts := make([]FeatureCount, len(names))
	for i, name := range names {
		counts[i].Name = name
	}
	for _, x := range results {
		r.add(x.Outcome)
		if x.Expected.Verdict == Accept {
			r.MustAccept++
		}
		switch {
		case x.Outcome == Failed && x.Answer.Verdict == Accept:
			r.WronglyAccepted++
		case x.Outcome == Passed && x.Answer.Checks != nil:
			r.ChecksCompared++
		case x.Outcome == Unsupported && !x.named:
			r.unnamed++
		}
		if len(x.Features) == 0 {
			counts[0].add(x.Outcome)
		}
		for _, f := range x.Features {
			counts[slices.Index(names, f)].add(x.Outcome)
		}
	}
	for _, n := range counts {
		if n.Count != (Count{}) {
			r.Features = append(r.Features, n)
		}
	}
	r.Conforms = r.ExitCode() == 0
	return r
}

// Exit codes of a run.
const (
	exitFailed  = 2
	exitUnnamed = 3
)

// ExitCode returns the exit code of the run.
func (r *Report) ExitCode() int {
	switch {
	case r.Failed+r.Errors+r.NotRun > 0:
		return exitFailed
	case r.unnamed > 0:
		return exitUnnamed
	}
	return 0
}
