// SPDX-License-Identifier: Apache-2.0

package launch

import "encoding/binary"

// Offsets in the VMSA (APM, appendix B, table "VMSA Layout, State Save Area for SEV-ES").
const (
	offES    = 0x000
	offCS    = 0x010
	offSS    = 0x020
	offDS    = 0x030
	offFS    = 0x040
	offGS    = 0x050
	offGDTR  = 0x060
	offLDTR  = 0x070
	offIDTR  = 0x080
	offTR    = 0x090
	offEFER  = 0x0D0
	offCR4   = 0x148
	offCR0   = 0x158
	offDR7   = 0x160
	offDR6   = 0x168
	offFlags = 0x170
	offRIP   = 0x178
	offPAT   = 0x268
	offRDX   = 0x310
	offSEV   = 0x3B0 // SEV_FEATURES
	offXCR0  = 0x3E8
	offMXCSR = 0x408
	offFCW   = 0x410
)

// Values of registers after a reset (APM, section "Processor Initialization State", table
// "Initial Processor State"), and what KVM adds to them.
const (
	resetEFER  = 0x1000     // SVME, which KVM sets (Linux, arch/x86/kvm/svm/svm.c, svm_set_efer)
	resetCR4   = 0x40       // MCE, which KVM sets (Linux, arch/x86/kvm/svm/svm.c, svm_set_cr4)
	resetCR0   = 0x10       // ET
	resetDR7   = 0x400      // bit 10 is always one
	resetDR6   = 0xFFFF0FF0 // bits that are always one
	resetFlags = 0x2        // bit 1 is always one
	resetXCR0  = 0x1        // x87
	resetPAT   = 0x0007040600070406
	resetMXCSR = 0x1F80
	resetFCW   = 0x37F
)

// resetVector is where the first processor starts (APM, section "Processor Initialization
// State").
const resetVector = 0xFFFFFFF0

// segment is a segment register of a VMSA.
type segment struct {
	selector, attributes uint16
	limit                uint32
	base                 uint64
}

// vmsa is the page with the registers of a processor.
type vmsa [pageSize]byte

func (v *vmsa) put16(at int, x uint16) { binary.LittleEndian.PutUint16(v[at:], x) }
func (v *vmsa) put32(at int, x uint32) { binary.LittleEndian.PutUint32(v[at:], x) }
func (v *vmsa) put64(at int, x uint64) { binary.LittleEndian.PutUint64(v[at:], x) }

// put writes a segment register (APM, appendix B: selector, attributes, limit, base).
func (v *vmsa) put(at int, s segment) {
	v.put16(at, s.selector)
	v.put16(at+2, s.attributes)
	v.put32(at+4, s.limit)
	v.put64(at+8, s.base)
}

// common writes what all processors start with.
func (v *vmsa) common(features uint64) {
	for _, at := range []int{offGDTR, offIDTR} {
		v.put(at, segment{limit: 0xFFFF})
	}
	v.put(offLDTR, segment{attributes: 0x82, limit: 0xFFFF})
	v.put64(offEFER, resetEFER)
	v.put64(offCR4, resetCR4)
	v.put64(offCR0, resetCR0)
	v.put64(offDR7, resetDR7)
	v.put64(offDR6, resetDR6)
	v.put64(offFlags, resetFlags)
	v.put64(offSEV, features)
	v.put64(offXCR0, resetXCR0)
}

// resetPage returns the registers of a processor that starts in real mode, at an address
// in the segment of which only the low half is an offset.
func resetPage(h *host, start uint32, cpu Signature, features uint64) *vmsa {
	v := new(vmsa)
	v.common(features)
	for _, at := range []int{offES, offDS, offFS, offGS} {
		v.put(at, segment{attributes: 0x93, limit: 0xFFFF})
	}
	code := h.code
	if start == resetVector {
		code = h.firstCode
	}
	v.put(offCS, segment{selector: 0xF000, attributes: code, limit: 0xFFFF, base: uint64(start & 0xFFFF0000)})
	v.put(offSS, segment{attributes: h.stack, limit: 0xFFFF})
	v.put(offTR, segment{attributes: h.task, limit: 0xFFFF})
	v.put64(offRIP, uint64(start&0xFFFF))
	v.put64(offPAT, h.pat)
	v.put64(offRDX, uint64(cpu))
	if h.edx != 0 {
		v.put64(offRDX, h.edx)
	}
	v.put32(offMXCSR, h.mxcsr)
	v.put16(offFCW, h.fcw)
	return v
}
