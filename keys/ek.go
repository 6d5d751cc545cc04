// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// EKKind is the template of an endorsement key (TCG EK Credential Profile, appendix
// B: default EK templates).
type EKKind string

const (
	EKRSA2048 EKKind = "rsa2048" // template L-1
	EKECC256  EKKind = "p256"    // template L-2, NIST P-256
)

// EKKindOf returns the template that p was made from. It fails if p cannot be an
// endorsement key: a secret that is encrypted to another key may be read outside a TPM.
func EKKindOf(p *Public) (EKKind, error) {
	for kind, template := range map[EKKind]tpm2.TPMTPublic{EKRSA2048: tpm2.RSAEKTemplate, EKECC256: tpm2.ECCEKTemplate} {
		if tpmwire.MadeFrom(p.area, template) {
			if _, err := p.Key(); err != nil {
				return "", err
			}
			return kind, nil
		}
	}
	return "", fmt.Errorf("public area %s is not that of an endorsement key of template L-1 (RSA 2048) or L-2 (P-256)", p.name)
}
