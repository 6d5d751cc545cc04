// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"
	"slices"

	"github.com/cvm-agentd/agentd/verify/snp"
)

const secretSize = 32

// statusInvalid is INVALID_PARAM (ABI, table "Status Codes").
const statusInvalid = 0x16

// firmware is a security processor with one guest launched on it. It does not
// change after New and needs no lock.
type firmware struct {
	o      Options
	secret []byte // of the chip
	launch []byte // of this launch: root of keys that die with it, and the report id
	chipID [64]byte
	key    *ecdsa.PrivateKey // VCEK or VLEK
	table  []byte            // certificate table
}

// expand returns n bytes that depend on all of its arguments: HKDF-SHA-256 (RFC 5869).
func expand(secret []byte, info string, n int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, info, n)
	if err != nil {
		panic("soft: HKDF over a fixed size: " + err.Error()) // n is a constant of this package
	}
	return b
}

// signingKey returns the VCEK of the chip at a TCB, the same at every start, or the
// VLEK of a cloud. 56 bytes make the bias of the reduction negligible (FIPS 186-5,
// appendix A.2.1).
func signingKey(secret []byte, s snp.Signer, t snp.TCB) (*ecdsa.PrivateKey, error) {
	wide := new(big.Int).SetBytes(expand(secret, fmt.Sprintf("signing key %v %v", s, t), 56))
	one := big.NewInt(1)
	n := new(big.Int).Sub(elliptic.P384().Params().N, one)
	return ecdsa.ParseRawPrivateKey(elliptic.P384(), wide.Mod(wide, n).Add(wide, one).FillBytes(make([]byte, 48)))
}

// report answers MSG_REPORT_REQ.
func (f *firmware) report(data [64]byte, vmpl uint32) (status uint32, report []byte) {
	if vmpl < f.o.VMPL || vmpl > 3 {
		return statusInvalid, nil
	}
	o, b := f.o, make([]byte, snp.ReportSize)
	le := binary.LittleEndian
	le.PutUint32(b[0x00:], o.Version)
	le.PutUint32(b[0x04:], o.GuestSVN)
	le.PutUint64(b[0x08:], uint64(o.Policy))
	copy(b[0x10:], o.FamilyID[:])
	copy(b[0x20:], o.ImageID[:])
	le.PutUint32(b[0x30:], vmpl)
	le.PutUint32(b[0x34:], 1) // ECDSA P-384 with SHA-384
	le.PutUint64(b[0x38:], uint64(o.CurrentTCB))
	le.PutUint64(b[0x40:], uint64(o.PlatformInfo))
	info := uint32(o.Signer) << 2
	if o.AuthorKeyDigest != [48]byte{} {
		info |= 1
	}
	le.PutUint32(b[0x48:], info)
	copy(b[0x50:], data[:])
	copy(b[0x90:], o.Measurement[:])
	copy(b[0xC0:], o.HostData[:])
	copy(b[0xE0:], o.IDKeyDigest[:])
	copy(b[0x110:], o.AuthorKeyDigest[:])
	copy(b[0x140:], expand(f.launch, "report id", 32))
	copy(b[0x160:0x180], slices.Repeat([]byte{0xFF}, 32)) // no migration agent
	le.PutUint64(b[0x180:], uint64(o.TCB))
	if o.Version >= 3 {
		b[0x188], b[0x189], b[0x18A] = o.CPU.Family, o.CPU.Model, o.CPU.Stepping
	}
	if !o.MaskChipID && o.Signer == snp.SignerVCEK {
		copy(b[0x1A0:], f.chipID[:])
	}
	le.PutUint64(b[0x1E0:], uint64(o.CommittedTCB))
	copy(b[0x1E8:], []byte{o.Firmware.Build, o.Firmware.Minor, o.Firmware.Major})
	copy(b[0x1EC:], []byte{o.Firmware.Build, o.Firmware.Minor, o.Firmware.Major})
	le.PutUint64(b[0x1F0:], uint64(o.LaunchTCB))
	if o.Version >= 5 {
		le.PutUint64(b[0x1F8:], o.Mitigations)
		le.PutUint64(b[0x200:], o.Mitigations)
	}
	if o.Alter != nil {
		o.Alter(b[:0x2A0])
	}
	return f.sign(b), b
}

// sign writes the signature of the endorsement key.
func (f *firmware) sign(b []byte) (status uint32) {
	if Sign(b, f.key) != nil {
		return statusInvalid
	}
	return 0
}

// Sign signs a report of 1184 bytes: it writes r and s, 72 bytes each, little-endian, at 0x2A0.
func Sign(b []byte, key *ecdsa.PrivateKey) error {
	digest := sha512.Sum384(b[:0x2A0])
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	if err != nil {
		return err
	}
	for i, n := range []*big.Int{r, s} {
		le := n.FillBytes(make([]byte, 72))
		slices.Reverse(le)
		copy(b[0x2A0+72*i:], le)
	}
	return nil
}

// Fields of MSG_KEY_REQ that a derived key can depend on (GUEST_FIELD_SELECT).
const (
	mixPolicy = 1 << iota
	mixImageID
	mixFamilyID
	mixMeasurement
	mixGuestSVN
	mixTCB
)

// derive answers MSG_KEY_REQ of 32 bytes: a key that depends on the root, on the
// VMPL, and on exactly the fields that are selected.
func (f *firmware) derive(request []byte) (status uint32, key []byte) {
	le := binary.LittleEndian
	root, fields := le.Uint32(request[0:]), le.Uint64(request[8:])
	vmpl, svn, tcb := le.Uint32(request[16:]), le.Uint32(request[20:]), snp.TCB(le.Uint64(request[24:]))
	if root>>3 != 0 || le.Uint32(request[4:]) != 0 || fields>>6 != 0 ||
		vmpl < f.o.VMPL || vmpl > 3 || svn > f.o.GuestSVN || !atMost(tcb, f.o.CommittedTCB) {
		return statusInvalid, nil
	}
	secret, ok := f.root(root)
	if !ok {
		return statusInvalid, nil
	}
	info := fmt.Sprintf("derived key fields %d vmpl %d", fields, vmpl)
	for _, m := range []struct {
		bit   uint64
		value any
	}{
		{mixPolicy, uint64(f.o.Policy)}, {mixImageID, f.o.ImageID}, {mixFamilyID, f.o.FamilyID},
		{mixMeasurement, f.o.Measurement}, {mixGuestSVN, svn}, {mixTCB, uint64(tcb)},
	} {
		if fields&m.bit != 0 {
			info += fmt.Sprintf(" %d=%x", m.bit, m.value)
		}
	}
	return 0, expand(secret, info, 32)
}

// root returns the secret that ROOT_KEY_SELECT (bit 0) and KEY_SEL (bits 2:1) choose.
func (f *firmware) root(selected uint32) (secret []byte, ok bool) {
	if selected&1 != 0 {
		return expand(f.launch, "VMRK", 32), true
	}
	vcek, vlek := expand(f.secret, "root VCEK", 32), expand([]byte(f.o.CSPID), "root VLEK", 32)
	installed := f.o.Signer == snp.SignerVLEK
	switch selected >> 1 {
	case 0: // the VLEK if there is one: the trap that callers must avoid
		if installed {
			return vlek, true
		}
		return vcek, true
	case 1:
		return vcek, true
	case 2:
		return vlek, installed
	}
	return nil, false
}

func atMost(t, limit snp.TCB) bool {
	a, b := t.Bytes(), limit.Bytes()
	for i := range a {
		if a[i] > b[i] {
			return false
		}
	}
	return true
}
