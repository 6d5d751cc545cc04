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
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// certificateOf is a self-signed certificate with an extension of that many bytes.
func certificateOf(t *testing.T, extension int) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<31, 0),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 99}, Value: make([]byte, extension)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestParseCertificates: case 113, the part of PEM: text around blocks is ignored, other blocks
// and blocks that do not decode are refused.
func TestParseCertificates(t *testing.T) {
	der := certificateOf(t, 1)
	one := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key := string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	headers := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"A": "b"}, Bytes: der}))
	for name, x := range map[string]struct {
		text  string
		count int // 0: refused
	}{
		"DER":                   {string(der), 1},
		"one":                   {one, 1},
		"two":                   {one + one, 2},
		"blank space":           {"\n \t" + one + "\r\n\n" + one + "\n\n", 2},
		"as many as there may":  {strings.Repeat(one, 16), 16},
		"too many":              {strings.Repeat(one, 17), 0},
		"text before":           {"subject=CN\n" + one, 1}, // RFC 7468, section 2
		"text between":          {one + "subject=CN\n" + one, 2},
		"text after":            {one + "subject=CN\n", 1},
		"text of openssl":       {"Certificate:\n    Data:\n        Version: 3 (0x2)\n" + one + "Certificate:\n" + one, 2},
		"a byte order mark":     {"\xef\xbb\xbf" + one + one, 2},
		"the old label":         {strings.ReplaceAll(one, "CERTIFICATE", "X509 CERTIFICATE"), 1},
		"lines of Windows":      {"\xef\xbb\xbf" + strings.ReplaceAll("a\n"+one+one, "\n", "\r\n"), 2},
		"a block in a sentence": {"it begins with -----BEGIN CERTIFICATE-----\n" + one, 1},
		"one cut, one whole":    {one[:len(one)-30] + "\n" + one, 0},
		"one damaged, then one": {strings.Replace(one, "-----\nM", "-----\n!", 1) + one, 0},
		"a list":                {string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})), 0},
		"a private key":         {one + string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})), 0},
		"key between":           {one + key + one, 0},
		"headers":               {headers, 0},
		"cut off":               {one[:len(one)-20], 0},
		"bytes after DER":       {string(der) + "\x00", 0},
		"no certificate in PEM": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der[1:]})), 0},
		"empty":                 {"", 0},
		"too long":              {strings.Repeat("\n", 16*2*snp.MaxCertificate) + one, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := snp.DecodeCertificates([]byte(x.text))
			if x.count == 0 {
				if snp.CodeOf(err) != snp.CodeCertificate || got != nil {
					t.Errorf("%d certificates, %v", len(got), err)
				}
				return
			}
			if err != nil || len(got) != x.count || !bytes.Equal(got[x.count-1], der) {
				t.Errorf("%d certificates, want %d, %v", len(got), x.count, err)
			}
		})
	}
}

// TestBeginningsInALine: the time for text in which a block seems to begin again and again grows
// with its length, and not with its square, be it in one line or in many. Both texts have as many
// bytes, and the second 20 times as many beginnings. What a busy machine takes away from one round
// it does not take from all: the least times count, of as many rounds as it takes.
func TestBeginningsInALine(t *testing.T) {
	const begin = "-----BEGIN "
	few := []byte("x" + strings.Repeat(begin, 1000) + strings.Repeat("x", 19<<10*len(begin)))
	many := []byte("x" + strings.Repeat(begin, 1000+19<<10))
	took := func(b []byte) time.Duration {
		began := time.Now()
		_, err := snp.DecodeCertificates(b)
		out := time.Since(began)
		if snp.CodeOf(err) != snp.CodeCertificate {
			t.Fatal(err)
		}
		return out
	}
	f, m := took(few), took(many)
	for round := 0; round < 5 || m > 20*f+time.Millisecond; round++ {
		if round == 30 {
			t.Fatalf("%v for as many bytes with 20 times as many beginnings, and %v", m, f)
		}
		f, m = min(f, took(few)), min(m, took(many))
	}
}

// TestLabelIsCut: an error does not repeat a label of any length.
func TestLabelIsCut(t *testing.T) {
	long := pem.EncodeToMemory(&pem.Block{Type: strings.Repeat("A", 100<<10), Bytes: []byte{1}})
	if _, err := snp.DecodeCertificates(long); err == nil || len(err.Error()) > 300 {
		t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
	}
}

// TestCertificateIsCapped: one byte more than the cap is refused, in every form.
func TestCertificateIsCapped(t *testing.T) {
	small := snp.MaxCertificate - 512
	for extension := small; ; {
		der := certificateOf(t, extension)
		if len(der) <= snp.MaxCertificate { // signatures differ in length by a few bytes
			if _, err := snp.ParseCertificates(der); err != nil {
				t.Fatalf("%d bytes: %v", len(der), err)
			}
			extension += max(1, snp.MaxCertificate-len(der))
			continue
		}
		for name, b := range map[string][]byte{"DER": der, "PEM": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})} {
			if got, err := snp.ParseCertificates(b); snp.CodeOf(err) != snp.CodeCertificate || got != nil {
				t.Errorf("%s of %d bytes: %v", name, len(der), err)
			}
		}
		if _, _, errs := snp.SortCertificates([][]byte{der}); len(errs) != 1 {
			t.Errorf("sorted with %v", errs)
		}
		return
	}
}
