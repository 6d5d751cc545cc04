// SPDX-License-Identifier: Apache-2.0

// Package launchtest makes small images of firmware and of an SVSM, for tests. A test can
// change everything that an image says of itself before it is written.
package launchtest

import (
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// GUIDs of entries of the table, as text.
const (
	GUIDTable     = "96b582de-1fb2-45f7-baea-a366c55a082d"
	GUIDReset     = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
	GUIDHashTable = "7255371f-3a3b-4b04-927b-1da6efa8d454"
	GUIDMetadata  = "dc886566-984a-4798-a75e-5585a7bf67cc"
	GUIDSVSM      = "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"
	GUIDOther     = "00112233-4455-6677-8899-aabbccddeeff"
)

// Entry is an entry of the table of GUIDs.
type Entry struct {
	GUID string
	Data []byte
}

// Image is an image that is not written yet.
type Image struct {
	Size     int
	Entries  []Entry
	GUID     string      // of the table
	Claimed  int         // added to the length of the table
	Back     int         // place of the metadata, from the end
	Magic    string      // of the metadata
	Version  uint32      // of the metadata
	Count    int         // of sections, if not -1
	Length   int         // of the metadata, if not -1
	Sections [][3]uint32 // address, size, type
}

// OVMF returns an image like OVMF's for direct boot: four pages, and a section of each type.
func OVMF() *Image {
	return &Image{
		Size: 0x4000, GUID: GUIDTable, Back: 0x800, Magic: "ASEV", Version: 1, Count: -1, Length: -1,
		Entries: []Entry{
			{GUIDOther, []byte("another entry")},
			{GUIDMetadata, Words(0x800)},
			{GUIDHashTable, Words(0x810C00, 0x400)},
			{GUIDReset, Words(0x0080B004)},
		},
		Sections: [][3]uint32{{0x800000, 0x9000, 1}, {0x80E000, 0x1000, 3}, {0x80D000, 0x1000, 2}, {0x80F000, 0x1000, 4}, {0x810000, 0x1000, 0x10}, {0x811000, 0x2000, 1}},
	}
}

// Coconut returns an image like that of an SVSM: two pages.
func Coconut() *Image {
	i := OVMF()
	i.Size = 0x2000
	i.Entries = []Entry{{GUIDMetadata, Words(0x800)}, {GUIDSVSM, Words(0x1010)}}
	i.Sections = [][3]uint32{{0, 0xA0000, 1}, {0x806000, 0x1000, 2}, {0x807000, 0x1000, 3}, {0x808000, 0x2000, 4}}
	return i
}

// Words returns numbers in little-endian order.
func Words(all ...uint32) (b []byte) {
	for _, w := range all {
		b = binary.LittleEndian.AppendUint32(b, w)
	}
	return b
}

// wire returns a GUID as it stands in memory.
func wire(text string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		panic(text)
	}
	slices.Reverse(b[0:4])
	slices.Reverse(b[4:6])
	slices.Reverse(b[6:8])
	return b
}

// Set replaces the data of an entry; nil removes it.
func (i *Image) Set(guid string, data []byte) {
	i.Entries = slices.DeleteFunc(i.Entries, func(e Entry) bool { return e.GUID == guid })
	if data != nil {
		i.Entries = append(i.Entries, Entry{guid, data})
	}
}

// Bytes writes the image.
func (i *Image) Bytes() []byte {
	b := make([]byte, i.Size)
	for at := range b {
		b[at] = byte(at*7 + at>>8)
	}
	var table []byte
	for _, e := range i.Entries {
		table = append(table, e.Data...)
		table = binary.LittleEndian.AppendUint16(table, uint16(len(e.Data)+18))
		table = append(table, wire(e.GUID)...)
	}
	table = binary.LittleEndian.AppendUint16(table, uint16(len(table)+18+i.Claimed))
	table = append(table, wire(i.GUID)...)
	copy(b[len(b)-32-len(table):], table)
	count, length := len(i.Sections), 16+12*len(i.Sections)
	if i.Count >= 0 {
		count = i.Count
	}
	if i.Length >= 0 {
		length = i.Length
	}
	metadata := append([]byte(i.Magic), Words(uint32(length), i.Version, uint32(count))...)
	for _, s := range i.Sections {
		metadata = append(metadata, Words(s[:]...)...)
	}
	copy(b[len(b)-i.Back:], metadata)
	return b
}
