// SPDX-License-Identifier: Apache-2.0

package deviceattest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"
)

func testKey(t *testing.T) crypto.Signer {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestCheck: what an ACME server sends is for the key of the request, holds together, and has not ended.
func TestCheck(t *testing.T) {
	now := time.Date(2031, 1, 1, 0, 0, 0, 0, time.UTC)
	key, root := testKey(t), testKey(t)
	issue := func(name string, of crypto.PublicKey, by crypto.Signer, ends time.Time) []byte {
		x := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: ends, IsCA: name == "root", BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, x, &x509.Certificate{Subject: pkix.Name{CommonName: "root"}}, of, by)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	authority, leaf := issue("root", root.Public(), root, now.Add(time.Hour)), issue("leaf", key.Public(), root, now.Add(time.Hour))
	other := testKey(t)
	for name, x := range map[string]struct {
		chain [][]byte
		want  string
	}{
		"good":             {[][]byte{leaf, authority}, ""},
		"alone":            {[][]byte{leaf}, ""},
		"none":             {nil, "there is none"},
		"of another key":   {[][]byte{issue("leaf", other.Public(), root, now.Add(time.Hour)), authority}, "another key"},
		"the root first":   {[][]byte{authority, leaf}, "chain is broken"},
		"another root":     {[][]byte{leaf, issue("root", other.Public(), other, now.Add(time.Hour))}, "chain is broken"},
		"it has ended":     {[][]byte{issue("leaf", key.Public(), root, now), authority}, "it ended at"},
		"not certificates": {[][]byte{{1, 2, 3}}, "x509"},
	} {
		c, err := check(x.chain, key.Public(), now)
		if (err == nil) != (x.want == "") || (c == nil) != (err != nil) || err != nil && !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s: %v, want %q", name, err, x.want)
		}
	}
	x, err := x509.ParseCertificate(leaf)
	if err != nil || !RenewAt(x).Equal(now.Add(20*time.Minute)) {
		t.Errorf("%v, renew at %v", err, RenewAt(x))
	}
}
