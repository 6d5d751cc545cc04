// SPDX-License-Identifier: Apache-2.0

package soft_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform"
	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

func launch(t testing.TB, o soft.Options) *soft.Platform {
	t.Helper()
	p, err := soft.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func data(s string) (d [64]byte) {
	copy(d[:], s)
	return d
}

// testRoots trusts the platform's root by name.
func testRoots(t testing.TB, p *soft.Platform) *snp.Roots {
	t.Helper()
	root, err := p.Root()
	if err != nil {
		t.Fatal(err)
	}
	r := new(snp.Roots)
	if err := r.AddTestRootThatVouchesForNoHardware(root); err != nil {
		t.Fatal(err)
	}
	return r
}

// appraise asks every question of package snp, as a verifier would.
func appraise(reportBytes []byte, certificates [][]byte, roots *snp.Roots, at time.Time) (*snp.Report, *snp.Chain, error) {
	r, err := snp.ParseReport(reportBytes)
	if err != nil {
		return nil, nil, err
	}
	leaves, issuers, errs := snp.SortCertificates(certificates)
	if len(errs) != 0 {
		return nil, nil, errs[0]
	}
	if len(leaves) != 1 {
		return nil, nil, fmt.Errorf("%d certificates of endorsement keys", len(leaves))
	}
	leaf := leaves[0]
	if err := r.VerifySignature(leaf); err != nil {
		return nil, nil, err
	}
	chain, err := snp.VerifyChain(leaf, issuers, roots)
	if err != nil {
		return nil, nil, err
	}
	for _, err := range []error{chain.CheckValidity(at), snp.CheckSigner(r, leaf), snp.CheckProduct(r, chain), snp.CheckTCB(r, leaf)} {
		if err != nil {
			return nil, nil, err
		}
	}
	if err := snp.CheckChipID(r, leaf); err != nil && snp.CodeOf(err) != snp.CodeChipIDUnbound {
		return nil, nil, err
	}
	return r, chain, nil
}

// Reports of every version, product and signer verify under the test root, and
// under no other (the promise of the whole package).
func TestReportsVerifyOnlyUnderTheTestRoot(t *testing.T) {
	amdRoots, err := snp.AMDRoots()
	if err != nil {
		t.Fatal(err)
	}
	for _, product := range snp.Products() {
		for version := uint32(2); version <= 5; version++ {
			for _, signer := range []snp.Signer{snp.SignerVCEK, snp.SignerVLEK} {
				t.Run(fmt.Sprintf("%v/v%d/%v", product, version, signer), func(t *testing.T) {
					p := launch(t, soft.Options{Product: product, Version: version, Signer: signer, VMPL: 1, Mitigations: 7})
					got, err := p.Report(context.Background(), platform.Fixed(data("nonce")))
					if err != nil || got.TableError != nil {
						t.Fatal(err, got.TableError)
					}
					r, chain, err := appraise(got.Bytes, got.Certificates, testRoots(t, p), time.Now())
					if err != nil {
						t.Fatal(err)
					}
					if !chain.Test || chain.Product != product {
						t.Errorf("chain test %t, product %v", chain.Test, chain.Product)
					}
					if r.ReportData != data("nonce") || r.VMPL != 1 || r.Version != version || r.Measurement != soft.Measurement() {
						t.Errorf("report %+v", r)
					}
					if (r.CPU != nil) != (version >= 3) || (r.CurrentMitigations != nil) != (version >= 5) {
						t.Errorf("cpu %v, mitigations %v in version %d", r.CPU, r.CurrentMitigations, version)
					}
					if _, _, err := appraise(got.Bytes, got.Certificates, amdRoots, time.Now()); snp.CodeOf(err) != snp.CodeChainRoot && snp.CodeOf(err) != snp.CodeChainSignature {
						t.Errorf("under AMD's roots: %v, want refusal", err)
					}
					if _, _, err := appraise(got.Bytes, got.Certificates, new(snp.Roots), time.Now()); snp.CodeOf(err) != snp.CodeChainRoot {
						t.Errorf("without a root: %v, want refusal", err)
					}
				})
			}
		}
	}
}

// The root says what it is, and trusting it as AMD's is not possible by accident.
func TestRootNamesItself(t *testing.T) {
	p := launch(t, soft.Options{})
	b, err := p.RootPEM()
	if err != nil {
		t.Fatal(err)
	}
	ders, err := snp.DecodeCertificates(b)
	if err != nil || len(ders) != 1 {
		t.Fatal(len(ders), err)
	}
	c, err := x509.ParseCertificate(ders[0])
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Subject.String(), "CN=TEST ROOT ARK-Milan,OU=vouches for no hardware,O=agentd software platform"; got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
}
