// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Metadata of an image: what the host must prepare before the guest starts (EDK II,
// OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm). Integers are little-endian u32:
//
//	signature "ASEV", size of all, version 1, number of sections
//	section   address, size, type
const (
	metadataSignature = "ASEV"
	metadataVersion   = 1
	metadataHeader    = 16
	metadataSection   = 12
)

// sectionType is what a section is for.
type sectionType uint32

const (
	sectionMemory  sectionType = 1    // memory that the firmware uses first
	sectionSecrets sectionType = 2    // secrets page of the processor's firmware
	sectionCPUID   sectionType = 3    // CPUID page
	sectionCalling sectionType = 4    // calling area of an SVSM
	sectionHashes  sectionType = 0x10 // page for the hash table
)

// pages is how many pages a section of this type has; 0: any number.
var pages = map[sectionType]uint64{sectionMemory: 0, sectionCalling: 0, sectionSecrets: 1, sectionCPUID: 1, sectionHashes: 1}

// section is guest memory that an image asks the host to prepare.
type section struct {
	address, size uint64 // below 4 GiB, in whole pages
	kind          sectionType
}

// errNoMetadata is returned for an image without sections.
var errNoMetadata = errors.New("the table names no SNP metadata, so no host can launch this file as firmware of an SEV-SNP guest")

// parseSections reads the metadata that the table leads to.
func parseSections(image Source, f footer) ([]section, error) {
	back, found, err := f.number(guidMetadata)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, errNoMetadata
	}
	if int64(back) > image.Size() || back < metadataHeader {
		return nil, fmt.Errorf("the SNP metadata begin %d bytes before the end of an image of %d bytes", back, image.Size())
	}
	start := image.Size() - int64(back)
	header, err := read(image, start, metadataHeader)
	if err != nil {
		return nil, err
	}
	if string(header[:4]) != metadataSignature {
		return nil, fmt.Errorf("SNP metadata begin with %q, want %q", header[:4], metadataSignature)
	}
	size, version, count := binary.LittleEndian.Uint32(header[4:]), binary.LittleEndian.Uint32(header[8:]), binary.LittleEndian.Uint32(header[12:])
	switch {
	case version != metadataVersion:
		return nil, fmt.Errorf("SNP metadata of version %d, want %d", version, metadataVersion)
	case count == 0 || count > maxSections:
		return nil, fmt.Errorf("SNP metadata with %d sections, want 1 to %d", count, maxSections)
	case size < metadataHeader+count*metadataSection || size > back:
		return nil, fmt.Errorf("SNP metadata of %d bytes: %d sections need %d, and there are %d", size, count, metadataHeader+count*metadataSection, back)
	}
	raw, err := read(image, start+metadataHeader, int(count*metadataSection))
	if err != nil {
		return nil, err
	}
	var all []section
	for ; len(raw) > 0; raw = raw[metadataSection:] {
		all = append(all, section{
			uint64(binary.LittleEndian.Uint32(raw)), uint64(binary.LittleEndian.Uint32(raw[4:])),
			sectionType(binary.LittleEndian.Uint32(raw[8:])),
		})
	}
	return all, nil
}

// checkSections checks that a host can prepare each section, and that no two places are the
// same memory. used is the memory that images occupy.
func checkSections(all, used []section) error {
	total, once := uint64(0), map[sectionType]bool{}
	for i, s := range all {
		want, known := pages[s.kind]
		switch {
		case !known:
			return fmt.Errorf("section %d has the unknown type %#x", i, uint32(s.kind))
		case s.size == 0 || s.size%pageSize != 0 || s.address%pageSize != 0:
			return fmt.Errorf("section %d at %#x with %d bytes is not whole pages of %d bytes", i, s.address, s.size, pageSize)
		case want > 0 && s.size != want*pageSize:
			return fmt.Errorf("section %d of type %#x has %d bytes, want one page", i, uint32(s.kind), s.size)
		case want > 0 && once[s.kind]:
			return fmt.Errorf("section %d is the second of type %#x", i, uint32(s.kind))
		case s.address+s.size > fourGiB:
			return fmt.Errorf("section %d at %#x with %d bytes reaches beyond 4 GiB", i, s.address, s.size)
		}
		once[s.kind] = true
		if total += s.size; total > maxSectionSize {
			return fmt.Errorf("sections of more than %d bytes in all", maxSectionSize)
		}
		for _, other := range append(all[:i:i], used...) {
			if s.address < other.address+other.size && other.address < s.address+s.size {
				return fmt.Errorf("section %d at %#x with %d bytes overlaps memory at %#x with %d bytes", i, s.address, s.size, other.address, other.size)
			}
		}
	}
	return nil
}

// find returns the section of a type, nil if there is none.
func find(all []section, kind sectionType) *section {
	for i := range all {
		if all[i].kind == kind {
			return &all[i]
		}
	}
	return nil
}
