// SPDX-License-Identifier: Apache-2.0

package soft

import (
	"encoding/binary"

	"github.com/cvm-agentd/agentd/verify/snp"
)

// encodeTable returns the certificate table of a host (see [snp.ParseTable]): headers,
// one of zeros, then the certificates one after the other.
func encodeTable(entries []snp.TableEntry) []byte {
	const entrySize = 24
	b := make([]byte, entrySize*(len(entries)+1))
	for i, e := range entries {
		h := b[entrySize*i:]
		copy(h, e.GUID[:])
		binary.LittleEndian.PutUint32(h[16:], uint32(len(b)))
		binary.LittleEndian.PutUint32(h[20:], uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	return b
}

// garbageTable returns what begins like a table and points out of itself.
func garbageTable() []byte {
	b := encodeTable([]snp.TableEntry{{GUID: snp.GUIDVCEK, Data: []byte{0x30, 0x82, 0xFF, 0xFF}}})
	binary.LittleEndian.PutUint32(b[20:], 0xFFFFFFF0)
	return b
}
