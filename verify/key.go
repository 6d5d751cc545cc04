// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bytes"
	"strings"

	"github.com/google/go-tpm/tpm2"
)

// attributeFaults lists what an attestation key must not lack, or must not have
// (TPM 2.0 Part 2, section 8.3). Only a restricted key is proof that a TPM made what
// it signed: an unrestricted one signs any digest that its user hands it.
func attributeFaults(a tpm2.TPMAObject) string {
	var faults []string
	for _, x := range []struct {
		name      string
		got, want bool
	}{
		{"fixedTPM", a.FixedTPM, true},
		{"fixedParent", a.FixedParent, true},
		{"sensitiveDataOrigin", a.SensitiveDataOrigin, true},
		{"restricted", a.Restricted, true},
		{"sign", a.SignEncrypt, true},
		{"decrypt", a.Decrypt, false},
		{"x509sign", a.X509Sign, false},
		{"encryptedDuplication", a.EncryptedDuplication, false},
	} {
		switch {
		case x.want && !x.got:
			faults = append(faults, x.name+" is clear")
		case !x.want && x.got:
			faults = append(faults, x.name+" is set")
		}
	}
	return strings.Join(faults, ", ")
}

// equal compares public values; nothing here is secret.
func equal(a, b []byte) bool { return bytes.Equal(a, b) }
