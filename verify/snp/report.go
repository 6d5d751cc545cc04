// SPDX-License-Identifier: Apache-2.0

// Package snp reads what an AMD SEV-SNP platform signs and what vouches for it:
// attestation reports of versions 2 to 5, VCEK and VLEK certificates, their chain
// to a root, and the certificate table that a host passes to its guest.
//
// Nothing here asks a device or a network, and time is always the caller's. Each
// question is a function of its own, so that an appraisal can name the one that
// failed:
//
//	r, err := snp.ParseReport(b)                         // shape
//	leaf, err := snp.ParseEndorsementKey(der)            // or snp.SortCertificates(ders)
//	err = r.VerifySignature(leaf)                        // the bytes are the firmware's
//	chain, err := snp.VerifyChain(leaf, others, roots)   // the key is AMD's
//	err = chain.CheckValidity(at)
//	err = snp.CheckSigner(r, leaf)                       // VCEK or VLEK, as the report says
//	err = snp.CheckProduct(r, chain)                     // processor, key and chain agree
//	err = snp.CheckChipID(r, leaf)                       // the key is this chip's
//	err = snp.CheckTCB(r, leaf)                          // the key is this firmware's
//
// A refusal is an [*Error] with a [Code] that does not change between releases.
//
// Sources: "SEV Secure Nested Paging Firmware ABI Specification" (AMD publication
// 56860, cited as "ABI"), "Versioned Chip Endorsement Key (VCEK) Certificate and
// KDS Interface Specification" (57230, "KDS") and "SEV-ES Guest-Hypervisor
// Communication Block Standardization" (56421, "GHCB").
package snp

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	mathbits "math/bits"
	"strconv"
	"strings"

	"github.com/cvm-agentd/agentd/internal/text"
)

// ReportSize is the size of an attestation report in bytes (ABI, table
// "ATTESTATION_REPORT Structure").
const ReportSize = 0x4A0 // 1184

// Versions of reports that [ParseReport] reads.
const (
	MinReportVersion = 2
	MaxReportVersion = 5
)

// Offsets within a report that are used outside the parser.
const (
	offsetReportData = 0x50
	offsetVMPL       = 0x30
	offsetSignature  = 0x2A0 // end of the signed bytes
)

// Firmware is a version of the security processor's firmware.
type Firmware struct {
	Major, Minor, Build uint8
}

// Report is an attestation report, parsed. It is unverified until
// [Report.VerifySignature] and the chain of the key say otherwise.
type Report struct {
	Version            uint32 // 2 to 5
	GuestSVN           uint32
	Policy             Policy
	FamilyID           [16]byte // chosen by the guest's owner in the ID block
	ImageID            [16]byte
	VMPL               uint32 // of the requester; 0xFFFFFFFF if the host requested the report
	SignatureAlgorithm uint32 // 1: ECDSA P-384 with SHA-384
	CurrentTCB         TCB
	PlatformInfo       PlatformInfo
	KeyInfo            KeyInfo
	ReportData         [64]byte // chosen by the requester
	Measurement        [48]byte // SHA-384 of what was launched
	HostData           [32]byte // chosen by the host at launch
	IDKeyDigest        [48]byte // SHA-384 of the key that signed the ID block; zero without one
	AuthorKeyDigest    [48]byte // SHA-384 of the key that certified it; zero without one
	ReportID           [32]byte // of this guest, until it ends
	ReportIDMA         [32]byte // of its migration agent; all 0xFF without one
	ReportedTCB        TCB      // the one that the signing key is derived for
	ChipID             [64]byte // zero if masked or if a VLEK signed; on Turin only the first 8 bytes
	CommittedTCB       TCB      // the firmware can not be rolled back below it
	Current            Firmware
	Committed          Firmware
	LaunchTCB          TCB // at launch or import of the guest

	// CPU is the processor, nil before version 3. Then only the certificate tells.
	CPU *CPU
	// LaunchMitigations and CurrentMitigations are bit vectors of verified
	// mitigations; nil in versions that do not have them. Nil is never a pass.
	LaunchMitigations  *uint64
	CurrentMitigations *uint64

	raw [ReportSize]byte
}

// Bytes returns a copy of the report as the firmware produced it.
func (r *Report) Bytes() []byte { return bytes.Clone(r.raw[:]) }

// Product returns the line of processors that the report names, [ProductUnknown]
// before version 3 and for a processor that is not known.
func (r *Report) Product() Product {
	if r.CPU == nil {
		return ProductUnknown
	}
	return r.CPU.Product()
}

// Provisional reports whether the host can still roll the firmware back: what runs is
// newer than what is committed.
func (r *Report) Provisional() bool {
	return r.CurrentTCB != r.CommittedTCB || r.Current != r.Committed
}

