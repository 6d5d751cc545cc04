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
