// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
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

// reported is a fresh report and the certificate that came with it.
func reported(t testing.TB, p *soft.Platform) (*snp.Report, *snp.EndorsementKey) {
	t.Helper()
	got, err := p.Report(context.Background(), platform.Fixed([64]byte{1}))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(got.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := snp.ParseEndorsementKey(p.Endorsement())
	if err != nil {
		t.Fatal(err)
	}
	return r, leaf
}

func chained(t testing.TB, p *soft.Platform, leaf *snp.EndorsementKey) (*snp.Chain, error) {
	t.Helper()
	root, err := p.Root()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := p.Intermediate()
	if err != nil {
		t.Fatal(err)
	}
	roots := new(snp.Roots)
	if err := roots.AddTestRootThatVouchesForNoHardware(root); err != nil {
		t.Fatal(err)
	}
	return snp.VerifyChain(leaf, []*x509.Certificate{issuer}, roots)
}

// cases 58 and 60: what a signature field may contain.
func TestSignatureEncoding(t *testing.T) {
	p := launch(t, soft.Options{})
	r, leaf := reported(t, p)
	if err := r.VerifySignature(leaf); err != nil {
		t.Fatal(err)
	}
	const at, size = 0x2A0, 72
	n := elliptic.P384().Params().N
	number := func(b []byte, v *big.Int) {
		le := v.FillBytes(make([]byte, size))
		slices.Reverse(le)
		copy(b, le)
	}
	for _, c := range []struct {
		name  string
		alter func(b []byte)
		want  snp.Code
	}{
		{"all zero", func(b []byte) { clear(b[at:]) }, snp.CodeSignatureAbsent},
		{"r zero", func(b []byte) { clear(b[at : at+size]) }, snp.CodeSignatureEncoding},
		{"s zero", func(b []byte) { clear(b[at+size : at+2*size]) }, snp.CodeSignatureEncoding},
		{"r is n", func(b []byte) { number(b[at:], n) }, snp.CodeSignatureEncoding},
		{"s is n", func(b []byte) { number(b[at+size:], n) }, snp.CodeSignatureEncoding},
		{"r above n", func(b []byte) { number(b[at:], new(big.Int).Add(n, big.NewInt(1))) }, snp.CodeSignatureEncoding},
		{"r of 72 bytes", func(b []byte) { b[at+size-1] = 1 }, snp.CodeSignatureEncoding},
		{"padding", func(b []byte) { b[at+2*size] = 1 }, snp.CodeSignatureEncoding},
		{"last byte", func(b []byte) { b[len(b)-1] = 1 }, snp.CodeSignatureEncoding},
		{"r is n less one", func(b []byte) { number(b[at:], new(big.Int).Sub(n, big.NewInt(1))) }, snp.CodeSignature},
		{"r and s swapped", func(b []byte) {
			copy(b[at:], append(slices.Clone(b[at+size:at+2*size]), b[at:at+size]...))
		}, snp.CodeSignature},
		{"signed byte flipped", func(b []byte) { b[0x90] ^= 1 }, snp.CodeSignature},
		{"last signed byte of a field flipped", func(b []byte) { b[0x1F7] ^= 1 }, snp.CodeSignature},
		{"algorithm 0", func(b []byte) { b[0x34] = 0 }, snp.CodeSignatureAlgorithm},
		{"algorithm 2", func(b []byte) { b[0x34] = 2 }, snp.CodeSignatureAlgorithm},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := r.Bytes()
			c.alter(b)
			altered, err := snp.ParseReport(b)
			if err != nil {
				t.Fatal(err)
			}
			if err := altered.VerifySignature(leaf); snp.CodeOf(err) != c.want {
				t.Errorf("%v, want code %s", err, c.want)
			}
		})
	}
}

