// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/pcr"
)

// TestLargeLog: case 31. A log of the largest size is walked in proportion to its
// length, whatever its events are.
func TestLargeLog(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("takes seconds")
	}
	r := evidencetest.New()
	r.Banks = []pcr.Algorithm{pcr.SHA256}
	r.Select = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 13}}}
	// As many applications as can be declared, with the caller's: each changes again and again.
	for size := 0; size < evidence.MaxLog-2000; size += 540 { // a record of these takes 530 bytes
		r.Events = append(r.Events, evidencetest.App(fmt.Sprintf("app%05d", size/540%(pcr.MaxDeclarations-1)), "app.service", "app", fmt.Sprint(size)))
	}
	document := r.Encode(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	a, err := appraiseEvidence(document, baseOptions(t))
	runtime.ReadMemStats(&after)
	if err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	allocated := after.TotalAlloc - before.TotalAlloc
	t.Logf("%d records in %d bytes: %d bytes allocated", len(r.Events)+1, len(document), allocated)
	if most := uint64(60 * len(document)); allocated > most {
		t.Errorf("%d bytes allocated in all, want at most %d", allocated, most)
	}
}

// TestJSONForm compares the members of the JSON form with docs/checks.md, since programs
// rely on them.
func TestJSONForm(t *testing.T) {
	r := evidencetest.New()
	anchored(r)
	o := baseOptions(t)
	o.Policy, o.Enrolments = mustPolicy(t, makePolicy(anchoredPolicy+"\noutside_enrolments = \"approved\"", "")), setOf(t, recipeAK(), "alice")
	a, err := appraiseEvidence(r.Encode(t), o)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var members map[string]any
	if err := json.Unmarshal(b, &members); err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(checksFile)
	if err != nil {
		t.Fatal(err)
	}
	_, doc2, _ := strings.Cut(string(doc), "## The JSON form")
	for _, line := range strings.Split(doc2, "\n") {
		name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` |")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		if _, ok := members[name]; !ok {
			t.Errorf("%q is documented and not there", name)
		}
		delete(members, name)
	}
	for name := range members {
		t.Errorf("%q is there and not documented", name)
	}
	o.Policy = mustPolicy(t, makePolicy("", ""))
	if a, err = appraiseEvidence(r.Encode(t), o); err != nil || a.Verdict != Fail {
		t.Fatal(err)
	}
	if b, err = json.Marshal(a); err != nil || strings.Contains(string(b), `"claims"`) {
		t.Errorf("the JSON of refused evidence contains claims: %v", err)
	}
}
