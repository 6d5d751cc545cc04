// SPDX-License-Identifier: Apache-2.0

package attestedtls

import (
	"bytes"
	"reflect"
	"testing"
)

// FuzzFrames reads frames and messages that an attacker chose: nothing panics, no more is kept than
// came, and what was read as a message is written and read again as the same one.
func FuzzFrames(f *testing.F) {
	for _, m := range []any{
		wants(roleServer), continues(roleServer), &continued{Type: kindContinued, Session: make([]byte, sessionSize), Salt: make([]byte, nonceSize), Proof: make([]byte, nonceSize)},
		&shown{Type: kindEvidence, Document: []byte("{}"), Session: make([]byte, sessionSize), Secret: make([]byte, nonceSize)}, &hello{Type: kindHello, Attests: true, Application: "http/1.1"}, &shown{Type: kindEvidence, Document: []byte("{}")},
		&verdict{Type: kindVerdict, Evidence: [32]byte{1}, Confirm: make([]byte, nonceSize)}, &start{Type: kindStart}, &refused{Type: kindRefused, Code: CodePolicy},
	} {
		b, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var fr frame
		body, err := fr.read(bytes.NewReader(b), 1<<20, nil)
		if len(fr.body) > 2*len(b)+2*firstPart {
			t.Fatalf("%d bytes are kept for %d that came", len(fr.body), len(b))
		}
		if err != nil {
			return
		}
		for _, make := range []func() message{
			func() message { return new(hello) }, func() message { return new(shown) }, func() message { return new(continued) }, func() message { return new(verdict) },
			func() message { return new(start) },
		} {
			m := make()
			if _, err := decode(body, m); err != nil {
				continue
			}
			again, err := encode(m)
			if err != nil {
				t.Fatal(err)
			}
			back := make()
			if _, err := decode(again[4:], back); err != nil || !reflect.DeepEqual(m, back) {
				t.Errorf("%+v was read again as %+v, %v", m, back, err)
			}
		}
	})
}