// ParseReport parses a report of exactly [ReportSize] bytes. Reserved bytes must be
// zero, since the version fixes them; bits of no known meaning within Policy,
// PlatformInfo and KeyInfo are kept, for a policy to decide.
func ParseReport(b []byte) (*Report, error) {
	if len(b) != ReportSize {
		e := refuse(CodeReportLength, "attestation report").found("%d bytes", len(b)).want("%d", ReportSize)
		if what := Recognise(b); what != "" {
			e.found("%d bytes: %s", len(b), what)
		}
		return nil, e
	}
	r := &Report{raw: [ReportSize]byte(b)}
	b = r.raw[:]
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(b[at:]) }

	r.Version = u32(0x00)
	if r.Version < MinReportVersion || r.Version > MaxReportVersion {
		e := refuse(CodeReportVersion, "attestation report").found("version %d", r.Version).want("%d to %d", MinReportVersion, MaxReportVersion)
		if what := Recognise(b); what != "" && !plausibleReport(b) {
			e.found("%s", what)
		}
		return nil, e
	}
	r.GuestSVN = u32(0x04)
	r.Policy = Policy(u64(0x08))
	r.FamilyID = [16]byte(b[0x10:])
	r.ImageID = [16]byte(b[0x20:])
	r.VMPL = u32(offsetVMPL)
	r.SignatureAlgorithm = u32(0x34)
	r.CurrentTCB = TCB(u64(0x38))
	r.PlatformInfo = PlatformInfo(u64(0x40))
	r.KeyInfo = KeyInfo(u32(0x48))
	r.ReportData = [64]byte(b[offsetReportData:])
	r.Measurement = [48]byte(b[0x90:])
	r.HostData = [32]byte(b[0xC0:])
	r.IDKeyDigest = [48]byte(b[0xE0:])
	r.AuthorKeyDigest = [48]byte(b[0x110:])
	r.ReportID = [32]byte(b[0x140:])
	r.ReportIDMA = [32]byte(b[0x160:])
	r.ReportedTCB = TCB(u64(0x180))
	r.ChipID = [64]byte(b[0x1A0:])
	r.CommittedTCB = TCB(u64(0x1E0))
	r.Current = Firmware{Build: b[0x1E8], Minor: b[0x1E9], Major: b[0x1EA]}
	r.Committed = Firmware{Build: b[0x1EC], Minor: b[0x1ED], Major: b[0x1EE]}
	r.LaunchTCB = TCB(u64(0x1F0))
	if r.Version >= 3 {
		r.CPU = &CPU{Family: b[0x188], Model: b[0x189], Stepping: b[0x18A]}
	}
	launch, current := u64(0x1F8), u64(0x200)
	// Some firmware fills the vectors in version 4 already. There a zero may as
	// well mean that it does not know them: unknown.
	if r.Version >= 5 || r.Version == 4 && (launch != 0 || current != 0) {
		r.LaunchMitigations, r.CurrentMitigations = &launch, &current
	}
	if err := checkReserved(r.Version, b); err != nil {
		return nil, err
	}
	return r, nil
}

func checkReserved(version uint32, b []byte) error {
	processor, vectors := 0x188, 0x1F8
	if version >= 3 {
		processor = 0x18B
	}
	if version >= 4 {
		vectors = 0x208
	}
	for _, reserved := range [][2]int{{0x4C, 0x50}, {processor, 0x1A0}, {0x1EB, 0x1EC}, {0x1EF, 0x1F0}, {vectors, offsetSignature}} {
		for i := reserved[0]; i < reserved[1]; i++ {
			if b[i] != 0 {
				return refuse(CodeReportReserved, "attestation report of version %d, reserved byte at 0x%x", version, i).found("0x%02x", b[i]).want("zero")
			}
		}
	}
	return nil
}

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

// String returns the bits in hexadecimal, as "0x30000".
func (p Policy) String() string { return hexBits(uint64(p)) }

// MarshalText returns the text of [Policy.String]. A number of 64 bits would be another
// number for a reader that keeps JSON numbers as doubles.
func (p Policy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads the text of [Policy.String], which is its only spelling.
func (p *Policy) UnmarshalText(b []byte) error { return parseBits((*uint64)(p), b) }

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

// String returns the bits in hexadecimal, as "0x25".
func (i PlatformInfo) String() string { return hexBits(uint64(i)) }

// MarshalText returns the text of [PlatformInfo.String], for the reason of
// [Policy.MarshalText].
func (i PlatformInfo) MarshalText() ([]byte, error) { return []byte(i.String()), nil }

// UnmarshalText reads the text of [PlatformInfo.String], which is its only spelling.
func (i *PlatformInfo) UnmarshalText(b []byte) error { return parseBits((*uint64)(i), b) }

func hexBits(n uint64) string { return fmt.Sprintf("0x%x", n) }

// parseBits reads what hexBits returns, and nothing else.
func parseBits(to *uint64, b []byte) error {
	digits, _ := strings.CutPrefix(string(b), "0x")
	n, err := strconv.ParseUint(digits, 16, 64)
	if err != nil || hexBits(n) != string(b) {
		return fmt.Errorf("%s is not a bit field in hexadecimal, such as 0x30000", text.Excerpt(string(b)))
	}
	*to = n
	return nil
}

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
