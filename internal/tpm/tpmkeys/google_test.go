// SPDX-License-Identifier: Apache-2.0

package tpmkeys_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/platform/soft/google"
	"github.com/cvm-agentd/agentd/internal/tpm/tpmkeys"
	"github.com/cvm-agentd/agentd/keys"
	"github.com/cvm-agentd/agentd/pcr"
	"github.com/cvm-agentd/agentd/test/swtpm"
)

var quoted = pcr.Selection{{Algorithm: pcr.SHA256, PCRs: []uint32{0, 13}}}

// TestGoogle: the keys of Google's templates quote, with their certificates, also after their
// slots were freed, and are the same each time.
func TestGoogle(t *testing.T) {
	s := swtpm.Start(t)
	a, err := google.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Provision(s, google.Instance); err != nil {
		t.Fatal(err)
	}
	for _, choice := range []tpmkeys.AKChoice{tpmkeys.AKGCPECC, tpmkeys.AKGCPRSA} {
		ak, err := tpmkeys.Google(s, choice, tpmkeys.Auths{})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			attest, _, err := ak.Quote(s, []byte("nonce"), quoted)
			if err != nil {
				t.Fatalf("%s: %v", choice, err)
			}
			if _, err := tpmkeys.ParseQuote(attest, []byte("nonce")); err != nil {
				t.Error(err)
			}
			if err := ak.Flush(s); err != nil {
				t.Fatal(err)
			}
		}
		all := keys.GoogleAKCertificates([][]byte{ak.Certificate()})
		if len(all) != 1 || ak.Blob() != nil {
			t.Fatalf("%s: %d certificates", choice, len(all))
		}
		if i, err := all[0].Instance(); err != nil || *i != google.Instance {
			t.Errorf("%s: %+v, %v", choice, i, err)
		}
		again, err := tpmkeys.Google(s, choice, tpmkeys.Auths{})
		if err != nil || !bytes.Equal(again.Public(), ak.Public()) {
			t.Errorf("%s: another key the second time (%v)", choice, err)
		}
		if err := again.Flush(s); err != nil {
			t.Error(err)
		}
	}
}

// TestGoogleRefused: case 118. The host writes these indices. What does not fit is refused, and
// no other key is made in its place.
func TestGoogleRefused(t *testing.T) {
	s := swtpm.Start(t)
	a, err := google.New()
	if err != nil {
		t.Fatal(err)
	}
	template := google.Templates()[google.ECCCertificate]
	key, err := google.Key(s, template)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	certify := func(key any, change func(*x509.Certificate)) []byte {
		der, err := a.Certify(key, google.Instance, change)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	attributes := func(change func(*tpm2.TPMAObject)) []byte {
		x := template
		change(&x.ObjectAttributes)
		return tpm2.Marshal(x)
	}
	good, goodTemplate := certify(key, nil), tpm2.Marshal(template)
	for _, c := range []struct {
		name                  string
		certificate, template []byte // nil: the index is not there
		want                  string // in the error; empty: it is accepted
	}{
		{"nothing", nil, nil, "0x01c10003"},
		{"no template", good, nil, "nothing is there"},
		{"no certificate", nil, goodTemplate, "no certificate is there"},
		{"good, padded", append(bytes.Clone(good), make([]byte, 100)...), append(bytes.Clone(goodTemplate), make([]byte, 100)...), ""},
		{"template of garbage", good, bytes.Repeat([]byte{0x5a}, 100), "not a TPMT_PUBLIC"},
		{"template of zeros", good, make([]byte, 100), "not a TPMT_PUBLIC"},
		{"template cut", good, goodTemplate[:20], "not a TPMT_PUBLIC"},
		{"bytes after the template", good, append(bytes.Clone(goodTemplate), 1), "bytes follow"},
		{"template too long", good, make([]byte, 1100), "at most 1024"},
		{"template of RSA", good, tpm2.Marshal(google.Templates()[google.RSACertificate]), "algorithm 0x0001"},
		{"not restricted", good, attributes(func(x *tpm2.TPMAObject) { x.Restricted = false }), "restricted signing key"},
		{"may leave the TPM", good, attributes(func(x *tpm2.TPMAObject) { x.FixedTPM = false }), "restricted signing key"},
		{"decrypts", good, attributes(func(x *tpm2.TPMAObject) { x.Decrypt = true }), "restricted signing key"},
		{"policy", good, attributes(func(x *tpm2.TPMAObject) { x.UserWithAuth = false }), "policy"},
		{"certificate of garbage", bytes.Repeat([]byte{0x5a}, 700), goodTemplate, "X.509"},
		{"certificate of zeros", make([]byte, 700), goodTemplate, "no certificate is there"},
		{"certificate cut", good[:len(good)-10], goodTemplate, "X.509"},
		{"certificate of another key", certify(other.Public(), nil), goodTemplate, "another key"},
		{"certificate of no machine", certify(key, func(c *x509.Certificate) { c.ExtraExtensions = nil }), goodTemplate, "names a machine"},
		{"certificate for encryption", certify(key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), goodTemplate, "key usage"},
		{"machine of garbage", certify(key, func(c *x509.Certificate) { c.ExtraExtensions[0].Value = []byte{0x30, 0x10} }), goodTemplate, "cannot be read"},
	} {
		for index, b := range map[tpm2.TPMHandle][]byte{google.ECCCertificate: c.certificate, google.ECCCertificate + 1: c.template} {
			if err := google.Write(s, index, b); err != nil {
				t.Fatal(err)
			}
		}
		ak, err := tpmkeys.Google(s, tpmkeys.AKGCPECC, tpmkeys.Auths{})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if err := ak.Flush(s); err != nil {
				t.Error(err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "0x01c1000") || strings.Contains(c.want, "at most") == errors.Is(err, tpmkeys.ErrGoogle) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
		if list := swtpm.Handles(t, s, tpm2.TPMHTTransient); len(list) != 0 {
			t.Fatalf("%s: %x: a slot of the TPM stays taken", c.name, list)
		}
	}
}

// TestGoogleOtherVTPM: if the host gives the machine another vTPM while the agent runs, quotes
// fail by name.
func TestGoogleOtherVTPM(t *testing.T) {
	s := swtpm.Start(t)
	a, err := google.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Provision(s, google.Instance); err != nil {
		t.Fatal(err)
	}
	ak, err := tpmkeys.Google(s, tpmkeys.AKGCPECC, tpmkeys.Auths{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ak.Flush(s); err != nil {
		t.Fatal(err)
	}
	if _, _, err := ak.Quote(swtpm.Start(t), []byte("nonce"), quoted); !errors.Is(err, tpmkeys.ErrKeptOther) {
		t.Errorf("got %v", err)
	}
}
