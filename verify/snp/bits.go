// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"cmp"
	"fmt"
	mathbits "math/bits"
)

// Policy is the guest policy that the hypervisor set at launch and the firmware
// enforces (ABI, table "Guest Policy Structure"). It is outside MEASUREMENT:
// a list of allowed measurements alone says nothing about debugging.
type Policy uint64

// Bits of a [Policy].
const (
	PolicySMT              Policy = 1 << 16 // simultaneous multithreading allowed
	PolicyReservedOne      Policy = 1 << 17 // must be one
	PolicyMigrationAgent   Policy = 1 << 18 // a migration agent may be associated: it can move the guest's memory
	PolicyDebug            Policy = 1 << 19 // the host may read the guest's memory
	PolicySingleSocket     Policy = 1 << 20 // only on one socket
	PolicyCXL              Policy = 1 << 21 // CXL devices and memory allowed
	PolicyAES256XTS        Policy = 1 << 22 // AES-256-XTS memory encryption demanded
	PolicyRAPLDisabled     Policy = 1 << 23 // running average power limit must be off
	PolicyCiphertextHiding Policy = 1 << 24 // ciphertext hiding for DRAM demanded
	PolicyPageSwapDisabled Policy = 1 << 25 // no guest page move, swap out and swap in
)

// ABIMinor returns the minor part of the least firmware ABI version that may run the guest.
func (p Policy) ABIMinor() uint8 { return uint8(p) }

// ABIMajor returns the major part of that version.
func (p Policy) ABIMajor() uint8 { return uint8(p >> 8) }

// Has reports whether all bits of mask are set.
func (p Policy) Has(mask Policy) bool { return p&mask == mask }

// Reserved returns the set bits that have no meaning in the specification that this
// package knows, 26 to 63. A verifier refuses each unless its policy allows it.
func (p Policy) Reserved() Policy { return p &^ (1<<26 - 1) }

// Wellformed checks that no reserved bit is set, and that bit 17, which must be one, is.
func (p Policy) Wellformed() error {
	if !p.Has(PolicyReservedOne) {
		return fmt.Errorf("guest policy %v: bit 17 is 0, must be 1", p)
	}
	if r := p.Reserved(); r != 0 {
		return fmt.Errorf("guest policy %v: reserved bit %d is set", p, mathbits.TrailingZeros64(uint64(r)))
	}
	return nil
}

func (p Policy) String() string { return fmt.Sprintf("0x%x", uint64(p)) }

// PlatformInfo tells how the platform runs (ABI, table "PLATFORM_INFO Field"). A
// clear bit of a meaning that the firmware is too old to know looks the same as
// "no": a demand for a bit is met only by a set one.
type PlatformInfo uint64

// Bits of [PlatformInfo].
const (
	PlatformSMT              PlatformInfo = 1 << 0 // simultaneous multithreading is on
	PlatformTSME             PlatformInfo = 1 << 1 // transparent memory encryption is on
	PlatformECC              PlatformInfo = 1 << 2 // memory is error correcting
	PlatformRAPLDisabled     PlatformInfo = 1 << 3 // running average power limit is off
	PlatformCiphertextHiding PlatformInfo = 1 << 4 // ciphertext hiding for DRAM is on
	PlatformAliasCheck       PlatformInfo = 1 << 5 // no aliasing addresses since reset: the mitigation of BadRAM
	PlatformTIO              PlatformInfo = 1 << 7 // trusted I/O is on
	platformKnown                         = PlatformSMT | PlatformTSME | PlatformECC | PlatformRAPLDisabled |
		PlatformCiphertextHiding | PlatformAliasCheck | PlatformTIO
)

// Has reports whether all bits of mask are set.
func (i PlatformInfo) Has(mask PlatformInfo) bool { return i&mask == mask }

// Reserved returns the set bits of no known meaning: 6, and 8 to 63. Turin sets some.
func (i PlatformInfo) Reserved() PlatformInfo { return i &^ platformKnown }

func (i PlatformInfo) String() string { return fmt.Sprintf("0x%x", uint64(i)) }

// Signer is the kind of key that signed a report (ABI, field SIGNING_KEY).
type Signer uint8

// The values of [Signer]; 2 to 6 are reserved.
const (
	SignerVCEK Signer = 0 // versioned chip endorsement key: of one chip
	SignerVLEK Signer = 1 // versioned loaded endorsement key: of one cloud
	SignerNone Signer = 7 // not signed
)

func (s Signer) String() string {
	names := map[Signer]string{SignerVCEK: "VCEK", SignerVLEK: "VLEK", SignerNone: "none"}
	return cmp.Or(names[s], fmt.Sprintf("reserved signer %d", uint8(s)))
}

// KeyInfo is the 32-bit word at 0x48 of a report.
type KeyInfo uint32

// AuthorKey reports whether AUTHOR_KEY_DIGEST names the author of the ID block.
func (k KeyInfo) AuthorKey() bool { return k&1 != 0 }

// MaskChipKey reports whether the host took the chip's own keys out of use.
func (k KeyInfo) MaskChipKey() bool { return k&2 != 0 }

// Signer returns the kind of key that signed.
func (k KeyInfo) Signer() Signer { return Signer(k >> 2 & 7) }

// Reserved returns the set bits of no known meaning, 5 to 31.
func (k KeyInfo) Reserved() KeyInfo { return k &^ 0x1F }
