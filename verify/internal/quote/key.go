// SPDX-License-Identifier: Apache-2.0

package quote

import (
	"errors"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
	"github.com/cvm-agentd/agentd/pcr"
)

// attributeFaults lists the attributes that an attestation key lacks, or must not have
// (TPM 2.0 Part 2, section 8.3). Only a restricted key is proof that a TPM made what
// it signed: an unrestricted one signs any digest that its user passes to it.
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

// selected returns the selection of a quote in canonical form, or why it is not canonical.
func selected(a *tpmwire.Attest) (pcr.Selection, error) {
	if !a.Canonical {
		return nil, errors.New("a bitmap does not have three bytes")
	}
	s, err := pcr.SelectionFromTPM(a.Selection)
	if err != nil {
		return nil, err
	}
	for _, b := range s {
		if b.Algorithm != pcr.SHA1 {
			return s, nil
		}
	}
	return nil, errors.New("only SHA-1 is selected, whose collisions can be made")
}
