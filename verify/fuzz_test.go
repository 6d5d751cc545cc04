// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
	"github.com/cvm-agentd/agentd/verify/internal/quote"
)

// FuzzEvidence: case 66. Whatever comes in, an appraisal comes out, with every check in
// it and no claims unless it was accepted. The seeds leave their certificates out: the
// chain takes most of the time, and package snp fuzzes it.
func FuzzEvidence(f *testing.F) {
	good := evidencetest.New()
	good.Report.NoCertificates = true
	f.Add(good.Encode(f))
	bound := evidencetest.New()
	bound.Report.NoCertificates = true
	anchored(bound)
	f.Add(bound.Encode(f))
	for _, above := range []*evidencetest.Recipe{evidencetest.NewSVSM(), evidencetest.NewAzure()} {
		above.Report.NoCertificates = true
		f.Add(above.Encode(f))
	}
	o := baseOptions(f)
	o.Nonce, o.AcceptReplay = nil, true
	o.Policy = mustPolicy(f, makePolicy(anchoredPolicy, app("billing", "", "billing 1")))
	f.Fuzz(func(t *testing.T, document []byte) {
		a, err := appraiseEvidence(document, o)
		if err != nil {
			t.Fatal(err)
		}
		checkAppraisal(t, a)
	})
}

// checkAppraisal checks that an appraisal is what its documentation says.
func checkAppraisal(t *testing.T, a *Appraisal) {
	t.Helper()
	if len(a.Checks) != len(definitions) {
		t.Fatalf("%d checks, want %d", len(a.Checks), len(definitions))
	}
	for _, c := range a.Checks {
		if c.Sentence == "" {
			t.Errorf("%s says nothing", c.ID)
		}
	}
	failed := a.Failed()
	if (a.Verdict == Pass) != (len(failed) == 0) || (a.Verdict == Pass) != (a.Accepted.claims != nil) || (a.Verdict == Pass) != (a.Class == ClassAccepted) {
		t.Errorf("verdict %s with %d refusals, class %v", a.Verdict, len(failed), a.Class)
	}
	if a.Verdict != Pass && len(failedIDs(a)) == 0 && len(failed) == 0 {
		t.Error("refused for nothing")
	}
	if len(a.Sentences) == 0 {
		t.Error("nothing for people")
	}
	if _, err := strictjson.Encode(a); err != nil {
		t.Errorf("no JSON form: %v", err)
	}
}

// FuzzLog feeds records to the walk over the log, which runs before anything is known
// to be the agent's.
func FuzzLog(f *testing.F) {
	r := evidencetest.New()
	anchored(r)
	e := r.Build(f)
	f.Add([]byte(e.Log.Records), uint64(0))
	f.Add([]byte(e.Log.Records), uint64(2))
	o := baseOptions(f)
	o.Policy = mustPolicy(f, makePolicy(anchoredPolicy, app("billing", "", "billing 1")))
	f.Fuzz(func(t *testing.T, records []byte, start uint64) {
		mine := *e
		mine.Log = &evidence.Log{Start: start, Records: records}
		o := o
		if start > 0 {
			o.LogState = &LogState{Head: evidence.LogHead{Count: start}, PCR: 13, Values: []BankValue{{Bank: "sha256", Value: make([]byte, 32)}}}
		}
		a := beginWith(t, o)
		a.batch = quote.Batch.Check(a.Findings, nil, &e.Batch, nil)
		a.anchor = a.batch
		a.replay(&mine)
		a.p.Judge(a.subject(), a.Findings)
		if a.log.State != nil && a.Passed(LogReplay) && start == 0 && !bytes.Equal(records, e.Log.Records) {
			t.Error("other records replay to the same value")
		}
	})
}

// FuzzPolicy: what is accepted can be encoded, and is read again as the same.
func FuzzPolicy(f *testing.F) {
	f.Add(makePolicy(anchoredPolicy, app("billing", "", "billing 1")+floors("reported", "snp")))
	f.Add("version = 1\n[[launch]]\nmeasurement = 1\n")
	f.Add("[a]\n[[a]]\n[[a.b]]\na.b = {c = [1, {d = 2}]}\n")
	f.Add("\"a\\u0000b\" = 1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePolicy([]byte(text))
		if (p == nil) == (err == nil) {
			t.Fatal("neither policy nor error, or both")
		}
		if err != nil {
			return
		}
		encoded, err := p.Encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParsePolicy(encoded)
		if err != nil {
			t.Fatalf("%v\n%s", err, encoded)
		}
		if twice, err := again.Encode(); err != nil || string(twice) != string(encoded) {
			t.Fatalf("%v: %s became %s", err, encoded, twice)
		}
	})
}
