// SPDX-License-Identifier: Apache-2.0

package kds

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/cvm-agentd/agentd/internal/durable"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A Cache is a folder of fetched files, whose names say what they contain:
//
//	genoa-vcek-CHIP-TCB.der   certificate of a chip's key, CHIP and TCB in hexadecimal
//	genoa-vcek-chain.pem      intermediate and root
//	genoa-vcek.crl            revocation list, DER
//
// An attacker who can write to it can withhold a file, but not forge one: the verifier checks
// what is read from it.
type Cache struct{ Dir string }

func (c *Cache) path(p snp.Product, s snp.Signer, rest string) string {
	return filepath.Join(c.Dir, strings.ToLower(p.String())+"-"+strings.ToLower(s.String())+rest)
}

func (c *Cache) vcek(p snp.Product, chip []byte, t snp.TCB) string {
	return c.path(p, snp.SignerVCEK, fmt.Sprintf("-%s-%016x.der", hex.EncodeToString(chip[:hwidSize(p)]), uint64(t)))
}

func (c *Cache) chain(p snp.Product, s snp.Signer) string { return c.path(p, s, "-chain.pem") }
func (c *Cache) crl(p snp.Product, s snp.Signer) string   { return c.path(p, s, ".crl") }

// Collateral is the unverified content of a cache for one report.
type Collateral struct {
	Certificates [][]byte // DER
	Revocation   []*snp.RevocationList
}

// For reads what may belong to r. A file that does not exist is left out, one that cannot be
// read is an error. Reports before version 3 do not name their product, so For tries every
// product.
func (c *Cache) For(r *snp.Report) (*Collateral, error) {
	if info, err := os.Stat(c.Dir); err != nil {
		return nil, err
	} else if !info.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", c.Dir)
	}
	products := snp.Products()
	if p := r.Product(); p != snp.ProductUnknown {
		products = []snp.Product{p}
	}
	out := &Collateral{}
	signer := r.KeyInfo.Signer()
	for _, p := range products {
		names := []string{c.chain(p, signer)}
		if signer == snp.SignerVCEK {
			names = append(names, c.vcek(p, r.ChipID[:], r.ReportedTCB))
		}
		for _, name := range names {
			b, err := read(name, 4*snp.MaxCertificate)
			if err != nil || b == nil {
				if err != nil {
					return nil, err
				}
				continue
			}
			ders, err := snp.DecodeCertificates(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			out.Certificates = append(out.Certificates, ders...)
		}
		b, err := read(c.crl(p, signer), snp.MaxRevocationList)
		if err != nil {
			return nil, err
		}
		if b != nil {
			l, err := snp.ParseRevocationList(b)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.crl(p, signer), err)
			}
			out.Revocation = append(out.Revocation, l)
		}
	}
	return out, nil
}

// read returns a file's content, nil if it does not exist.
func read(name string, limit int64) ([]byte, error) {
	b, err := durable.ReadFile(name, limit)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}
