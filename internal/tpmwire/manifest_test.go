// SPDX-License-Identifier: Apache-2.0

package tpmwire_test

import (
	"bytes"
	"crypto/rsa"
	"encoding/binary"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/evidencetest"
	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// rsaEK is an endorsement key of template L-1, as the SVSMs that we know make it.
func rsaEK() []byte {
	area := tpm2.RSAEKTemplate
	area.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{0xc1}, 256)})
	return tpm2.Marshal(area)
}

// rsaAK is an attestation key of 4,096 bits whose modulus ends like this.
func rsaAK(tail []byte) []byte {
	modulus := append(bytes.Repeat([]byte{0xc1}, 512-len(tail)), tail...)
	return evidencetest.RSAKeyOf(&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537}}, tpm2.TPMAlgRSAPSS).Public()
}

func TestManifest(t *testing.T) {
	ak := evidencetest.ECCKey('k').Public()
	for name, ek := range map[string][]byte{"P-256": evidencetest.EK('e'), "RSA": rsaEK()} {
		for keys, want := range map[string]tpmwire.Manifest{
			"version 0":           {EK: ek},
			"version 1":           {Version: 1, EK: ek, AK: ak},
			"version 1, RSA 4096": {Version: 1, EK: ek, AK: rsaAK(nil)},
		} {
			m, err := tpmwire.ParseManifest(want.Bytes())
			if err := tpmwire.ManifestWithin(want.Bytes()); err != nil {
				t.Errorf("%s, %s: %v", keys, name, err)
			}
			if err != nil || m.Version != want.Version || !bytes.Equal(m.EK, want.EK) || !bytes.Equal(m.AK, want.AK) || (m.AK == nil) != (want.AK == nil) {
				t.Errorf("%s, %s: %+v, %v", keys, name, m, err)
			}
		}
	}
}

// changed returns a TPMT_PUBLIC with these bits of its attributes flipped.
func changed(public []byte, bits uint32) []byte {
	b := bytes.Clone(public)
	binary.BigEndian.PutUint32(b[4:], binary.BigEndian.Uint32(b[4:])^bits)
	return b
}

