// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/google/go-sev-guest/verify/trust"

	"github.com/cvm-agentd/agentd/internal/vectors"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// builtIn returns the built-in certificates by their common names.
func builtIn(t *testing.T) map[string]*x509.Certificate {
	t.Helper()
	roots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*x509.Certificate{}
	for _, c := range roots.Certificates() {
		byName[c.Subject.CommonName] = c
	}
	if len(byName) != 9 {
		t.Errorf("%d certificates are built in, want a root and two intermediates for each of 3 lines", len(byName))
	}
	return byName
}

// The built-in certificates are those that go-sev-guest took from AMD, byte for byte.
func TestBuiltInRootsAreThoseOfGoSEVGuest(t *testing.T) {
	ours := builtIn(t)
	for _, text := range [][]byte{
		trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes, trust.AskArkGenoaVcekBytes,
		trust.AskArkGenoaVlekBytes, trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes,
	} {
		theirs, err := snp.ParseCertificates(text)
		if err != nil || len(theirs) != 2 {
			t.Fatalf("%d certificates, %v", len(theirs), err)
		}
		for _, c := range theirs {
			if known := ours[c.Subject.CommonName]; known == nil || !bytes.Equal(known.Raw, c.Raw) {
				t.Errorf("%q is not built in, or differs", c.Subject.CommonName)
			}
		}
	}
}

// The built-in certificates are those that another project recorded.
func TestBuiltInRootsAreThoseThatOthersRecorded(t *testing.T) {
	ours := builtIn(t)
	for _, p := range snp.Products() {
		for prefix, kind := range map[string]string{"ARK-": "ark", "SEV-": "ask", "SEV-VLEK-": "asvk"} {
			der := vectors.Read(t, "confidential-dot-ai_attestation-rs/amd-certs/"+strings.ToLower(p.String())+"_"+kind+".der")
			if c := ours[prefix+p.String()]; c == nil || !bytes.Equal(c.Raw, der) {
				t.Errorf("%s%v is not built in, or differs", prefix, p)
			}
		}
	}
}

// The pins replace the roots' signatures by themselves: the test checks these.
func TestPinnedRootsSignThemselvesAndTheirIntermediates(t *testing.T) {
	ours := builtIn(t)
	for _, p := range snp.Products() {
		ark := ours["ARK-"+p.String()]
		for _, name := range []string{"ARK-", "SEV-", "SEV-VLEK-"} {
			c := ours[name+p.String()]
			if ark == nil || c == nil {
				t.Errorf("%s%v or its root is not built in", name, p)
			} else if err := c.CheckSignatureFrom(ark); err != nil {
				t.Errorf("%s%v: %v", name, p, err)
			}
		}
	}
}
