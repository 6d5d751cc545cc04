// SPDX-License-Identifier: Apache-2.0

package keys

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/cvm-agentd/agentd/internal/tpmwire"
)

// nameSize is the size of a Name under SHA-256: TPM_ALG_ID and digest.
const nameSize = 2 + sha256.Size

// Name is the Name of a TPM object under SHA-256: TPM_ALG_SHA256 in two bytes,
// big-endian, then SHA-256 of its TPMT_PUBLIC; 34 bytes (TPM 2.0 Part 1, section
// 16). In text it is lower-case hexadecimal, as tpm2-tools print it.
type Name []byte

// String returns n in hexadecimal.
func (n Name) String() string { return hex.EncodeToString(n) }

// Equal reports whether both are the same name. Two empty names are not.
func (n Name) Equal(o Name) bool { return len(n) > 0 && bytes.Equal(n, o) }

// MarshalText encodes n in hexadecimal.
func (n Name) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, n), nil }

// UnmarshalText decodes 68 lower-case hexadecimal digits, "000b" first.
func (n *Name) UnmarshalText(text []byte) error {
	b := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(b, text); err != nil || !bytes.Equal(hex.AppendEncode(nil, b), text) {
		return errors.New("a TPM name is written in lower-case hexadecimal")
	}
	if len(b) != nameSize || b[0] != 0x00 || b[1] != byte(tpm2.TPMAlgSHA256) {
		return fmt.Errorf("TPM name of %d bytes, want %d that begin with 000b (SHA-256)", len(b), nameSize)
	}
	*n = b
	return nil
}

// Public is a public area that was parsed, with the bytes that it was parsed from.
type Public struct {
	bytes []byte
	area  tpm2.TPMTPublic
	name  Name
}

// ParsePublic parses a TPMT_PUBLIC (TPM 2.0 Part 2, section 12.2.4) strictly: at most
// 1,024 bytes, nothing after it, and exactly the bytes that the parsed
// structure encodes to, so that each name has one meaning. The name algorithm must be
// SHA-256.
func ParsePublic(b []byte) (*Public, error) {
	area, err := tpmwire.ParsePublic(b)
	if err != nil {
		return nil, fmt.Errorf("parse TPMT_PUBLIC: %w", err)
	}
	if area.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, fmt.Errorf("parse TPMT_PUBLIC: name algorithm 0x%04x, want SHA-256 (0x000b)", uint16(area.NameAlg))
	}
	return &Public{bytes: bytes.Clone(b), area: *area, name: nameOf(b)}, nil
}

// nameOf returns the name of the object with this TPMT_PUBLIC, under SHA-256.
func nameOf(public []byte) Name {
	sum := sha256.Sum256(public)
	return append(Name{0x00, byte(tpm2.TPMAlgSHA256)}, sum[:]...)
}

// Bytes returns the TPMT_PUBLIC as it was parsed.
func (p *Public) Bytes() []byte { return bytes.Clone(p.bytes) }

// Name returns the name, which is computed from the bytes.
func (p *Public) Name() Name { return bytes.Clone(p.name) }

// Area returns the parsed structure.
func (p *Public) Area() tpm2.TPMTPublic { return p.area }

// Key returns the public key: an *ecdsa.PublicKey that is on its curve, or an
// *rsa.PublicKey.
func (p *Public) Key() (crypto.PublicKey, error) {
	k, err := tpm2.Pub(p.area)
	if err != nil {
		return nil, fmt.Errorf("public key of TPM object %s: %w", p.name, err)
	}
	if e, ok := k.(*ecdsa.PublicKey); ok {
		if _, err := e.ECDH(); err != nil { // go-tpm accepts any two numbers as a point
			return nil, fmt.Errorf("public key of TPM object %s: point is not on the curve: %w", p.name, err)
		}
	}
	return k, nil
}

// CheckAttestation reports why p cannot be an attestation key. A key that is not
// restricted signs anything, including a forged quote. A key that also decrypts, or can
// leave the TPM, proves nothing about the TPM.
func (p *Public) CheckAttestation() error {
	a := p.area.ObjectAttributes
	if err := p.fault("attestation key", []fault{
		{!a.FixedTPM, "not fixedTPM: its private key can be moved elsewhere"},
		{!a.FixedParent, "not fixedParent: its private key can be moved elsewhere"},
		{!a.SensitiveDataOrigin, "not sensitiveDataOrigin: its private key was made outside the TPM"},
		{a.EncryptedDuplication, "encryptedDuplication is set on a key that must not be duplicated"},
		{!a.Restricted, "not restricted: it would sign forged quotes"},
		{!a.SignEncrypt || a.Decrypt, "want a key that signs and does not decrypt"},
		{a.X509Sign, "x509sign is set: it signs certificates, which are not quotes"},
	}); err != nil {
		return err
	}
	if _, err := tpmwire.SigningKey(&p.area, p.bytes); err != nil {
		return fmt.Errorf("attestation key %s: %w", p.name, err)
	}
	return nil
}

// A fault is an attribute that a key has and must not have, or lacks, if found.
type fault struct {
	found bool
	what  string
}

// fault returns the first of the faults that was found, as an error about the key.
func (p *Public) fault(key string, faults []fault) error {
	for _, f := range faults {
		if f.found {
			return fmt.Errorf("%s %s: %s", key, p.name, f.what)
		}
	}
	return nil
}
