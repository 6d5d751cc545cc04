// SPDX-License-Identifier: Apache-2.0

package tpmkeys

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// FuzzGoogleTemplate: whatever the host wrote, what is accepted is one spelling of a restricted
// signing key, with padding at most.
func FuzzGoogleTemplate(f *testing.F) {
	good := tpm2.Marshal(akTemplate)
	f.Add(good)
	f.Add(append(good, 0, 0))
	f.Add(tpm2.Marshal(tpm2.RSAEKTemplate))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, choice := range []AKChoice{AKGCPECC, AKGCPRSA} {
			template, err := parseTemplate(b, choice)
			if (template == nil) == (err == nil) {
				t.Fatalf("%v, %v", template, err)
			}
			if template == nil {
				continue
			}
			if a := template.ObjectAttributes; !a.Restricted || !a.SignEncrypt || a.Decrypt || !a.FixedTPM {
				t.Errorf("%+v", a)
			}
			rest, ok := bytes.CutPrefix(b, tpm2.Marshal(template))
			if !ok || len(bytes.Trim(rest, "\x00")) > 0 && len(bytes.Trim(rest, "\xff")) > 0 {
				t.Errorf("%x is accepted", b)
			}
		}
	})
}