// cases 56 and 58: genuine parts that do not belong together.
func TestWrongCombinations(t *testing.T) {
	p := launch(t, soft.Options{})
	_, leaf := reported(t, p)
	vlek := launch(t, soft.Options{Signer: snp.SignerVLEK})
	_, vlekLeaf := reported(t, vlek)
	_, otherChip := reported(t, launch(t, soft.Options{}))

	report := func(o soft.Options) *snp.Report {
		r, _ := reported(t, launch(t, o))
		return r
	}
	alter := func(f func(b []byte)) *snp.Report {
		return report(soft.Options{Alter: f, ChipSecret: p.Options().ChipSecret})
	}
	chain, err := chained(t, p, leaf)
	if err != nil {
		t.Fatal(err)
	}
	product := func(r *snp.Report, _ *snp.EndorsementKey) error { return snp.CheckProduct(r, chain) }
	for _, c := range []struct {
		name  string
		check func(*snp.Report, *snp.EndorsementKey) error
		r     *snp.Report
		leaf  *snp.EndorsementKey
		want  snp.Code
	}{
		{"chip", snp.CheckChipID, alter(func([]byte) {}), leaf, ""},
		{"other chip", snp.CheckChipID, alter(func([]byte) {}), otherChip, snp.CodeChipID},
		{"last byte of the chip id", snp.CheckChipID, alter(func(b []byte) { b[0x1DF] ^= 1 }), leaf, snp.CodeChipID},
		{"masked chip id", snp.CheckChipID, report(soft.Options{MaskChipID: true}), leaf, snp.CodeChipIDMasked},
		{"VLEK names no chip", snp.CheckChipID, report(soft.Options{Signer: snp.SignerVLEK}), vlekLeaf, snp.CodeChipIDUnbound},
		{"VLEK signed, VCEK certificate", snp.CheckSigner, report(soft.Options{Signer: snp.SignerVLEK}), leaf, snp.CodeSigner},
		{"VCEK signed, VLEK certificate", snp.CheckSigner, alter(func([]byte) {}), vlekLeaf, snp.CodeSigner},
		{"no signer", snp.CheckSigner, alter(func(b []byte) { b[0x48] = 7 << 2 }), leaf, snp.CodeUnsigned},
		{"reserved signer", snp.CheckSigner, alter(func(b []byte) { b[0x48] = 2 << 2 }), leaf, snp.CodeSigner},
		{"masked chip key", snp.CheckSigner, alter(func(b []byte) { b[0x48] = 2 }), leaf, snp.CodeChipKeyMasked},
		{"product", product, alter(func([]byte) {}), nil, ""},
		{"Genoa report, Milan chain", product, alter(func(b []byte) { b[0x189] = 0x11 }), nil, snp.CodeProduct},
		{"unknown processor", product, alter(func(b []byte) { b[0x188] = 0x1B }), nil, snp.CodeProductUnknown},
		{"no processor in version 2", product, report(soft.Options{Version: 2}), nil, ""},
		{"TCB", snp.CheckTCB, alter(func([]byte) {}), leaf, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(c.r, c.leaf); snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want code %q", err, c.want)
			}
		})
	}
	for i := range 8 {
		r := alter(func(b []byte) { b[0x180+i]++ })
		if err := snp.CheckTCB(r, leaf); snp.CodeOf(err) != snp.CodeTCB {
			t.Errorf("byte %d of the TCB differs: %v, want code %s", i, err, snp.CodeTCB)
		}
	}
	genuine := alter(func([]byte) {})
	for _, other := range []*snp.EndorsementKey{vlekLeaf, otherChip} {
		if err := genuine.VerifySignature(other); snp.CodeOf(err) != snp.CodeSignature {
			t.Errorf("the key of another %v: %v", other.Signer, err)
		}
	}
	if err := genuine.VerifySignature(leaf); err != nil {
		t.Errorf("the right key: %v", err)
	}
}

// Turin: 8 bytes of chip id, and the rest of the field must be zero.
// A root under AMD's name that an attacker made signs itself as well as AMD's does:
// only the pin tells them apart.
func TestRootOfAMDIsHeldToItsPin(t *testing.T) {
	recipe := evidencetest.NewReport(snp.Milan)
	_, ders := recipe.Make(t, [64]byte{1})
	leaves, issuers, errs := snp.SortCertificates(ders)
	root := evidencetest.Root(t, snp.Milan)
	i := slices.IndexFunc(issuers, func(c *x509.Certificate) bool { return !c.Equal(root) })
	if len(leaves) != 1 || i < 0 || len(errs) != 0 {
		t.Fatalf("%d leaves, %d issuers, %v", len(leaves), len(issuers), errs)
	}
	leaf, issuer := leaves[0], issuers[i]
	pin := sha256.Sum256(root.Raw)
	roots := new(snp.Roots)
	if err := roots.AddPinned(hex.EncodeToString(pin[:]), []*x509.Certificate{root, issuer}); err != nil {
		t.Fatal(err)
	}
	if chain, err := snp.VerifyChain(leaf, nil, roots); err != nil || chain.Test {
		t.Errorf("chain to a pinned root: test %t, error %v", err == nil && chain.Test, err)
	}
	pin[31] ^= 1
	roots = new(snp.Roots)
	if err := roots.AddPinned(hex.EncodeToString(pin[:]), []*x509.Certificate{root, issuer}); snp.CodeOf(err) != snp.CodeChainRoot {
		t.Errorf("a root with another fingerprint: %v, want %s", err, snp.CodeChainRoot)
	}
	if len(roots.Certificates()) != 0 {
		t.Error("a root was added that was refused")
	}
}

