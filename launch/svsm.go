// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"errors"
	"fmt"
)

// svsmPage returns the registers of a processor that starts an SVSM: in protected mode with
// flat segments (COCONUT's QEMU, target/i386/sev.c). The layout, with a zero control word of
// the x87, is the one of the published tool sev-snp-measure (sevsnpmeasure/vmsa.py,
// VMSA_SVSM), whose own value for that word does not reach the page.
func svsmPage(start uint32, cpu Signature, features uint64) *vmsa {
	v := new(vmsa)
	v.common(features)
	for _, at := range []int{offES, offSS, offDS, offFS} {
		v.put(at, segment{selector: 16, attributes: 0xC93, limit: 0xFFFFFFFF})
	}
	v.put(offCS, segment{selector: 8, attributes: 0xC9B, limit: 0xFFFFFFFF})
	v.put(offGS, segment{attributes: 0x93, limit: 0xFFFF})
	v.put(offTR, segment{attributes: 0x8B, limit: 0xFFFF})
	v.put64(offCR0, resetCR0|1) // PE
	v.put64(offRIP, uint64(start))
	v.put64(offPAT, resetPAT)
	v.put64(offRDX, uint64(cpu))
	v.put32(offMXCSR, resetMXCSR)
	return v
}

// svsm is an SVSM below the firmware and its variables.
type svsm struct {
	address  uint64
	start    uint32 // where all processors start
	sections []section
}

// parseSVSM reads the image of an SVSM that ends at an address.
func parseSVSM(image Source, end uint64) (*svsm, error) {
	if err := checkImage(image, MaxSVSM); err != nil {
		return nil, err
	}
	s := &svsm{address: end - uint64(image.Size())}
	table, err := parseFooter(image)
	if err != nil {
		return nil, err
	}
	offset, found, err := table.number(guidSVSM)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, errors.New("the table has no offset of its start: the file is not an SVSM")
	case int64(offset) >= image.Size():
		return nil, fmt.Errorf("it starts at offset %#x of %d bytes", offset, image.Size())
	}
	s.start = uint32(s.address) + offset
	s.sections, err = parseSections(image, table)
	return s, err
}
