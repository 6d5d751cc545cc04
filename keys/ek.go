// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
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

// ekNames returns the names that an endorsement key of one of the templates has if this is
// its public key. A name covers the template and the key, and nothing else. A certificate
// contains only the key, so a verifier compares the two through these names.
//
// There are several because TPMs before revision 1.38 leave out leading zeros of a
// point's coordinates (TPM 2.0 Part 1, appendix C.8).
func ekNames(key crypto.PublicKey) ([]Name, error) {
	switch k := key.(type) {
	case *rsa.PublicKey:
		if k.N.BitLen() != 2048 || k.E != 65537 {
			return nil, fmt.Errorf("it certifies an RSA key of %d bits with exponent %d, want 2048 and 65537, as endorsement keys of template L-1 have", k.N.BitLen(), k.E)
		}
		area := tpm2.RSAEKTemplate
		area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.N.FillBytes(make([]byte, 256))})
		return []Name{nameOf(tpm2.Marshal(area))}, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return nil, fmt.Errorf("it certifies a key on %s, want P-256, as endorsement keys of template L-2 are", k.Curve.Params().Name)
		}
		point, err := k.Bytes() // SEC 1, section 2.3.3: 4, x, y
		if err != nil {
			return nil, fmt.Errorf("it certifies a point that is not on the curve: %w", err)
		}
		x, y := point[1:33], point[33:]
		names := []Name{pointName(x, y)}
		if x[0] == 0 || y[0] == 0 {
			names = append(names, pointName(bytes.TrimLeft(x, "\x00"), bytes.TrimLeft(y, "\x00")))
		}
		return names, nil
	}
	return nil, fmt.Errorf("it certifies a key of type %T, want RSA or ECDSA", key)
}

func pointName(x, y []byte) Name {
	area := tpm2.ECCEKTemplate
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: x}, Y: tpm2.TPM2BECCParameter{Buffer: y}})
	return nameOf(tpm2.Marshal(area))
}