func TestTurinChipID(t *testing.T) {
	p := launch(t, soft.Options{Product: snp.Turin, Version: 5, Alter: func(b []byte) { b[0x1A8] = 1 }})
	r, leaf := reported(t, p)
	if err := snp.CheckChipID(r, leaf); snp.CodeOf(err) != snp.CodeChipID {
		t.Errorf("a ninth byte: %v", err)
	}
}

// case 49 for the chain: who may issue what.
func TestChainRefusals(t *testing.T) {
	p := launch(t, soft.Options{})
	_, leaf := reported(t, p)
	a := p.Options().Authority
	certificate := func(c *x509.Certificate, err error) *x509.Certificate {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	root := certificate(p.Root())
	issuer := certificate(p.Intermediate())
	genoa := certificate(a.Root(snp.Genoa))
	genoaIssuer := certificate(a.Intermediate(snp.Genoa, snp.SignerVCEK))
	trust := func(list ...*x509.Certificate) *snp.Roots {
		r := new(snp.Roots)
		for _, c := range list {
			if err := r.AddTestRootThatVouchesForNoHardware(c); err != nil {
				t.Fatal(err)
			}
		}
		return r
	}
	var crowd []*x509.Certificate
	for range 15 {
		crowd = append(crowd, genoaIssuer)
	}
	for _, c := range []struct {
		name   string
		leaf   *snp.EndorsementKey
		others []*x509.Certificate
		roots  *snp.Roots
		want   snp.Code
	}{
		{"right", leaf, []*x509.Certificate{issuer}, trust(root), ""},
		{"right among others", leaf, append(crowd[:14:14], root, issuer), trust(genoa, root), ""},
		{"no intermediate", leaf, nil, trust(root), snp.CodeChainIncomplete},
		{"intermediate of another product", leaf, []*x509.Certificate{genoaIssuer}, trust(root, genoa), snp.CodeChainIncomplete},
		{"root of another product", leaf, []*x509.Certificate{issuer}, trust(genoa), snp.CodeChainRoot},
		{"nil roots", leaf, []*x509.Certificate{issuer}, nil, snp.CodeChainRoot},
		{"too many", leaf, append(crowd, issuer, root), trust(root), snp.CodeChainAuthority},
		{"a leaf as root is not a root", leaf, []*x509.Certificate{leaf.Certificate}, trust(root), snp.CodeChainIncomplete},
	} {
		t.Run(c.name, func(t *testing.T) {
			chain, err := snp.VerifyChain(c.leaf, c.others, c.roots)
			if snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Fatalf("%v, want code %q", err, c.want)
			}
			if err == nil && (!chain.Test || !chain.Root.Equal(root)) {
				t.Errorf("chain %+v", chain)
			}
		})
	}
	t.Run("signature of the leaf flipped", func(t *testing.T) {
		altered, err := snp.ParseEndorsementKey(p.Endorsement())
		if err != nil {
			t.Fatal(err)
		}
		cert := *altered.Certificate
		cert.Signature = slices.Clone(cert.Signature)
		cert.Signature[0] ^= 1
		altered.Certificate = &cert
		if _, err := snp.VerifyChain(altered, []*x509.Certificate{issuer}, trust(root)); snp.CodeOf(err) != snp.CodeChainSignature {
			t.Errorf("%v, want code %s", err, snp.CodeChainSignature)
		}
	})
	// A cloud that has a VLEK's issuer must not be able to invent chips.
	t.Run("VCEK by the issuer of VLEKs", func(t *testing.T) {
		der, err := a.Endorse(soft.Endorsement{
			Signer: snp.SignerVLEK, Product: snp.Milan, TCB: leaf.TCB, CSPID: "cloud",
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
			Alter: func(c *x509.Certificate) {
				c.Subject.CommonName = "SEV-VCEK"
				last := len(c.ExtraExtensions) - 1 // cspID becomes hwID
				c.ExtraExtensions[last].Id = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1, 4}
				c.ExtraExtensions[last].Value = leaf.HWID
			},
		}, leaf.Certificate.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := snp.ParseEndorsementKey(der)
		if err != nil {
			t.Fatal(err)
		}
		asvk := certificate(a.Intermediate(snp.Milan, snp.SignerVLEK))
		if _, err := snp.VerifyChain(forged, []*x509.Certificate{asvk}, trust(root)); snp.CodeOf(err) != snp.CodeChainAuthority {
			t.Errorf("%v, want code %s", err, snp.CodeChainAuthority)
		}
	})
	// A signature with a key of a hundred thousand bits takes seconds, and an attacker can put
	// such an issuer into a document: it is refused for its size before it is used.
	t.Run("issuer with a long key", func(t *testing.T) {
		n := new(big.Int).Lsh(big.NewInt(1), 2*4096)
		long := *issuer
		long.PublicKey = &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: 1<<31 - 1}
		if _, err := snp.VerifyChain(leaf, []*x509.Certificate{&long}, trust(root)); snp.CodeOf(err) != snp.CodeChainAuthority {
			t.Errorf("%v, want code %s", err, snp.CodeChainAuthority)
		}
	})
	t.Run("no root", func(t *testing.T) {
		for _, c := range []*x509.Certificate{issuer, leaf.Certificate} {
			if err := new(snp.Roots).AddTestRootThatVouchesForNoHardware(c); err == nil {
				t.Errorf("%q is taken for a root", c.Subject.CommonName)
			}
		}
	})
}

