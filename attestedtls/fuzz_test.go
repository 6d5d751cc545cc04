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
		wants(roleServer), &hello{Type: kindHello, Attests: true, Application: "http/1.1"}, &shown{Type: kindEvidence, Document: []byte("{}")},
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
		for due, make := range map[kind]func() message{
			kindHello: func() message { return new(hello) }, kindEvidence: func() message { return new(shown) }, kindVerdict: func() message { return new(verdict) },
			kindStart: func() message { return new(start) },
		} {
			m := make()
			if decode(body, due, m) != nil {
				continue
			}
			again, err := encode(m)
			if err != nil {
				t.Fatal(err)
			}
			back := make()
			if err := decode(again[4:], due, back); err != nil || !reflect.DeepEqual(m, back) {
				t.Errorf("%+v was read again as %+v, %v", m, back, err)
			}
		}
	})
}
