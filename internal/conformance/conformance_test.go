// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/corpus"
)

var update = flag.Bool("update", false, "write the table of features of docs/conformance.md")

// TestAnswers: what is not an answer of the contract is an error, and never a verdict.
func TestAnswers(t *testing.T) {
	many := strings.Repeat(`"quote.magic",`, maxNames) + `"quote.magic"`
	for _, c := range []struct{ printed, want string }{
		{`{"verdict":"accept"}`, ""},
		{" {\n\"verdict\": \"refuse\", \"checks\": [\"quote.magic\"], \"unsupported\": [\"ima\"], \"reason\": \"x\"}\n", ""},
		{`{"verdict":"refuse","checks":[]}`, ""},
		{``, "printed nothing"},
		{"\n", "one JSON object"},
		{`refuse`, "one JSON object"},
		{`{"verdict":"refuse"`, "one JSON object"},
		{`{"verdict":"refuse"}{"verdict":"accept"}`, "one JSON object"},
		{`{"verdict":"refuse","verdict":"accept"}`, "one JSON object"},
		{`{"Verdict":"refuse"}`, "one JSON object"},
		{`{"verdict":"refuse","check":"quote.magic"}`, "one JSON object"},
		{`{"verdict":"refuse","checks":"quote.magic"}`, "one JSON object"},
		{`[{"verdict":"refuse"}]`, "one JSON object"},
		{`{}`, `verdict ""`},
		{`{"verdict":"refused"}`, `verdict "refused"`},
		{`{"verdict":"accept","checks":["quote.magic"]}`, "accepts, and names checks"},
		{`{"verdict":"refuse","unsupported":["everything"]}`, `"everything" is not a feature`},
		{`{"verdict":"refuse","unsupported":["core"]}`, `"core" is not a feature`},
		{`{"verdict":"refuse","checks":["` + strings.Repeat("x", maxName+1) + `"]}`, "the id of a check"},
		{`{"verdict":"refuse","checks":[""]}`, "the id of a check"},
		{`{"verdict":"refuse","checks":["a\u001b[2J"]}`, "the id of a check"},
		{`{"verdict":"refuse","checks":[` + many + `]}`, "more than 1000"},
		{`{"verdict":"refuse","unsupported":[` + strings.ReplaceAll(many, "quote.magic", "ima") + `]}`, "more than 1000"},
	} {
		a, err := parseAnswer([]byte(c.printed))
		if c.want == "" && (err != nil || a == nil) || c.want != "" && (err == nil || a != nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%.80s: %+v, %v, want %q", c.printed, a, err, c.want)
		}
	}
}

// TestJudge has each way in which an answer can be right and wrong.
func TestJudge(t *testing.T) {
	good := &corpus.Case{Features: []string{"ima"}}
	one := &corpus.Case{Check: "quote.magic", Class: 2, Fails: []string{"quote.magic"}}
	two := &corpus.Case{Check: "quote.magic", Class: 2, Fails: []string{"quote.magic", "policy.vmpl"}, Features: []string{"svsm"}}
	rule := &corpus.Case{Check: "policy.vmpl", Class: 5, Fails: []string{"policy.vmpl"}, Features: []string{"policy"}}
	yes, no := func(lacks ...string) *Answer { return &Answer{Verdict: Accept, Unsupported: lacks} }, func(checks ...string) *Answer { return &Answer{Verdict: Refuse, Checks: checks} }
	without := func(a *Answer, lacks ...string) *Answer { a.Unsupported = lacks; return a }
	for i, c := range []struct {
		of     *corpus.Case
		answer *Answer
		want   Outcome
		says   string
	}{
		{good, yes(), Passed, ""},
		{good, yes("svsm"), Passed, ""},
		{good, yes("ima"), Unsupported, "lacks ima"},
		{good, no(), Failed, "must be accepted"},
		{good, without(no(), "ima"), Unsupported, "lacks ima"},
		{one, no(), Passed, ""},
		{one, no("quote.magic"), Passed, ""},
		{one, yes(), Failed, "ACCEPTED"},
		{one, yes("ima", "policy", "svsm"), Failed, "ACCEPTED"},
		{one, no("quote.type"), Failed, `"quote.type"`},
		{one, no("quote.magic", "quote.type"), Failed, `"quote.type"`},
		{one, &Answer{Verdict: Refuse, Checks: []string{}}, Failed, "by no check"},
		{two, no("policy.vmpl"), Passed, ""},
		{two, no("policy.vmpl", "quote.magic"), Passed, ""},
		{two, without(no("policy.vmpl"), "policy"), Failed, "by no check"},
		{two, without(no("policy.other", "quote.magic"), "policy"), Passed, ""},
		{two, no("policy.other", "quote.magic"), Failed, `"policy.other"`},
		{two, without(no("quote.magic"), "svsm"), Unsupported, "lacks svsm"},
		{rule, yes("policy"), Unsupported, "lacks policy"},
		{rule, yes(), Failed, "ACCEPTED"},
	} {
		if got, detail := judge(c.of, c.answer); got != c.want || !strings.Contains(detail, c.says) {
			t.Errorf("%d: %s, %q, want %s, %q", i, got, detail, c.want, c.says)
		}
	}
}

