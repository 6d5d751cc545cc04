// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"bytes"

	"github.com/google/go-tpm/tpm2"
)

// MadeFrom reports whether the TPMT_PUBLIC p was made from template: all members but the
// unique one, which is the key itself, are the same (TPM 2.0 Part 2, section 12.2.4).
func MadeFrom(p, template tpm2.TPMTPublic) bool {
	if p.Type != template.Type {
		return false
	}
	p.Unique = template.Unique
	return bytes.Equal(tpm2.Marshal(p), tpm2.Marshal(template))
}
