// SPDX-License-Identifier: Apache-2.0

package keys_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/keys"
)

// case 50: no challenge is made for a key that does not meet the rules of attestation keys,
// or to a key that is not an endorsement key.
func TestNewChallengeRefused(t *testing.T) {
	ak := madeAK(t).Bytes()
	ep, _ := madeEK(t, keys.EKECC256)
	ek := ep.Bytes()
	change := func(b []byte, f func(*tpm2.TPMTPublic)) []byte {
		p, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
		if err != nil {
			t.Fatal(err)
		}
		f(p)
		return tpm2.Marshal(*p)
	}
	for name, c := range map[string]struct {
		ek, ak []byte
		want   string
	}{
		"AK not restricted":      {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }), "not restricted"},
		"AK not fixedTPM":        {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }), "not fixedTPM"},
		"AK not fixedParent":     {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false }), "not fixedParent"},
		"AK imported":            {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false }), "not sensitiveDataOrigin"},
		"AK duplicable":          {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.EncryptedDuplication = true }), "encryptedDuplication"},
		"AK decrypts":            {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true }), "does not decrypt"},
		"AK does not sign":       {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false }), "want a key that signs"},
		"AK signs X.509":         {ek, change(ak, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.X509Sign = true }), "x509sign"},
		"AK named under SHA-1":   {ek, change(ak, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }), "name algorithm"},
		"AK signs over SHA-1":    {ek, change(ak, scheme(tpm2.TPMAlgSHA1)), "signs with hash 0x0004"},
		"AK without a scheme":    {ek, change(ak, curve(tpm2.TPMECCNistP256, tpm2.TPMAlgNull)), "want ECDSA"},
		"AK on another curve":    {ek, change(ak, curve(tpm2.TPMECCNistP224, tpm2.TPMAlgECDSA)), "want P-256 or P-384"},
		"AK off the curve":       {ek, change(ak, point), "not on the curve"},
		"AK is RSA-1024":         {ek, tpm2.Marshal(rsaAK(1024)), "its modulus has 1024 bits"},
		"AK is an EK":            {ek, ek, "want a key that signs"},
		"AK is a sealed object":  {ek, []byte{0, 8, 0, 0x0b, 0, 0, 0, 0x52, 0, 0, 0, 0x10, 0, 0}, "not sensitiveDataOrigin"},
		"AK cut":                 {ek, ak[:len(ak)-1], "parse TPMT_PUBLIC"},
		"AK with trailing bytes": {ek, append(ak[:len(ak):len(ak)], 0), "parse TPMT_PUBLIC"},
		"AK large":               {ek, make([]byte, 2000), "2000 bytes"},
		"AK empty":               {ek, nil, "0 bytes"},
		"EK is an AK":            {ak, ak, "not that of an endorsement key"},
		"EK not fixedTPM":        {change(ek, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }), ak, "not that of an endorsement key"},
		"EK without restriction": {change(ek, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }), ak, "not that of an endorsement key"},
		"EK with another policy": {change(ek, func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer[0] ^= 1 }), ak, "not that of an endorsement key"},
		"EK is a storage key":    {tpm2.Marshal(tpm2.ECCSRKTemplate), ak, "not that of an endorsement key"},
		"EK off the curve":       {change(ek, point), ak, "public key"},
		"EK with trailing bytes": {append(ek[:len(ek):len(ek)], 0), ak, "parse TPMT_PUBLIC"},
		"EK empty":               {nil, ak, "0 bytes"},
	} {
		_, _, err := keys.NewChallenge(c.ek, c.ak)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, _, err := keys.NewChallenge(ek, tpm2.Marshal(rsaAK(2048))); err != nil {
		t.Errorf("RSA-2048: %v", err)
	}
}

func curve(c tpm2.TPMECCCurve, scheme tpm2.TPMAlgID) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		d := tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			CurveID:   c,
			Scheme:    tpm2.TPMTECCScheme{Scheme: scheme},
			KDF:       tpm2.TPMTKDFScheme{Scheme: tpm2.TPMAlgNull},
		}
		if scheme == tpm2.TPMAlgECDSA {
			d.Scheme.Details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})
		}
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &d)
	}
}

func scheme(hash tpm2.TPMIAlgHash) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		d, _ := p.Parameters.ECCDetail()
		d.Scheme.Details = tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})
		p.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, d)
	}
}

func point(p *tpm2.TPMTPublic) {
	u, _ := p.Unique.ECC()
	u.X.Buffer[5] ^= 1
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, u)
}

func rsaAK(bits tpm2.TPMKeyBits) tpm2.TPMTPublic {
	n := bytes.Repeat([]byte{0xff}, int(bits)/8)
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Symmetric: tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull},
			Scheme:    tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})},
			KeyBits:   bits,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n}),
	}
}
