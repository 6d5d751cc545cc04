// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

// define writes b to an NV index as makers do, readable by every program.
func define(t *testing.T, s transport.TPM, index tpm2.TPMHandle, size int, b []byte) {
	t.Helper()
	public := tpm2.TPMSNVPublic{
		NVIndex: index, NameAlg: tpm2.TPMAlgSHA256, DataSize: uint16(size),
		Attributes: tpm2.TPMANV{OwnerWrite: true, AuthRead: true, OwnerRead: true, NoDA: true},
	}
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(public)}).Execute(s); err != nil {
		t.Fatal(err)
	}
	for offset := 0; offset < len(b); offset += 512 {
		rsp, err := tpm2.NVReadPublic{NVIndex: index}.Execute(s) // the name changes at the first write
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm2.NVWrite{
			AuthHandle: owner, NVIndex: tpm2.NamedHandle{Handle: index, Name: rsp.NVName},
			Data: tpm2.TPM2BMaxNVBuffer{Buffer: b[offset:min(offset+512, len(b))]}, Offset: uint16(offset),
		}.Execute(s)
		if err != nil {
			t.Fatal(err)
		}
	}
}

var now = time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)

// certify makes a certificate of key, longer than one command reads; for the signer's own
// key it is root, signed by itself.
func certify(t *testing.T, root *x509.Certificate, signer *ecdsa.PrivateKey, key crypto.PublicKey) []byte {
	t.Helper()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: now, NotAfter: now.AddDate(1, 0, 0),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 900)}}}
	if signer.PublicKey.Equal(key) {
		leaf = root
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, root, key, signer)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestReadEKCertificate(t *testing.T) {
	s := swtpm.Start(t)
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test TPM Root"}, NotBefore: now, NotAfter: now.AddDate(1, 0, 0),
		IsCA: true, BasicConstraintsValid: true}
	if root, err = x509.ParseCertificate(certify(t, root, signer, signer.Public())); err != nil {
		t.Fatal(err)
	}
	for kind, index := range map[keys.EKKind]tpm2.TPMHandle{keys.EKRSA2048: 0x01c00002, keys.EKECC256: 0x01c0000a} {
		ek := readEK(t, s, kind)
		if ek.Certificate != nil {
			t.Errorf("%s: a certificate of %d bytes, want none", kind, len(ek.Certificate))
		}
		key, err := ek.Public.Key()
		if err != nil {
			t.Fatal(err)
		}
		der := certify(t, root, signer, key)
		stored := der
		if kind == keys.EKRSA2048 { // in the header that TPM 1.2 had
			stored = binary.BigEndian.AppendUint16([]byte{0x10, 0x01, 0}, uint16(len(der)+2))
			stored = append(append(stored, 0x10, 0x02), der...)
		}
		define(t, s, index, len(stored)+100, append(stored, bytes.Repeat([]byte{0xff}, 100)...)) // padded
		ek = readEK(t, s, kind)
		if !bytes.Equal(ek.Certificate, der) {
			t.Errorf("%s: read %d bytes, want %d", kind, len(ek.Certificate), len(der))
		}
		issuer, err := keys.VerifyEKCertificate([][]byte{ek.Certificate}, ek.Public, []*x509.Certificate{root}, now)
		if err != nil || issuer != root.Subject.String() {
			t.Errorf("%s: got issuer %q, %v, want %q", kind, issuer, err, root.Subject.String())
		}
	}
}

func TestReadEKCertificateRefused(t *testing.T) {
	for name, c := range map[string]struct {
		size int
		data []byte
		want string // "" is ErrNoCertificate
	}{
		"never written":     {100, nil, ""},
		"erased":            {100, bytes.Repeat([]byte{0xff}, 100), ""},
		"zeros":             {100, make([]byte, 100), ""},
		"text":              {100, bytes.Repeat([]byte("x"), 100), "are not a certificate"},
		"longer than it is": {100, append([]byte{0x30, 0x82, 0x10, 0}, make([]byte, 96)...), "are not a certificate"},
		"length of 4 GiB":   {100, append([]byte{0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, make([]byte, 94)...), "are not a certificate"},
		"another structure": {100, append([]byte{0x04, 0x10}, make([]byte, 98)...), "are not a certificate"},
	} {
		s := swtpm.Start(t)
		define(t, s, 0x01c0000a, c.size, c.data)
		_, err := tpmkeys.ReadEKCertificate(s, keys.EKECC256, tpmkeys.Auths{})
		if c.want == "" && !errors.Is(err, tpmkeys.ErrNoCertificate) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := tpmkeys.ReadEKCertificate(swtpm.Start(t), "rsa3072", tpmkeys.Auths{}); err == nil {
		t.Error("an unknown kind is not an error")
	}
}
