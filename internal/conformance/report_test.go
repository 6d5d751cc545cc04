// SPDX-License-Identifier: Apache-2.0

package conformance

import (
	"encoding/xml"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/junit"
)

// TestReports: each outcome is in each form of the report as what it is. What was accepted wrongly
// comes first in text.
func TestReports(t *testing.T) {
	refused := Expected{Verdict: Refuse, Checks: []string{"quote.magic"}}
	r := report("1", "sum", []string{"my", "verifier\x1b"}, []Result{
		{Name: "refused", Expected: refused, Outcome: Passed, Answer: &Answer{Verdict: Refuse}},
		{Name: "other", Expected: refused, Outcome: Failed, Detail: "another\ncheck", Answer: &Answer{Verdict: Refuse}},
		{Name: "crashed", Expected: refused, Outcome: Error, Detail: "it ended\x1b"},
		{Name: "left", Expected: refused, Outcome: NotRun, Detail: "it hangs"},
		{Name: "lacked", Expected: refused, Outcome: Unsupported, Detail: "lacks ima", Features: []string{"ima"}},
		{Name: "accepted", Expected: refused, Outcome: Failed, Detail: "ACCEPTED", Answer: &Answer{Verdict: Accept}},
	})
	var out strings.Builder
	if err := r.WriteText(&out); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(out.String()) {
		if name, _, ok := strings.Cut(line, ": "); ok && (strings.HasPrefix(name, "failed ") || strings.HasPrefix(name, "error ")) {
			names = append(names, strings.Fields(name)[1])
		}
	}
	if want := []string{"accepted", "other", "crashed"}; !slices.Equal(names, want) || strings.ContainsRune(out.String(), 0x1b) || !strings.Contains(out.String(), "No case of the selection must be accepted") {
		t.Errorf("names %q, want %q\n%s", names, want, &out)
	}
	out.Reset()
	if err := r.WriteJUnit(&out); err != nil {
		t.Fatal(err)
	}
	var doc junit.Suites
	if err := xml.Unmarshal([]byte(out.String()), &doc); err != nil || len(doc.Suites) != 1 {
		t.Fatalf("%v\n%s", err, &out)
	}
	s := doc.Suites[0]
	if s.Tests != 6 || s.Failures != 2 || s.Errors != 2 || s.Skipped != 1 || !strings.HasPrefix(s.Output, "FAIL: ") {
		t.Errorf("%d tests, %d failures, %d errors, %d skipped, %q", s.Tests, s.Failures, s.Errors, s.Skipped, s.Output)
	}
	said := fmt.Sprint(s.Properties)
	for _, c := range s.Cases {
		said += "; " + c.Name
		switch {
		case c.Failure != nil:
			said += " failure " + c.Failure.Message
		case c.Error != nil:
			said += " " + c.Error.Type + " " + c.Error.Message
		case c.Skipped != nil:
			said += " skipped " + c.Skipped.Message
		}
	}
	if want := "[{version 1} {corpus sum} {verifier my verifier�}]; refused; other failure another; check; crashed error it ended�; left notRun it hangs; lacked skipped not supported: lacks ima; accepted failure ACCEPTED"; said != want {
		t.Errorf("%s\nwant\n%s", said, want)
	}
}

// TestCorpusSum: the sum of the corpus is that of what sha256sum prints of its files.
func TestCorpusSum(t *testing.T) {
	_, sum, err := Corpus()
	if err != nil {
		t.Fatal(err)
	}
	want, err := exec.Command("sh", "-c", "cd ../corpus/cases && LC_ALL=C && export LC_ALL && sha256sum * | sha256sum").Output()
	if err != nil {
		t.Fatal(err)
	}
	if sum+"  -\n" != string(want) {
		t.Errorf("the sum is %s, sha256sum says %s", sum, want)
	}
}
