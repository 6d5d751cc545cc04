// SPDX-License-Identifier: Apache-2.0

package tpmwire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// MaxManifest is the largest manifest of a vTPM that is read, in bytes: two public areas
// with their sizes, after version and count.
const MaxManifest = 8 + 2*(2+MaxPublic)

// manifestKeys is the number of keys in a manifest of version 1.
const manifestKeys = 2

// A Manifest is what an SVSM says about its vTPM, in the manifest of the vTPM service (Secure
// VM Service Module for SEV-SNP Guests, AMD 58019, section "vTPM Protocol"). The SVSM asks the
// firmware for a report over SHA-512 of a nonce, of 64 bytes, and the manifest.
//
//	version 0  TPMT_PUBLIC of the endorsement key, and nothing else
//	version 1  version 4 bytes (1), count 4 bytes (2), big-endian;
//	           endorsement key and attestation key, each a TPM2B_PUBLIC
//
// The versions differ in their first four bytes: no TPMT_PUBLIC begins with 00000001.
type Manifest struct {
	Version uint32
	EK      []byte // TPMT_PUBLIC
	AK      []byte // TPMT_PUBLIC; nil in version 0
}

// Bytes returns the encoding.
func (m *Manifest) Bytes() []byte {
	if m.Version == 0 {
		return bytes.Clone(m.EK)
	}
	b := binary.BigEndian.AppendUint32(nil, m.Version)
	b = binary.BigEndian.AppendUint32(b, manifestKeys)
	for _, key := range [][]byte{m.EK, m.AK} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(key))), key...)
	}
	return b
}

// ParseManifest reads exactly one manifest of the vTPM service. There is one form for each
// version, and nothing may follow. The endorsement key must be a restricted key that only
// decrypts, the attestation key a restricted key that only signs. See also [ManifestWithin].
//
// The manifest of all services is [ErrServices], although one of the vTPM can be in it. Its end
// is a manifest itself if the vTPM's is the last, so that [ManifestWithin] could not tell it from
// the beginning of a table that the guest passed as a nonce. And it says nothing more.
func ParseManifest(b []byte) (*Manifest, error) {
	if bytes.HasPrefix(b, []byte(servicesGUID)) {
		return nil, ErrServices
	}
	if len(b) < 8 || len(b) > MaxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, want 8 to %d", len(b), MaxManifest)
	}
	m := &Manifest{EK: b}
	if v := binary.BigEndian.Uint32(b); v <= 0xffff { // a TPMT_PUBLIC begins with a type above zero
		if err := m.parseKeys(v, b); err != nil {
			return nil, err
		}
	}
	if err := checkKey(m.EK, endorsement); err != nil {
		return nil, fmt.Errorf("endorsement key of the manifest: %w", err)
	}
	if m.Version == 1 {
		if err := checkKey(m.AK, attestation); err != nil {
			return nil, fmt.Errorf("attestation key of the manifest: %w", err)
		}
	}
	return m, nil
}

// ManifestWithin returns an error if a proper suffix of a manifest is a manifest itself. What
// the firmware signs is a hash of nonce and manifest without a border between them. If an SVSM
// took a nonce of any size, root of the guest could pass 64 bytes and the beginning of a manifest
// of its own as the nonce, and the genuine manifest would be the rest: of a modulus, for example.
func ManifestWithin(b []byte) error {
	for i := 1; i < len(b); i++ {
		if what := manifestLike(b[i:]); what != "" {
			return fmt.Errorf("the last %d bytes of the manifest are %s: what comes before them may have been part of the nonce", len(b)-i, what)
		}
	}
	return nil
}

// parseKeys reads the keys of a manifest that begins with a version.
func (m *Manifest) parseKeys(version uint32, b []byte) error {
	if version != 1 {
		return fmt.Errorf("manifest of version %d, want 1, or version 0, which begins with a public area", version)
	}
	r := newReader(b[4:])
	if count := r.U32("count"); r.Err == nil && count != manifestKeys {
		return fmt.Errorf("manifest with %d keys, want %d: endorsement key and attestation key", count, manifestKeys)
	}
	m.Version, m.EK, m.AK = version, r.sized("endorsement key"), r.sized("attestation key")
	if r.Err != nil {
		return fmt.Errorf("manifest: %w", r.Err)
	}
	if len(r.Rest) != 0 {
		return fmt.Errorf("%d bytes follow the keys of the manifest", len(r.Rest))
	}
	return nil
}

// A purpose is what a key may be used for.
type purpose struct {
	decrypt, sign bool
	name          string
}

var (
	endorsement = purpose{decrypt: true, name: "decrypts"}
	attestation = purpose{sign: true, name: "signs"}
)

// checkKey checks that a TPMT_PUBLIC is of a restricted key that a TPM made itself, that stays
// there, and that serves this purpose alone.
func checkKey(b []byte, p purpose) error {
	public, err := ParsePublic(b)
	if err != nil {
		return err
	}
	a := public.ObjectAttributes
	switch {
	case public.Type != tpm2.TPMAlgRSA && public.Type != tpm2.TPMAlgECC:
		return fmt.Errorf("type 0x%04x is neither RSA nor ECC", uint16(public.Type))
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin:
		return errors.New("its attributes do not say that a TPM made it and that it cannot leave")
	case !a.Restricted || a.Decrypt != p.decrypt || a.SignEncrypt != p.sign:
		return fmt.Errorf("its attributes are not those of a restricted key that only %s", p.name)
	}
	return nil
}

// manifestLike returns a name for b if an SVSM may have made the whole of it as a manifest, of
// any service that contains keys; empty if not. It accepts more than [ParseManifest] does.
func manifestLike(b []byte) string {
	if len(b) < 8 {
		return ""
	}
	switch head := binary.BigEndian.Uint32(b); {
	case head == 1:
		r := newReader(b[4:])
		count := r.U32("count")
		for ; count > 0 && r.Err == nil; count-- {
			r.sized("key")
		}
		if r.Err == nil && len(r.Rest) == 0 {
			return "a manifest of version 1"
		}
	case head>>16 == uint32(tpm2.TPMAlgRSA) || head>>16 == uint32(tpm2.TPMAlgECC):
		const decrypt, sign = 1 << 17, 1 << 18 // of TPMA_OBJECT
		if a := binary.BigEndian.Uint32(b[4:]); a&decrypt == 0 || a&sign != 0 {
			return ""
		}
		if _, err := ParsePublic(b); err == nil {
			return "a manifest of version 0"
		}
	case bytes.HasPrefix(b, []byte(servicesGUID)) && len(b) >= len(servicesGUID)+4:
		if int64(binary.LittleEndian.Uint32(b[len(servicesGUID):])) == int64(len(b)) {
			return "a manifest of all services"
		}
	}
	return ""
}
