// SPDX-License-Identifier: Apache-2.0

package snp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// selfSigned is a VCEK certificate without an issuer: fuzzing starts many
// processes, and RSA keys would take most of its time.
func selfSigned(f *testing.F, p snp.Product) []byte {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: new(big.Int), Subject: pkix.Name{CommonName: "SEV-VCEK"}, NotAfter: time.Now()}
	put := func(value []byte, oid ...int) {
		id := append(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}, oid...)
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Value: value})
	}
	put([]byte{2, 1, 0}, 1)
	put(append([]byte{22, 5}, p.String()...), 2)
	fourth, hwid := 4, 64
	if p == snp.Turin {
		fourth, hwid = 9, 8
	}
	for _, oid := range []int{1, 2, 3, fourth, 5, 6, 7, 8} {
		put([]byte{2, 1, byte(oid)}, 3, oid)
	}
	put(make([]byte, hwid), 4)
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		f.Fatal(err)
	}
	return der
}

// case 66: no panic, and what is accepted is what was given.
func FuzzParseReport(f *testing.F) {
	for version := uint32(1); version <= 6; version++ {
		f.Add(blank(version))
	}
	leaf, err := snp.ParseEndorsementKey(selfSigned(f, snp.Milan))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := snp.ParseReport(b)
		if err != nil {
			if got != nil || snp.CodeOf(err) == "" {
				t.Fatalf("report %v with error %v", got, err)
			}
			return
		}
		if !bytes.Equal(got.Bytes(), b) {
			t.Fatal("bytes changed")
		}
		if got.VerifySignature(leaf) == nil {
			t.Fatal("a signature that no key made verifies")
		}
		_ = snp.CheckSigner(got, leaf)
		_ = snp.CheckTCB(got, leaf)
		_ = snp.CheckChipID(got, leaf)
		for _, p := range []snp.Product{snp.ProductUnknown, snp.Milan, snp.Turin} {
			_, _, _ = got.ReportedTCB.Components(p)
		}
	})
}

func FuzzParseEndorsementKey(f *testing.F) {
	f.Add(selfSigned(f, snp.Milan))
	f.Add(selfSigned(f, snp.Turin))
	f.Fuzz(func(t *testing.T, b []byte) {
		leaf, err := snp.ParseEndorsementKey(b)
		if err != nil {
			return
		}
		if leaf.Product == snp.ProductUnknown || (leaf.HWID == nil) == (leaf.CSPID == "") {
			t.Fatalf("accepted %+v", leaf)
		}
	})
}

// FuzzExtensions mangles one extension of a certificate that is otherwise good.
func FuzzExtensions(f *testing.F) {
	good, err := x509.ParseCertificate(selfSigned(f, snp.Milan))
	if err != nil {
		f.Fatal(err)
	}
	for i, e := range good.Extensions {
		f.Add(uint8(i), e.Value)
	}
	f.Fuzz(func(t *testing.T, which uint8, value []byte) {
		c := *good
		c.Extensions = append(c.Extensions[:0:0], good.Extensions...)
		i := int(which) % len(c.Extensions)
		c.Extensions[i].Value = value
		leaf, err := snp.EndorsementKeyOf(&c)
		if err != nil {
			return
		}
		if leaf.Product != snp.Milan && leaf.Product != snp.Genoa || len(leaf.HWID) != 64 {
			t.Fatalf("accepted %+v", leaf)
		}
	})
}

func FuzzParseTable(f *testing.F) {
	f.Add(table(100, entry{snp.GUIDVCEK, 48, 52}))
	f.Add(make([]byte, 4096))
	f.Add(append(table(48, entry{snp.GUIDVCEK, 48, 4}), 0x30, 0x02, 0x05, 0x00))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := snp.ParseTable(b)
		if err != nil && entries != nil {
			t.Fatal("entries with an error")
		}
		total := 0
		for _, e := range entries {
			total += len(e.Data)
		}
		if total > len(b) {
			t.Fatalf("%d bytes out of %d", total, len(b))
		}
		if ders, err := snp.TableCertificates(b); err != nil && ders != nil {
			t.Fatal("certificates with an error")
		}
	})
}
