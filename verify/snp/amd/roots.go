// Package amd holds AMD's root keys (ARK) for the processors whose reports package
// snp verifies, with the intermediates (ASK, ASVK) that AMD publishes beside them.
// It is apart from snp so that only who verifies links them in.
package amd

import (
	"crypto/x509"
	"fmt"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// Roots are AMD's roots for Milan, Genoa and Turin, VCEK and VLEK. They were
// taken from AMD's key distribution service by the authors of go-sev-guest.
func Roots() (*snp.Roots, error) {
	r := new(snp.Roots)
	for _, p := range []struct {
		product    snp.Product
		vcek, vlek []byte // PEM: intermediate, then root
	}{
		{snp.Milan, trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		{snp.Genoa, trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
		{snp.Turin, trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
	} {
		ask, ark, err := bundle(p.vcek)
		if err != nil {
			return nil, fmt.Errorf("built-in certificates for VCEKs of %v: %w", p.product, err)
		}
		asvk, again, err := bundle(p.vlek)
		if err != nil {
			return nil, fmt.Errorf("built-in certificates for VLEKs of %v: %w", p.product, err)
		}
		if !ark.Equal(again) {
			return nil, fmt.Errorf("built-in certificates of %v: two different roots", p.product)
		}
		if err := r.AddAMD(ark, ask, asvk); err != nil {
			return nil, fmt.Errorf("built-in root of %v: %w", p.product, err)
		}
	}
	return r, nil
}

func bundle(text []byte) (intermediate, root *x509.Certificate, err error) {
	ders, err := snp.DecodeCertificates(text)
	if err != nil {
		return nil, nil, err
	}
	if len(ders) != 2 {
		return nil, nil, fmt.Errorf("%d certificates, want 2", len(ders))
	}
	if intermediate, err = x509.ParseCertificate(ders[0]); err != nil {
		return nil, nil, err
	}
	root, err = x509.ParseCertificate(ders[1])
	return intermediate, root, err
}