// case 59: revoked, stale, and not a list of this root.
func TestRevocation(t *testing.T) {
	p := launch(t, soft.Options{})
	_, leaf := reported(t, p)
	chain, err := chained(t, p, leaf)
	if err != nil {
		t.Fatal(err)
	}
	a, now := p.Options().Authority, time.Now()
	for _, c := range []struct {
		name    string
		product snp.Product
		serials []*big.Int
		at      time.Time
		want    snp.Code
	}{
		{"empty", snp.Milan, nil, now, ""},
		{"another certificate", snp.Milan, []*big.Int{big.NewInt(5)}, now, ""},
		{"intermediate", snp.Milan, []*big.Int{big.NewInt(5), chain.Intermediate.SerialNumber}, now, snp.CodeRevoked},
		{"root", snp.Milan, []*big.Int{chain.Root.SerialNumber}, now, snp.CodeRevoked},
		{"past its end", snp.Milan, nil, now.Add(2 * time.Hour), snp.CodeCRLStale},
		{"past its end, and revoked", snp.Milan, []*big.Int{chain.Intermediate.SerialNumber}, now.Add(2 * time.Hour), snp.CodeRevoked},
		{"before its start, and revoked", snp.Milan, []*big.Int{chain.Intermediate.SerialNumber}, now.Add(-2 * time.Hour), snp.CodeCRLStale},
		{"before its start", snp.Milan, nil, now.Add(-2 * time.Hour), snp.CodeCRLStale},
		{"of another root", snp.Genoa, nil, now, snp.CodeCRL},
	} {
		t.Run(c.name, func(t *testing.T) {
			der, err := a.RevocationList(c.product, now.Add(-time.Hour), now.Add(time.Hour), c.serials...)
			if err != nil {
				t.Fatal(err)
			}
			l, err := snp.ParseRevocationList(der)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Check(chain, c.at); snp.CodeOf(err) != c.want || (err == nil) != (c.want == "") {
				t.Errorf("%v, want code %q", err, c.want)
			}
			der[len(der)-1] ^= 1
			if l, err = snp.ParseRevocationList(der); err != nil {
				t.Fatal(err)
			}
			if err := l.Check(chain, now); err == nil || c.product == snp.Milan && snp.CodeOf(err) != snp.CodeCRLSignature {
				t.Errorf("signature flipped: %v", err)
			}
		})
	}
	if _, err := snp.ParseRevocationList([]byte("no list")); snp.CodeOf(err) != snp.CodeCRL {
		t.Errorf("no list: %v", err)
	}
}

// Lists that are about some certificates only, or contain only what changed, are not an answer.
func TestRevocationListsOfOtherKinds(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &x509.Certificate{SubjectKeyId: []byte{1}, KeyUsage: x509.KeyUsageCRLSign}
	for name, x := range map[string]pkix.Extension{
		"only what changed":        {Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Value: []byte{2, 1, 1}},
		"only users' certificates": {Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Value: []byte{0x30, 3, 0x81, 1, 0xff}},
	} {
		for _, critical := range []bool{true, false} {
			for _, entry := range []bool{true, false} {
				x.Critical = critical
				l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}
				if entry {
					l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(1), RevocationTime: time.Now(), ExtraExtensions: []pkix.Extension{x}}}
				} else {
					l.ExtraExtensions = []pkix.Extension{x}
				}
				der, err := x509.CreateRevocationList(rand.Reader, l, issuer, key)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := snp.ParseRevocationList(der); critical != (snp.CodeOf(err) == snp.CodeCRL) {
					t.Errorf("%s, critical %t, of an entry %t: %v", name, critical, entry, err)
				}
			}
		}
	}
}

func TestErrorsSayWhatAndWhy(t *testing.T) {
	_, err := snp.ParseReport(blank(7))
	if got, want := err.Error(), "attestation report: found version 7, want 2 to 5"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if !strings.Contains(snp.CheckTCB(&snp.Report{ReportedTCB: 1}, &snp.EndorsementKey{Product: snp.Milan}).Error(), "bootloader (byte 0): found 1, want 0") {
		t.Error("TCB error does not name the component")
	}
}
