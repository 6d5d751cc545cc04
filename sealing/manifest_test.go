// SPDX-License-Identifier: Apache-2.0

package sealing_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/cvm-agentd/agentd/sealing"
)

// FuzzParseManifest: the payload of a manifest is authentic when it is parsed. It is still
// parsed as strictly as if an attacker had written it.
func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(make([]byte, 32))
	f.Add(append(append(make([]byte, 27), 1, 2, 0, 1, 'a', 0, 1, 'b'), make([]byte, 16+8+4+1+8+4)...))
	f.Add(append(append(make([]byte, 32+27), 1, 2, 0, 1, 'a', 0, 1, 'b'), make([]byte, 16+8+4+1+8+1+4)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		old, none, err := sealing.ParseManifest(1, b)
		if err == nil {
			if none != nil {
				t.Error("version 1 had no seed")
			}
			if again, _, err := sealing.ParseManifest(sealing.Version, old.Encode([sealing.SeedSize]byte{})); err != nil || !reflect.DeepEqual(again, old) {
				t.Errorf("written in version 2, a manifest of version 1 differs: %v", err)
			}
		}
		m, seed, err := sealing.ParseManifest(sealing.Version, b)
		if err != nil {
			return
		}
		if again := m.Encode([sealing.SeedSize]byte(seed)); !bytes.Equal(again, b) {
			t.Errorf("two encodings of one manifest:\n%x\n%x", b, again)
		}
	})
}
