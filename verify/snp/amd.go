// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
)

// published is AMD's certificates: for each line of processors one PEM file with the
// root (ARK), the issuer of VCEKs (ASK) and the issuer of VLEKs (ASVK), in that order.
// AMD's key distribution service gives the first two at
// https://kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain and the third, with the same root,
// at https://kdsintf.amd.com/vlek/v1/PRODUCT/cert_chain (KDS, section "CA certificate
// chain"). A test compares the files with those that go-sev-guest embeds.
//
//go:embed roots/*.pem
var published embed.FS

// pins are the SHA-256 of the roots' certificates in DER, hexadecimal.
var pins = map[Product]string{
	Milan: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
	Genoa: "4c6598d19c18719c5dfd4a7d335f674e5bfe1d8f800cea2cf270c10d103db2f1",
	Turin: "1f084161a44bb6d93778a904877d4819cafa5d05ef4193b2ded9dd9c73dd3f6a",
}

// AMDRoots returns AMD's roots and intermediates for every line of [Products]. They are
// part of the program; nothing is fetched.
func AMDRoots() (*Roots, error) {
	r := new(Roots)
	for _, p := range Products() {
		text, err := published.ReadFile("roots/" + strings.ToLower(p.String()) + ".pem")
		if err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p, err)
		}
		chain, err := ParseCertificates(text)
		if err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p, err)
		}
		if err := r.addPinned(pins[p], chain); err != nil {
			return nil, fmt.Errorf("built-in certificates of %v: %w", p, err)
		}
	}
	return r, nil
}

// addPinned adds a root and the intermediates after it. The pin is compared instead of
// the root's signature by itself, which anyone can make.
func (r *Roots) addPinned(pin string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return refuse(CodeChainRoot, "certificates of the root key").found("none").want("at least one")
	}
	if got := sha256.Sum256(chain[0].Raw); hex.EncodeToString(got[:]) != pin {
		return refuse(CodeChainRoot, "fingerprint of the root key certificate").found("%x", got).want("%s", pin)
	}
	return r.add(chain[0], chain[1:], false)
}
