// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"encoding/binary"
	"fmt"
)

// A firmware image ends with 32 bytes of code, the reset vector. Before them is a table that is read
// backwards (EDK II, OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm; QEMU,
// hw/i386/pc_sysfw_ovmf.c). Integers are little-endian:
//
//	entry     data, length u16 of data and the next 18 bytes, GUID 16
//	entry     ...
//	footer    length u16 of the whole table, GUID 16 of the table
//	end       32 bytes
var (
	guidTable     = mustGUID("96b582de-1fb2-45f7-baea-a366c55a082d") // the footer
	guidReset     = mustGUID("00f771de-1a7e-4fcb-890e-68c77e2fb44e") // where application processors start: address u32
	guidHashTable = mustGUID("7255371f-3a3b-4b04-927b-1da6efa8d454") // hash table: address u32, size u32
	guidMetadata  = mustGUID("dc886566-984a-4798-a75e-5585a7bf67cc") // sections: offset u32 from the end of the image
	guidSVSM      = mustGUID("a789a612-0597-4c4b-a49f-cbb1fe9d1ddd") // of an SVSM: offset u32 of its start
)

const (
	afterTable  = 32     // bytes between the table and the end
	entryHeader = 2 + 16 // length and GUID
)

// footer is the table of an image: the data of each entry.
type footer map[guid][]byte

// parseFooter reads the table of an image, which has at least a page. An entry that occurs twice is refused: programs that read it
// do not agree on which one counts.
func parseFooter(image Source) (footer, error) {
	end := image.Size() - afterTable
	last, err := read(image, end-entryHeader, entryHeader)
	if err != nil {
		return nil, err
	}
	if id := guid(last[2:]); id != guidTable {
		return nil, fmt.Errorf("no table of GUIDs at %d bytes before the end: the file is truncated, or is not firmware for SEV-SNP", afterTable+entryHeader)
	}
	size := int64(binary.LittleEndian.Uint16(last))
	if size < entryHeader || size > end {
		return nil, fmt.Errorf("the table of GUIDs claims %d bytes, of %d that there are: the file is truncated or damaged", size, end)
	}
	rest, err := read(image, end-size, int(size-entryHeader))
	if err != nil {
		return nil, err
	}
	f := footer{}
	for len(rest) > 0 {
		if len(rest) < entryHeader {
			return nil, fmt.Errorf("the table of GUIDs begins with %d bytes that are not an entry", len(rest))
		}
		at := len(rest) - entryHeader
		id, n := guid(rest[at+2:]), int(binary.LittleEndian.Uint16(rest[at:]))
		if n < entryHeader || n > len(rest) {
			return nil, fmt.Errorf("entry %s of the table claims %d bytes, want %d to %d", id, n, entryHeader, len(rest))
		}
		if _, twice := f[id]; twice {
			return nil, fmt.Errorf("entry %s occurs twice in the table", id)
		}
		f[id], rest = rest[len(rest)-n:at], rest[:len(rest)-n]
	}
	return f, nil
}

// number returns the only number of an entry, and whether the entry exists.
func (f footer) number(id guid) (n uint32, found bool, err error) {
	data, found := f[id]
	if !found {
		return 0, false, nil
	}
	if len(data) != 4 {
		return 0, true, fmt.Errorf("entry %s of the table has %d bytes of data, want 4", id, len(data))
	}
	return binary.LittleEndian.Uint32(data), true, nil
}

// hashArea is where an image expects the hash table. The zero value means nowhere.
type hashArea struct{ address, size uint32 }

// hashArea returns the place of the hash table. An address of zero means none: the image
// was built without a place (EDK II, OvmfPkg/OvmfPkg.dec, PcdQemuHashTableBase).
func (f footer) hashArea() (hashArea, error) {
	data, found := f[guidHashTable]
	if !found {
		return hashArea{}, nil
	}
	if len(data) != 8 {
		return hashArea{}, fmt.Errorf("entry %s of the table has %d bytes of data, want 8", guidHashTable, len(data))
	}
	a := hashArea{binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:])}
	if a.address == 0 {
		return hashArea{}, nil
	}
	return a, nil
}
