// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"bytes"
	"testing"

	"github.com/cvm-agentd/agentd/sealing"
)

// FuzzParseManifest: the payload of a manifest is authentic when it is parsed. It is still
// parsed as strictly as if an attacker had written it.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 32))
	f.Add(append(append(make([]byte, 27), 1, 2, 0, 1, 'a', 0, 1, 'b'), make([]byte, 16+8+4+1+8+4)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := sealing.ParseManifest(b)
		if err != nil {
			return
		}
		if again := m.Encode(); !bytes.Equal(again, b) {
			t.Errorf("two encodings of one manifest:\n%x\n%x", b, again)
		}
	})
}
