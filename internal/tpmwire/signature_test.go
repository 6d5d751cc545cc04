// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"math/big"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// signingKey is the key of an attestation key in software.
func signingKey(t testing.TB, ak *evidencetest.AK) *tpmwire.Key {
	t.Helper()
	public, err := tpmwire.ParsePublic(ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	k, err := tpmwire.SigningKey(public, ak.Public())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestSignature: a signature is that of one message under one key and scheme, in one
// spelling of its numbers.
func TestSignature(t *testing.T) {
	message := []byte("message")
	ecc, pss := evidencetest.ECCKey('k'), evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSAPSS)
	for name, ak := range map[string]*evidencetest.AK{"ECDSA": ecc, "RSAPSS": pss, "RSASSA": evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)} {
		k, good := signingKey(t, ak), ak.Sign(t, message)
		sig, err := k.ParseSignature(good)
		if err != nil || !k.Verify(message, sig) || k.Verify([]byte("another"), sig) {
			t.Errorf("%s: %v", name, err)
		}
		for what, bad := range map[string][]byte{
			"nothing": nil, "cut": good[:len(good)-1], "longer": append(bytes.Clone(good), 0),
			"scheme": append([]byte{0, 0x1a}, good[2:]...), "hash": append(append(bytes.Clone(good[:2]), 0, 4), good[4:]...),
		} {
			if _, err := k.ParseSignature(bad); err == nil {
				t.Errorf("%s: %s is read", name, what)
			}
		}
	}
	k := signingKey(t, ecc)
	order := k.ECC.Params().N
	for name, n := range map[string]*big.Int{"zero": {}, "order": order, "larger": new(big.Int).Add(order, big.NewInt(1))} {
		for _, b := range [][]byte{ecc.EncodeSignature(n, big.NewInt(1)), ecc.EncodeSignature(big.NewInt(1), n)} {
			if _, err := k.ParseSignature(b); err == nil {
				t.Errorf("%s is read as a number of a signature", name)
			}
		}
	}
	head := []byte{0, 0x18, 0, 0x0b}
	for name, numbers := range map[string][]byte{
		"a leading zero":  {0, 2, 0, 1, 0, 1, 1},
		"no number":       {0, 0, 0, 1, 1},
		"too long":        append(append([]byte{0, 33}, make([]byte, 33)...), 0, 1, 1),
		"full and padded": nil,
	} {
		b := append(bytes.Clone(head), numbers...)
		if name == "full and padded" { // as long as the key, with leading zeros: allowed
			b = append(append(append(b, 0, 32), append(make([]byte, 31), 1)...), 0, 1, 1)
		}
		if _, err := k.ParseSignature(b); (err == nil) != (name == "full and padded") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBareRSA: a bare key signs with RSASSA over SHA-256.
func TestBareRSA(t *testing.T) {
	ak := evidencetest.RSAKey(t, 2048, tpm2.TPMAlgRSASSA)
	k, err := tpmwire.BareRSA(&ak.RSA.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	full := ak.Sign(t, []byte("m"))
	if wrapped := k.Wrap(full[6:]); !bytes.Equal(wrapped, full) {
		t.Errorf("wrapped %x, want %x", wrapped[:8], full[:8])
	}
	weak := ak.RSA.PublicKey
	weak.E = 3
	if _, err := tpmwire.BareRSA(&weak); err == nil {
		t.Error("an exponent of 3 is accepted")
	}
}

// TestSigningKey: a key with another algorithm or a bad number signs no quote.
func TestSigningKey(t *testing.T) {
	for name, change := range map[string]func(p *tpm2.TPMTPublic){
		"name by SHA-1": func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 },
		"off the curve": func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(p.Type, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: []byte{1}}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{2}}})
		},
		"long coordinate": func(p *tpm2.TPMTPublic) {
			p.Unique = tpm2.NewTPMUPublicID(p.Type, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: make([]byte, 33)}, Y: tpm2.TPM2BECCParameter{Buffer: []byte{2}}})
		},
		"scheme": func(p *tpm2.TPMTPublic) {
			p.Parameters = parameters(tpm2.TPMAlgECDH, tpm2.TPMAlgSHA256, tpm2.TPMECCNistP256)
		},
		"SHA-1": func(p *tpm2.TPMTPublic) {
			p.Parameters = parameters(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA1, tpm2.TPMECCNistP256)
		},
		"curve": func(p *tpm2.TPMTPublic) {
			p.Parameters = parameters(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256, tpm2.TPMECCNistP521)
		},
	} {
		ak := evidencetest.ECCKey('k')
		change(&ak.Template)
		public, err := tpmwire.ParsePublic(ak.Public())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if k, err := tpmwire.SigningKey(public, ak.Public()); err == nil {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

func parameters(scheme, hash tpm2.TPMAlgID, curve tpm2.TPMECCCurve) tpm2.TPMUPublicParms {
	details := tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})
	if scheme == tpm2.TPMAlgECDH {
		details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSKeySchemeECDH{HashAlg: hash})
	}
	return tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
		Scheme: tpm2.TPMTECCScheme{Scheme: scheme, Details: details}, CurveID: curve, KDF: tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull}})
}
