package verify

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
)

// outside lists the bytes of a document that nothing signs, or whose change is not a
// change: each with the reason why that is right.
func outside(e *evidence.Evidence, document []byte) map[int]string {
	out := make(map[int]string)
	note := func(part []byte, why string) {
		text, err := evidence.Bytes(part).MarshalText()
		if err != nil {
			panic(err)
		}
		at := bytes.Index(document, text)
		for i := range text {
			out[at+i] = why
		}
	}
	// The chain is found among the certificates; the last one, the root, is the
	// verifier's own, and what the document holds of it is not looked at.
	note(e.Certificates[len(e.Certificates)-1], "the root is the verifier's own")
	return out
}

// TestMangled flips every bit of every byte of a small evidence: each is refused, or
// lies outside what is signed and is listed so.
func TestMangled(t *testing.T) {
	for _, c := range []struct {
		name, policy string
		change       func(*evidencetest.Recipe)
	}{
		{"fresh", "", func(*evidencetest.Recipe) {}},
		{"anchored", anchoredPolicy, anchored},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := evidencetest.New()
			c.change(r)
			e := r.Build(t)
			document, err := evidence.EncodeJSON(e)
			if err != nil {
				t.Fatal(err)
			}
			o := baseOptions(t)
			o.Policy = mustPolicy(t, makePolicy(c.policy, ""))
			o.PublicKey, o.UserData = statementOf(t, e).PublicKey, statementOf(t, e).UserData
			if a, err := Evidence(document, o); err != nil || a.Verdict != Pass {
				t.Fatal(err, explain(a))
			}
			step := 1
			if testing.Short() {
				step = 17
			}
			skipped, accepted := outside(e, document), 0
			for i := 0; i < len(document); i += step {
				bit := byte(1) << (i % 8)
				document[i] ^= bit
				a, err := Evidence(document, o)
				document[i] ^= bit
				if err != nil {
					t.Fatal(err)
				}
				if a.Verdict == Pass {
					accepted++
					if _, ok := skipped[i]; !ok {
						t.Errorf("byte %d, %q of %q, was flipped and not noticed", i, document[i], document[max(0, i-40):min(len(document), i+20)])
					}
				}
			}
			t.Logf("%d bytes, each flipped in one bit: %d accepted, all of them outside what is signed", len(document), accepted)
		})
	}
}

func statementOf(t *testing.T, e *evidence.Evidence) *evidence.Statement {
	t.Helper()
	s, err := evidence.ParseStatement(e.Statement)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