// TestReportCounts: numbers, exit code and verdict follow from the outcomes. What is not supported is
// never counted as passed.
func TestReportCounts(t *testing.T) {
	refused := Expected{Verdict: Refuse, Checks: []string{"quote.magic"}}
	passed := Result{Expected: refused, Outcome: Passed, Answer: &Answer{Verdict: Refuse, Checks: []string{"quote.magic"}}}
	wrongly := Result{Expected: refused, Outcome: Failed, Answer: &Answer{Verdict: Accept}, Features: []string{"svsm", "ima"}}
	lacked := Result{Expected: Expected{Verdict: Accept}, Outcome: Unsupported, Features: []string{"ima"}}
	named := lacked
	named.named = true
	for _, c := range []struct {
		results []Result
		code    int
		says    string
	}{
		{[]Result{passed}, 0, "PASS: 1 case."},
		{[]Result{passed, named}, 0, "PASS, without 1 of 2 cases"},
		{[]Result{passed, named, lacked}, 3, "INCOMPLETE: none failed, 1 of 3 passed, and 1 are not supported"},
		{[]Result{passed, wrongly, lacked}, 2, "ACCEPTED 1 case that must be refused; 1 of 3 passed"},
		{[]Result{passed, {Expected: refused, Outcome: NotRun}}, 2, "1 not run; 1 of 2 passed"},
		{[]Result{passed, {Expected: refused, Outcome: Error}}, 2, "1 error, 0 not run; 1 of 2 passed"},
		{[]Result{passed, {Expected: refused}}, 2, "1 error"},
	} {
		r := report("1", "sum", []string{"x"}, c.results)
		if r.ExitCode() != c.code || r.Conforms != (c.code == 0) || !strings.Contains(r.verdict(), c.says) {
			t.Errorf("exit code %d, conforms %v, %q; want %d, %q", r.ExitCode(), r.Conforms, r.verdict(), c.code, c.says)
		}
		if n := r.Passed + r.Failed + r.Errors + r.Unsupported + r.NotRun; n != len(c.results) || r.Passed != 1 || r.ChecksCompared != 1 {
			t.Errorf("%+v: %d counted", r.Count, n)
		}
	}
	r := report("1", "sum", nil, []Result{passed, wrongly, lacked})
	if fmt.Sprint(r.Features) != "[{core {1 0 0 0 0}} {svsm {0 1 0 0 0}} {ima {0 1 0 1 0}}]" || r.MustAccept != 1 || r.WronglyAccepted != 1 {
		t.Errorf("features %v, must accept %d, wrongly accepted %d", r.Features, r.MustAccept, r.WronglyAccepted)
	}
}

// TestFolderSaysNothing: neither names nor files of a folder say what is expected.
func TestFolderSaysNothing(t *testing.T) {
	all, _, err := Corpus()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range slices.Concat(all.Cases, all.Accepted) {
		given := files(all, c)
		if (given["evidence"] != nil) == (c.Material != "") || given["policy.toml"] == nil || given["time"] == nil || given["roots.pem"] == nil && c.Root == "test" {
			t.Errorf("%s: a file is missing", c.Name)
		}
		for name, b := range given {
			if strings.Contains(string(b), c.Name) || c.Check != "" && name != "policy.toml" && strings.Contains(string(b), c.Check) {
				t.Errorf("%s: %s names the case or its check", c.Name, name)
			}
		}
	}
}

// TestFeatureTable compares docs/conformance.md with the features, and how many cases need each.
func TestFeatureTable(t *testing.T) {
	all, _, err := Corpus()
	if err != nil {
		t.Fatal(err)
	}
	numbers := make(map[string]int)
	for _, c := range slices.Concat(all.Cases, all.Accepted) {
		for _, f := range c.Features {
			numbers[f]++
		}
	}
	table := "| feature | what it is | cases |\n|---|---|---|\n"
	for _, f := range corpus.Features {
		table += fmt.Sprintf("| `%s` | %s | %d |\n", f.Name, f.About, numbers[f.Name])
	}
	page := filepath.Join("..", "..", "docs", "conformance.md")
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "written by go test ./internal/conformance -update -->\n", "<!-- features: end -->"
	head, rest, ok := strings.Cut(string(b), begin)
	old, tail, also := strings.Cut(rest, end)
	if !ok || !also {
		t.Fatal("docs/conformance.md has no place for the table")
	}
	if *update {
		if err := os.WriteFile(page, []byte(head+begin+table+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != table {
		t.Errorf("the table of docs/conformance.md is out of date: run go test ./internal/conformance -update")
	}
}
