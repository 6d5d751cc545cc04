// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/internal/platform/soft"
	"github.com/cvm-agentd/agentd/verify/snp"
)

// A Report describes a report and its certificates.
type Report struct {
	Product        snp.Product    // of the chain
	Signer         snp.Signer     // VCEK or VLEK
	Body           func(b []byte) // changes the 1184 bytes before they are signed
	Signed         func(b []byte) // and after
	Leaf           Leaf
	NotBefore      time.Time
	NotAfter       time.Time
	OnlyLeaf       bool // leaves intermediate and root out
	NoCertificates bool
}

// A Leaf describes the certificate of the endorsement key.
type Leaf struct {
	ProductName string
	HWID        []byte
	Levels      [8]byte // bytes of the TCB
}

// What a report contains unless a recipe changes it.
var (
	Measurement = bytes.Repeat([]byte{0x4d}, 48)
	HostData    = bytes.Repeat([]byte{0x68}, 32)
	IDKey       = bytes.Repeat([]byte{0x69}, 48)
	ReportID    = bytes.Repeat([]byte{0x72}, 32)
	AuthorKey   = bytes.Repeat([]byte{0x6b}, 48)
	FamilyID    = bytes.Repeat([]byte{0x66}, 16)
	ImageID     = bytes.Repeat([]byte{0x67}, 16)
	ChipID      = bytes.Repeat([]byte{0x63}, 64)
	TCB         = [8]byte{9, 3, 0, 0, 0, 0, 23, 72} // Milan and Genoa: boot loader, TEE, SNP, microcode
)

func newReport(p snp.Product) Report {
	return Report{
		Product: p, Signer: snp.SignerVCEK,
		Leaf:      Leaf{ProductName: p.String(), HWID: ChipID, Levels: TCB},
		NotBefore: Time.AddDate(-1, 0, 0), NotAfter: Time.AddDate(6, 0, 0),
	}
}

// Offsets of the fields that tests change (SEV-SNP Firmware ABI Specification, table
// "ATTESTATION_REPORT Structure").
const (
	AtVersion            = 0x00
	AtGuestSVN           = 0x04
	AtPolicy             = 0x08
	AtFamilyID           = 0x10
	AtImageID            = 0x20
	AtVMPL               = 0x30
	AtCurrentTCB         = 0x38
	AtPlatformInfo       = 0x40
	AtKeyInfo            = 0x48
	AtReportData         = 0x50
	AtMeasurement        = 0x90
	AtHostData           = 0xC0
	AtIDKey              = 0xE0
	AtAuthorKey          = 0x110
	AtReportID           = 0x140
	AtReportedTCB        = 0x180
	AtCPU                = 0x188
	AtChipID             = 0x1A0
	AtCommittedTCB       = 0x1E0
	AtLaunchTCB          = 0x1F0
	AtLaunchMitigations  = 0x1F8
	AtCurrentMitigations = 0x200
	AtSignature          = 0x2A0
)

// make returns the signed report, and the certificates, leaf first.
func (r *Report) make(tb testing.TB, data [64]byte) ([]byte, [][]byte) {
	tb.Helper()
	b := make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b[AtVersion:], 5)
	le.PutUint32(b[AtGuestSVN:], 2)
	le.PutUint64(b[AtPolicy:], 1<<17|1<<16|55|1<<8)
	copy(b[AtFamilyID:], FamilyID)
	copy(b[AtImageID:], ImageID)
	le.PutUint32(b[0x34:], 1)
	le.PutUint64(b[AtPlatformInfo:], uint64(snp.PlatformTSME|snp.PlatformECC|snp.PlatformAliasCheck))
	le.PutUint32(b[AtKeyInfo:], uint32(r.Signer)<<2)
	copy(b[AtReportData:], data[:])
	copy(b[AtMeasurement:], Measurement)
	copy(b[AtHostData:], HostData)
	copy(b[AtIDKey:], IDKey)
	copy(b[AtAuthorKey:], AuthorKey)
	copy(b[AtReportID:], ReportID)
	for _, at := range []int{AtCurrentTCB, AtReportedTCB, AtCommittedTCB, AtLaunchTCB} {
		copy(b[at:], TCB[:])
	}
	copy(b[AtCPU:], []byte{0x19, 0x11, 1})
	if r.Signer == snp.SignerVCEK {
		copy(b[AtChipID:], ChipID)
	}
	le.PutUint64(b[AtLaunchMitigations:], 3)
	le.PutUint64(b[AtCurrentMitigations:], 3)
	if r.Body != nil {
		r.Body(b)
	}
	if err := soft.Sign(b, keys().leaf); err != nil {
		tb.Fatal(err)
	}
	if r.Signed != nil {
		r.Signed(b)
	}
	return b, r.certificates(tb)
}

// CurveOrder is n of P-384, little-endian in 72 bytes, as r and s are encoded in a report.
func CurveOrder() []byte {
	b := elliptic.P384().Params().N.FillBytes(make([]byte, 72))
	slices.Reverse(b)
	return b
}

type keyring struct {
	ark, ask *rsa.PrivateKey
	leaf     *ecdsa.PrivateKey
}

//go:embed testdata/ark.pem
var arkPEM []byte

//go:embed testdata/ask.pem
var askPEM []byte

