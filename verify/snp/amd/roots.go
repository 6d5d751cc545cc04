// SPDX-License-Identifier: Apache-2.0

// Package amd holds AMD's root keys (ARK) for the processors whose reports package
// snp verifies, with the intermediates (ASK, ASVK) that AMD publishes beside them.
// It is apart from snp so that only who verifies links them in.
package amd

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// published is what AMD's key distribution service gives for one product.
type published struct {
	product    snp.Product
	pin        string // SHA-256 of the root's certificate in DER, hexadecimal
	vcek, vlek []byte // PEM: intermediate, then root
}

// The certificates were taken from AMD by the authors of go-sev-guest. The pins are
// those of the second certificate in https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain
// (KDS, section "CA certificate chain"); vlek/v1 gives the same.
var all = []published{
	{snp.Milan, "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd", trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
	{snp.Genoa, "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1", trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
	{snp.Turin, "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a", trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
}

// Roots are AMD's roots for Milan, Genoa and Turin, VCEK and VLEK.
func Roots() (*snp.Roots, error) {
	r := new(snp.Roots)
	for _, p := range all {
		if err := p.addTo(r); err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p.product, err)
		}
	}
	return r, nil
}

func (p *published) addTo(r *snp.Roots) error {
	chain, err := snp.ParseCertificates(p.vcek)
	if err != nil {
		return fmt.Errorf("for VCEKs: %w", err)
	}
	if len(chain) != 2 {
		return fmt.Errorf("for VCEKs: %d certificates, want 2", len(chain))
	}
	asvk, err := intermediate(p.vlek, chain[1])
	if err != nil {
		return fmt.Errorf("for VLEKs: %w", err)
	}
	var pin [sha256.Size]byte
	if n, err := hex.Decode(pin[:], []byte(p.pin)); err != nil || n != len(pin) {
		return fmt.Errorf("pin %q is not a SHA-256", p.pin)
	}
	return r.AddAMD(pin, chain[1], chain[0], asvk)
}

// intermediate is the first of two certificates, the second of which must be ark again.
// That one is compared and not parsed a second time.
func intermediate(text []byte, ark *x509.Certificate) (*x509.Certificate, error) {
	first, rest := pem.Decode(text)
	if first == nil {
		return nil, errors.New("no PEM block")
	}
	second, rest := pem.Decode(rest)
	if second == nil || len(bytes.TrimSpace(rest)) != 0 {
		return nil, errors.New("not two certificates")
	}
	if !bytes.Equal(second.Bytes, ark.Raw) {
		return nil, errors.New("another root than for VCEKs")
	}
	return x509.ParseCertificate(first.Bytes)
}
