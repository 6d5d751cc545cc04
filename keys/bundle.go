// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
)

// A Bundle is a list of certificates, X.509 DER. As text it is PEM (RFC 7468, section 5):
// the blocks of the certificates and nothing else, so that other tools can read it in a
// record or a policy.
type Bundle [][]byte

const pemCertificate = "CERTIFICATE"

// MarshalText encodes b as PEM.
func (b Bundle) MarshalText() ([]byte, error) {
	var out []byte
	for _, der := range b {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: der})...)
	}
	return out, nil
}

// UnmarshalText decodes PEM of 1 to [MaxEKCertificates] certificates, each of which
// must parse. Any spelling other than that of [Bundle.MarshalText] is an error, except for
// white space before and after it.
func (b *Bundle) UnmarshalText(text []byte) error {
	text = bytes.TrimSpace(text)
	if len(text) > MaxEKCertificates*2*evidence.MaxCertificate {
		return fmt.Errorf("certificates in %d bytes of PEM, want at most %d", len(text), MaxEKCertificates*2*evidence.MaxCertificate)
	}
	var out Bundle
	for rest := text; len(rest) > 0; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != pemCertificate {
			return fmt.Errorf("PEM of certificates: block %d is not a certificate", len(out))
		}
		if len(out) == MaxEKCertificates || len(block.Bytes) > evidence.MaxCertificate {
			return fmt.Errorf("PEM of certificates: want at most %d, of at most %d bytes each", MaxEKCertificates, evidence.MaxCertificate)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("PEM of certificates: block %d: %w", len(out), err)
		}
		out = append(out, block.Bytes)
	}
	if len(out) == 0 {
		return errors.New("PEM of certificates: it contains no certificate")
	}
	again, err := out.MarshalText()
	if err != nil {
		return err
	}
	// pem.Decode skips text between the blocks.
	if !bytes.Equal(bytes.TrimSpace(again), text) {
		return errors.New("PEM of certificates: want only certificates, with lines of 64 characters, as openssl x509 writes them")
	}
	*b = out
	return nil
}
