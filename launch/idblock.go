// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/binary"
	"fmt"
)

// IDBlockSize is the size of an ID block in bytes.
const IDBlockSize = 0x60

const idBlockVersion = 1

// mandatoryPolicy is bit 17 of a guest policy, which is always one (ABI, section "Guest
// Policy").
const mandatoryPolicy = 1 << 17

// An IDBlock says what a host may launch. The owner of the guest signs it, and the firmware
// of the processor launches nothing else with it: the launch measurement and the guest
// policy must be these. Reports show family, image and security version.
type IDBlock struct {
	Measurement [Size]byte
	FamilyID    [16]byte
	ImageID     [16]byte
	GuestSVN    uint32 // security version of the guest, from 0
	Policy      uint64 // guest policy, as in reports; bit 17 is always one
}

// Bytes returns the block as firmware reads it (ABI, section "SNP_LAUNCH_FINISH", table
// "Structure of the ID Block"), integers little-endian:
//
//	0x00 LD         48
//	0x30 FAMILY_ID  16
//	0x40 IMAGE_ID   16
//	0x50 VERSION     4  1
//	0x54 GUEST_SVN   4
//	0x58 POLICY      8
func (b *IDBlock) Bytes() []byte {
	out := make([]byte, 0, IDBlockSize)
	out = append(append(append(out, b.Measurement[:]...), b.FamilyID[:]...), b.ImageID[:]...)
	out = binary.LittleEndian.AppendUint32(out, idBlockVersion)
	out = binary.LittleEndian.AppendUint32(out, b.GuestSVN)
	return binary.LittleEndian.AppendUint64(out, b.Policy)
}

// ParseIDBlock parses a block of exactly [IDBlockSize] bytes. Its signatures are not
// checked, see [IDAuth.Verify].
func ParseIDBlock(raw []byte) (*IDBlock, error) {
	if len(raw) != IDBlockSize {
		return nil, fmt.Errorf("ID block of %d bytes, want %d", len(raw), IDBlockSize)
	}
	if v := binary.LittleEndian.Uint32(raw[0x50:]); v != idBlockVersion {
		return nil, fmt.Errorf("ID block of version %d, want %d", v, idBlockVersion)
	}
	b := &IDBlock{
		Measurement: [Size]byte(raw), FamilyID: [16]byte(raw[0x30:]), ImageID: [16]byte(raw[0x40:]),
		GuestSVN: binary.LittleEndian.Uint32(raw[0x54:]), Policy: binary.LittleEndian.Uint64(raw[0x58:]),
	}
	return b, b.check()
}

// check refuses a block with which firmware launches nothing.
func (b *IDBlock) check() error {
	switch {
	case b.Policy&mandatoryPolicy == 0:
		return fmt.Errorf("guest policy %#x: bit 17 must be one, or the firmware launches no guest", b.Policy)
	case b.Measurement == [Size]byte{}:
		return fmt.Errorf("an ID block over a launch measurement of zeros fits no guest")
	}
	return nil
}
