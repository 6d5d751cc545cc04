// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
)

// maxBundle caps the certificates of one PEM text: a full chain is three.
const maxBundle = 16

// DecodeCertificates returns what [ParseCertificates] parses, in DER.
func DecodeCertificates(b []byte) ([][]byte, error) {
	parsed, err := ParseCertificates(b)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(parsed))
	for i, c := range parsed {
		out[i] = c.Raw
	}
	return out, nil
}

// ParseCertificates parses one certificate in DER, or one or more in PEM. Each must
// parse as X.509. Anything before, between or after them except blank space is refused.
func ParseCertificates(b []byte) ([]*x509.Certificate, error) {
	if len(b) > maxBundle*2*MaxCertificate {
		return nil, refuse(CodeCertificate, "certificate file").found("%d bytes", len(b)).want("at most %d", maxBundle*2*MaxCertificate)
	}
	if !bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN ")) {
		c, err := parseDER(b)
		if err != nil {
			return nil, err
		}
		return []*x509.Certificate{c}, nil
	}
	var out []*x509.Certificate
	for rest := bytes.TrimSpace(b); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		// pem.Decode would silently skip text before a block.
		if !bytes.HasPrefix(rest, []byte("-----BEGIN CERTIFICATE-----")) {
			return nil, refuse(CodeCertificate, "PEM text at byte %d", len(b)-len(rest)).found("%q", short(rest)).want("-----BEGIN CERTIFICATE-----")
		}
		block, next := pem.Decode(rest)
		if block == nil || block.Type != "CERTIFICATE" || len(block.Headers) != 0 {
			return nil, refuse(CodeCertificate, "PEM text at byte %d", len(b)-len(rest)).found("a block that does not decode").want("a certificate without headers")
		}
		if len(out) == maxBundle {
			return nil, refuse(CodeCertificate, "PEM text").found("more than %d certificates", maxBundle).want("at most that")
		}
		c, err := parseDER(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
		rest = next
	}
	return out, nil
}

func parseDER(der []byte) (*x509.Certificate, error) {
	if len(der) > MaxCertificate {
		return nil, refuse(CodeCertificate, "certificate").found("%d bytes", len(der)).want("at most %d", MaxCertificate)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, refuse(CodeCertificate, "certificate").because(err)
	}
	return c, nil
}

// SortCertificates parts certificates in DER, in any order, into endorsement keys
// and issuers. Errs has one error for each that is neither. Those do no harm: a host
// that adds garbage only fails to help.
func SortCertificates(ders [][]byte) (leaves []*EndorsementKey, issuers []*x509.Certificate, errs []error) {
	for _, der := range ders {
		c, err := parseDER(der)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if c.IsCA {
			issuers = append(issuers, c)
			continue
		}
		leaf, err := endorsementKey(c)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		leaves = append(leaves, leaf)
	}
	return leaves, issuers, errs
}

// SelectLeaf returns the endorsement key that made the report's signature. If none did,
// the error is that of the first of the right kind, which tells most.
func SelectLeaf(r *Report, leaves []*EndorsementKey) (*EndorsementKey, error) {
	var failed error
	for _, leaf := range leaves {
		if CodeOf(CheckSigner(r, leaf)) == CodeSigner {
			continue
		}
		err := r.VerifySignature(leaf)
		if err == nil {
			return leaf, nil
		}
		if failed == nil {
			failed = err
		}
	}
	if failed == nil {
		failed = refuse(CodeNoLeaf, "certificates for a report signed by %v", r.KeyInfo.Signer()).found("%d, none of this kind", len(leaves)).want("the one of the key that signed")
	}
	return nil, failed
}