// keys returns the same keys in every run: two RSA-4096 keys take seconds to make.
var keys = sync.OnceValue(func() *keyring {
	read := func(text []byte) *rsa.PrivateKey {
		block, _ := pem.Decode(text)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			panic(err)
		}
		return key.(*rsa.PrivateKey)
	}
	leaf, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), bytes.Repeat([]byte{0x76}, 48))
	if err != nil {
		panic(err)
	}
	return &keyring{ark: read(arkPEM), ask: read(askPEM), leaf: leaf}
})

// Root returns the root of all reports of this package, for one product.
func Root(tb testing.TB, p snp.Product) *x509.Certificate {
	tb.Helper()
	c, err := x509.ParseCertificate(authority(tb, "ARK-"+p.String(), "ARK-"+p.String(), &keys().ark.PublicKey, keys().ark))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Roots returns roots that trust the test roots of this package only.
func Roots(tb testing.TB) *snp.Roots {
	tb.Helper()
	r := new(snp.Roots)
	for _, p := range snp.Products() {
		if err := r.AddTestRootThatVouchesForNoHardware(Root(tb, p)); err != nil {
			tb.Fatal(err)
		}
	}
	return r
}

// RevocationList returns one by the root of p that lists these serial numbers.
func RevocationList(tb testing.TB, p snp.Product, from, to time.Time, serials ...int64) *snp.RevocationList {
	tb.Helper()
	l, err := snp.ParseRevocationList(RevocationListDER(tb, p, from, to, serials...))
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// RevocationListDER returns the same as the file that a verifier gets.
func RevocationListDER(tb testing.TB, p snp.Product, from, to time.Time, serials ...int64) []byte {
	tb.Helper()
	t := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: to, SignatureAlgorithm: x509.SHA384WithRSAPSS}
	for _, s := range serials {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(s), RevocationTime: from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, Root(tb, p), keys().ark)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// Serial returns the serial number of every intermediate of this package.
const Serial = 2

// made keeps authorities and leaves by their content: an RSA-4096 signature takes longer than
// a whole appraisal.
var made sync.Map

func once(id string, make func() []byte) []byte {
	if der, ok := made.Load(id); ok {
		return bytes.Clone(der.([]byte))
	}
	der := make()
	made.Store(id, der)
	return bytes.Clone(der)
}

func authority(tb testing.TB, subject, issuer string, key *rsa.PublicKey, signer *rsa.PrivateKey) []byte {
	tb.Helper()
	return once(subject+" by "+issuer, func() []byte { return newAuthority(tb, subject, issuer, key, signer) })
}

func newAuthority(tb testing.TB, subject, issuer string, key *rsa.PublicKey, signer *rsa.PrivateKey) []byte {
	tb.Helper()
	serial := int64(1)
	if subject != issuer {
		serial = Serial
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: subject, Organization: []string{"a test root, no hardware"}},
		NotBefore: Time.AddDate(-5, 0, 0), NotAfter: Time.AddDate(20, 0, 0), SignatureAlgorithm: x509.SHA384WithRSAPSS,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, SubjectKeyId: []byte(subject),
	}
	parent := *t
	parent.Subject.CommonName = issuer
	parent.SubjectKeyId = []byte(issuer)
	der, err := x509.CreateCertificate(rand.Reader, t, &parent, key, signer)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

func (r *Report) certificates(tb testing.TB) [][]byte {
	tb.Helper()
	if r.NoCertificates {
		return nil
	}
	name, intermediate := "SEV-VCEK", "SEV-"+r.Product.String()
	if r.Signer == snp.SignerVLEK {
		name, intermediate = "SEV-VLEK", "SEV-VLEK-"+r.Product.String()
	}
	return r.CertificatesNamed(tb, name, intermediate)
}

// CertificatesNamed returns leaf, intermediate and root with these common names, independent of
// the report.
func (r *Report) CertificatesNamed(tb testing.TB, leaf, intermediate string) [][]byte {
	tb.Helper()
	root := "ARK-" + r.Product.String()
	issuer := authority(tb, intermediate, root, &keys().ask.PublicKey, keys().ark)
	parent, err := x509.ParseCertificate(issuer)
	if err != nil {
		tb.Fatal(err)
	}
	endorsed := soft.Endorsement{
		Product: r.Product, ProductName: r.Leaf.ProductName, HWID: r.Leaf.HWID, CSPID: "test cloud 1",
		TCB: snp.TCB(binary.LittleEndian.Uint64(r.Leaf.Levels[:])),
	}
	if leaf == "SEV-VLEK" {
		endorsed.Signer = snp.SignerVLEK
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: leaf, Organization: []string{"a test root, no hardware"}},
		NotBefore: r.NotBefore, NotAfter: r.NotAfter, SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions: endorsed.Extensions(),
	}
	id := fmt.Sprint(leaf, intermediate, r.Product, r.NotBefore, r.NotAfter, r.Leaf)
	der := once(id, func() []byte {
		der, err := x509.CreateCertificate(rand.Reader, t, parent, &keys().leaf.PublicKey, keys().ask)
		if err != nil {
			tb.Fatal(err)
		}
		return der
	})
	if r.OnlyLeaf {
		return [][]byte{der}
	}
	return [][]byte{der, issuer, authority(tb, root, root, &keys().ark.PublicKey, keys().ark)}
}
