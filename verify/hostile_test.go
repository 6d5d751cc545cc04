// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
)

// TestHostileDocumentIsCheap: the sender of a document chooses neither what reading it
// costs beyond its length, nor the length of the appraisal.
func TestHostileDocumentIsCheap(t *testing.T) {
	const n = 1 << 20
	good := string(evidencetest.New().Encode(t))
	o := baseOptions(t)
	for name, x := range map[string][2]string{
		"banks":        {`"pcrs":[`, `{},`},
		"registers":    {`"pcrs":[{"algorithm":"sha256","pcrs":[`, `{},`},
		"certificates": {`"certificates":[`, `"",`},
		"type":         {`{"type":"`, `\n`},
		"kind":         {`"kind":"`, "\u00a0"},
		"algorithm":    {`"algorithm":"`, "\u00a0"},
		"name":         {`{"`, "\u00a0"},
	} {
		t.Run(name, func(t *testing.T) {
			document := []byte(strings.Replace(good, x[0], x[0]+strings.Repeat(x[1], n/len(x[1])), 1))
			if len(document) < n {
				t.Fatal("the mutation changed nothing")
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			a, err := appraiseEvidence(document, o)
			if err != nil || a.Verdict != Fail {
				t.Fatalf("%v, verdict %v", err, a)
			}
			b, err := strictjson.Encode(a)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 20*n {
				t.Errorf("%d bytes allocated for %d", got, len(document))
			}
			if err != nil || len(b) > 128<<10 {
				t.Errorf("an appraisal of %d bytes, %v", len(b), err)
			}
		})
	}
}

// TestLogStateValues: the state that is kept is read from a file, and a value of the
// wrong size in it is an error, not a value that counts as zero.
func TestLogStateValues(t *testing.T) {
	for name, change := range map[string]struct {
		id     CheckID
		change func(*LogState)
	}{
		"short value":          {LogEvents, func(s *LogState) { s.Values[0].Value = s.Values[0].Value[1:] }},
		"value of no bank":     {LogEvents, func(s *LogState) { s.Values[0].Bank = "md5" }},
		"no start value":       {PolicyStartValue, func(s *LogState) { s.Start[0].Value = nil }},
		"short start value":    {PolicyStartValue, func(s *LogState) { s.Start[0].Value = s.Start[0].Value[1:] }},
		"long start value":     {PolicyStartValue, func(s *LogState) { s.Start[0].Value = append(bytes.Clone(s.Start[0].Value), 0) }},
		"start value, no bank": {PolicyStartValue, func(s *LogState) { s.Start[0].Bank = "md5" }},
	} {
		t.Run(name, func(t *testing.T) {
			o := baseOptions(t)
			continued(change.change)(t, &o)
			r := evidencetest.New()
			r.LogStart = 2
			a, err := appraiseEvidence(r.Encode(t), o)
			if err != nil || a.Verdict != Fail || a.Check(change.id).Verdict != Fail {
				t.Errorf("%v\n%s", err, explain(a))
			}
		})
	}
}
