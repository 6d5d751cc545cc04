// SPDX-License-Identifier: Apache-2.0

package amd_test

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"

	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/snp"
	"github.com/cvm-agentd/agentd/verify/snp/amd"
)

// The built-in roots are those that another project took from AMD: each of their
// intermediates must lead to one of ours.
func TestBuiltInRootsAreThoseThatOthersRecorded(t *testing.T) {
	roots, err := amd.Roots()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, c := range roots.Certificates() {
		known[fmt.Sprintf("%x", c.Raw)] = true
	}
	if len(known) != 9 {
		t.Errorf("%d certificates built in, want a root and two intermediates for each of 3 products", len(known))
	}
	for _, p := range snp.Products() {
		for _, kind := range []string{"ark", "ask", "asvk"} {
			name := strings.ToLower(p.String()) + "_" + kind
			c, err := x509.ParseCertificate(vectors.Read(t, "confidential-dot-ai_attestation-rs/amd-certs/"+name+".der"))
			if err != nil {
				t.Fatal(err)
			}
			if !known[fmt.Sprintf("%x", c.Raw)] {
				t.Errorf("%s (%q) is not built in", name, c.Subject.CommonName)
			}
		}
	}
}

// The pins stand in place of the roots' signatures by themselves: these are looked at here.
func TestPinnedRootsSignThemselvesAndTheirIntermediates(t *testing.T) {
	roots, err := amd.Roots()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*x509.Certificate{}
	for _, c := range roots.Certificates() {
		byName[c.Subject.CommonName] = c
	}
	for _, p := range snp.Products() {
		ark := byName["ARK-"+p.String()]
		for _, name := range []string{"ARK-", "SEV-", "SEV-VLEK-"} {
			c := byName[name+p.String()]
			if ark == nil || c == nil {
				t.Errorf("%s%v or its root is not built in", name, p)
			} else if err := c.CheckSignatureFrom(ark); err != nil {
				t.Errorf("%s%v: %v", name, p, err)
			}
		}
	}
}