// TestManifestRefused: each form but the two is refused, and so is whatever an SVSM
// could have appended to a nonce that is longer than ours.
func TestManifestRefused(t *testing.T) {
	const fixedTPM, restricted, decrypt, sign = 1 << 1, 1 << 16, 1 << 17, 1 << 18
	ek, ak := evidencetest.EK('e'), evidencetest.ECCKey('k').Public()
	genuine := evidencetest.EK('g')
	v1 := func(keys ...[]byte) []byte {
		b := binary.BigEndian.AppendUint32([]byte{0, 0, 0, 1}, uint32(len(keys)))
		for _, k := range keys {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(k))), k...)
		}
		return b
	}
	good := v1(ek, ak)
	with := func(at int, value byte) []byte {
		b := bytes.Clone(good)
		b[at] = value
		return b
	}
	// What the guest passes after our 64 bytes, and then what the SVSM appends.
	services := append([]byte("\xbb\x9e\x84\x63\x92\x3d\x70\x46\xa1\xff\x58\xf9\xc9\x4b\x87\xbb"), binary.LittleEndian.AppendUint32(nil, 49)...)
	services = append(services, bytes.Repeat([]byte{1}, 29)...)
	for name, c := range map[string]struct {
		b    []byte
		says string
	}{
		"empty":                         {nil, "want 8 to"},
		"short":                         {good[:7], "want 8 to"},
		"too long":                      {make([]byte, tpmwire.MaxManifest+1), "want 8 to"},
		"version 2":                     {with(3, 2), "version 2"},
		"version 0 in its header":       {with(3, 0), "version 0"},
		"version 1, no keys":            {v1(), "0 keys"},
		"version 1, one key":            {v1(ek), "1 keys"},
		"version 1, a third key":        {v1(ek, ak, ak), "3 keys"},
		"version 1, counted too high":   {with(7, 3), "3 keys"},
		"version 1, counted too low":    {with(7, 1), "1 keys"},
		"version 1, keys swapped":       {v1(ak, ek), "endorsement key"},
		"version 1, two EKs":            {v1(ek, genuine), "only signs"},
		"version 1, a byte after it":    {append(bytes.Clone(good), 0), "follow"},
		"version 1, a byte short":       {good[:len(good)-1], "attestation key"},
		"version 1, empty EK":           {v1(nil, ak), "endorsement key"},
		"version 1, little-endian":      {with(3, 0)[:8], "version 0"},
		"version 0, a byte after it":    {append(bytes.Clone(ek), 0), "follow"},
		"version 0, a byte short":       {ek[:len(ek)-1], "endorsement key"},
		"version 0, an AK":              {ak, "only decrypts"},
		"version 0, two keys":           {append(bytes.Clone(ek), ak...), "follow"},
		"version 0, EK that also signs": {changed(ek, sign), "only decrypts"},
		"version 0, not restricted":     {changed(ek, restricted), "only decrypts"},
		"version 0, may leave":          {changed(ek, fixedTPM), "cannot leave"},
		"version 0, keyed hash":         {append([]byte{0, 8}, ek[2:]...), "endorsement key"},
		"AK that also decrypts":         {v1(ek, changed(ak, decrypt)), "only signs"},
		"AK not restricted":             {v1(ek, changed(ak, restricted)), "only signs"},
		"AK that may leave":             {v1(ek, changed(ak, fixedTPM)), "cannot leave"},
		"ends with version 0":           {v1(ek, rsaAK(genuine)), "manifest of version 0"},
		"ends with version 0, RSA":      {v1(ek, rsaAK(rsaEK())), "manifest of version 0"},
		"ends with version 1":           {v1(ek, rsaAK(v1(genuine, ak))), "manifest of version 1"},
		"ends with version 1, one key":  {v1(ek, rsaAK(v1(ak))), "manifest of version 1"},
		"ends with all services":        {v1(ek, rsaAK(services)), "all services"},
	} {
		m, err := tpmwire.ParseManifest(c.b)
		if err == nil {
			err = tpmwire.ManifestWithin(c.b)
		}
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v, want %q", name, m, err, c.says)
		}
	}
	for i := range good {
		if m, err := tpmwire.ParseManifest(good[:i]); err == nil {
			t.Errorf("read from %d bytes of %d: %+v", i, len(good), m)
		}
	}
}

// TestManifestKeyAttributes: each attribute that says what a key is for, or that a TPM made it and
// keeps it, must be as in the keys of an SVSM, for both keys and both versions.
func TestManifestKeyAttributes(t *testing.T) {
	ek, ak := evidencetest.EK('e'), evidencetest.ECCKey('k').Public()
	for bit, name := range map[int]string{1: "fixedTPM", 4: "fixedParent", 5: "sensitiveDataOrigin", 16: "restricted", 17: "decrypt", 18: "sign"} {
		for _, b := range [][]byte{changed(ek, 1<<bit), evidencetest.Manifest(changed(ek, 1<<bit), ak), evidencetest.Manifest(ek, changed(ak, 1<<bit))} {
			if m, err := tpmwire.ParseManifest(b); err == nil {
				t.Errorf("%s: version %d is read", name, m.Version)
			}
		}
	}
}

func FuzzManifest(f *testing.F) {
	ek, ak := evidencetest.EK('e'), evidencetest.ECCKey('k').Public()
	f.Add(ek)
	f.Add(evidencetest.Manifest(ek, ak))
	f.Add(evidencetest.Manifest(ek, evidencetest.EK('g')))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := tpmwire.ParseManifest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(m.Bytes(), b) {
			t.Errorf("%x is read as %x", b, m.Bytes())
		}
		for i := 1; i < len(b) && tpmwire.ManifestWithin(b) == nil; i++ {
			if _, err := tpmwire.ParseManifest(b[i:]); err == nil {
				t.Errorf("the last %d bytes of %x are a manifest too", len(b)-i, b)
			}
		}
	})
}
