// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"fmt"
	"runtime"
	"testing"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/strictjson"
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
	// verifier's own, and what the document contains of it is not used.
	note(e.Certificates[len(e.Certificates)-1], "the root is the verifier's own")
	return out
}

// TestMangled flips one bit of every byte of a small evidence: each is refused, or lies
// outside what is signed and is listed so. Of anchored evidence it takes the anchor;
// the rest is the same.
func TestMangled(t *testing.T) {
	r := evidencetest.New()
	e := r.Build(t)
	mangle(t, "fresh", e, "", "{", "}")
	r = evidencetest.New()
	anchored(r)
	mangle(t, "anchor", r.Build(t), anchoredPolicy, `"anchor":`, `"report":`)
}

func mangle(t *testing.T, name string, e *evidence.Evidence, policy, from, to string) {
	document, err := strictjson.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	o := baseOptions(t)
	o.Policy = mustPolicy(t, makePolicy(policy, ""))
	s := statementOf(t, e)
	o.PublicKey, o.UserData = s.PublicKey, s.UserData
	if a, err := appraiseEvidence(document, o); err != nil || a.Verdict != Pass {
		t.Fatal(err, explain(a))
	}
	first, last := bytes.Index(document, []byte(from)), bytes.LastIndex(document, []byte(to))
	unsigned := outside(e, document)
	parts := runtime.GOMAXPROCS(0)
	for part := range parts {
		t.Run(fmt.Sprintf("%s/%d", name, part), func(t *testing.T) {
			t.Parallel()
			mine := bytes.Clone(document)
			flipped, accepted := 0, 0
			for i := first + part; i <= last; i += parts {
				why, free := unsigned[i]
				if (testing.Short() || raceEnabled) && i%23 != 0 || free && i%16 != 0 {
					continue
				}
				mine[i] ^= 1 << (i % 7) // bit 7 would only make it invalid UTF-8
				a, err := appraiseEvidence(mine, o)
				mine[i] = document[i]
				if err != nil {
					t.Fatal(err)
				}
				flipped++
				if a.Verdict == Pass {
					accepted++
					if !free {
						t.Errorf("byte %d, %q in %q, was flipped and not noticed", i, document[i], document[max(0, i-40):min(len(document), i+20)])
					}
				} else if free && a.Class != ClassBinding {
					t.Errorf("byte %d is listed as outside (%s), and refused with class %v", i, why, a.Class)
				}
			}
			t.Logf("%d bytes flipped, %d accepted: those of %d that nothing signs", flipped, accepted, len(unsigned))
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
