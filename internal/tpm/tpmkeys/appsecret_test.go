// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"
)

// What a key is made from is split as docs/sealing.md says: a program in another language computed it.
func TestKnownAppSecrets(t *testing.T) {
	b, err := os.ReadFile("../../../sealing/testdata/signing.json")
	if err != nil {
		t.Fatal(err)
	}
	var known struct {
		Keys []struct{ Algorithm, Material, Unique, Authorization string }
	}
	if err := json.Unmarshal(b, &known); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range known.Keys {
		if k.Algorithm != "tpm-ecdsa-p256" {
			continue
		}
		n++
		material, err := hex.DecodeString(k.Material)
		if err != nil {
			t.Fatal(err)
		}
		s, err := parseAppSecret(material)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(append(bytes.Clone(s.unique.X.Buffer), s.unique.Y.Buffer...)); got != k.Unique || hex.EncodeToString(s.auth) != k.Authorization {
			t.Errorf("unique %s, authorization %x; want %s and %s", got, s.auth, k.Unique, k.Authorization)
		}
		if CheckAuth(s.auth) != nil {
			t.Error("the authorization value has a zero byte")
		}
		s.wipe()
		for _, part := range [][]byte{s.unique.X.Buffer, s.unique.Y.Buffer, s.auth} {
			if !bytes.Equal(part, make([]byte, 32)) {
				t.Errorf("%x is left", part)
			}
		}
	}
	if n != 2 {
		t.Errorf("%d keys are known", n)
	}
}
