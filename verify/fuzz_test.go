package verify

import (
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// FuzzEvidence: case 66. Whatever comes in, an appraisal comes out, with every check in
// it and no claims unless it was accepted. The seeds are accepted under no nonce, so
// the fuzzer gets behind the first check.
func FuzzEvidence(f *testing.F) {
	good := evidencetest.New()
	f.Add(good.Encode(f))
	bound := evidencetest.New()
	anchored(bound)
	f.Add(bound.Encode(f))
	for _, m := range logMutations {
		if m.recipe != nil && m.opts == nil {
			r := evidencetest.New()
			m.recipe(&testing.T{}, r)
			f.Add(r.Encode(f))
		}
	}
	o := baseOptions(f)
	o.Nonce, o.AcceptReplay = nil, true
	o.Policy = mustPolicy(f, makePolicy(anchoredPolicy, app("billing", "", "billing 1")))
	f.Fuzz(func(t *testing.T, document []byte) {
		a, err := Evidence(document, o)
		if err != nil {
			t.Fatal(err)
		}
		checkAppraisal(t, a)
	})
}

// checkAppraisal holds an appraisal to what its documentation says, whatever it is of.
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
	if (a.Verdict == Pass) != (len(failed) == 0) || (a.Verdict == Pass) != (a.Accepted != nil) || (a.Verdict == Pass) != (a.Class == ClassAccepted) {
		t.Errorf("verdict %s with %d refusals, class %v", a.Verdict, len(failed), a.Class)
	}
	if a.Verdict != Pass && len(failedIDs(a)) == 0 && len(failed) == 0 {
		t.Error("refused for nothing")
	}
	if len(a.Sentences) == 0 {
		t.Error("nothing for people")
	}
	if _, err := evidence.EncodeJSON(a); err != nil {
		t.Errorf("no JSON form: %v", err)
	}
}

// FuzzParts feeds the parsers of this package behind the signatures that guard them
// in a document.
func FuzzParts(f *testing.F) {
	e := evidencetest.New().Build(f)
	f.Add([]byte(e.AK), []byte(e.Batch.Quote.Attest), []byte(e.Batch.Quote.Signature))
	rsa := evidencetest.RSAKey(f, 2048, 0x14)
	f.Add(rsa.Public(), []byte(e.Batch.Quote.Attest), rsa.Sign(f, e.Batch.Quote.Attest))
	f.Fuzz(func(t *testing.T, public, quote, sig []byte) {
		if a, err := parseAttest(quote); err == nil {
			if s, err := a.selected(); err == nil && s.Check() != nil {
				t.Errorf("selection %v is none", s)
			}
		}
		p, err := decodePublic(public)
		if err != nil {
			return
		}
		attributeFaults(p.ObjectAttributes)
		k, err := signingKey(p)
		if err != nil {
			return
		}
		if s, err := k.decodeSignature(sig); err == nil {
			_ = k.verify(quote, s)
		}
	})
}

// FuzzPolicy: what is refused says where, what is accepted is used without harm.
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
	})
}
