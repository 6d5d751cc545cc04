// SPDX-License-Identifier: Apache-2.0

package export

import (
	"encoding/binary"
	"fmt"

	"github.com/cvm-agentd/agentd/evidence"
	"github.com/cvm-agentd/agentd/pcr"
)

// The file that tpm2_quote of tpm2-tools writes with `--pcrs_format=serialized` is
// a dump of C structures of tpm2-tss (tss2_tpm2_types.h), integers little-endian
// and padding included:
//
//	TPML_PCR_SELECTION {
//		UINT32 count;
//		TPMS_PCR_SELECTION { UINT16 hash; UINT8 sizeofSelect; BYTE pcrSelect[4]; } [16];
//		// 8 bytes each, the last one padding
//	} // 132 bytes
//	UINT32 lists;
//	TPML_DIGEST {
//		UINT32 count;
//		TPM2B_DIGEST { UINT16 size; BYTE buffer[64]; } [8]; // 66 bytes each
//	} [lists];                                                  // 532 bytes each
const (
	maxSelections   = 16
	selectionSize   = 8
	digestsPerList  = 8
	digestSize      = 2 + 64
	selectionsBytes = 4 + maxSelections*selectionSize
	listBytes       = 4 + digestsPerList*digestSize
)

// SerializedPCRs returns the PCR values of a snapshot as tpm2_quote writes them and
// tpm2_checkquote reads them. The order of the banks is that of the quote.
func SerializedPCRs(s *evidence.Snapshot) ([]byte, error) {
	if len(s.PCRs) > maxSelections {
		return nil, fmt.Errorf("%d banks, at most %d fit the format", len(s.PCRs), maxSelections)
	}
	out := make([]byte, selectionsBytes, selectionsBytes+4+4*listBytes)
	binary.LittleEndian.PutUint32(out, uint32(len(s.PCRs)))
	var values [][]byte
	for i, bank := range s.PCRs {
		alg, err := pcr.ParseAlgorithm(bank.Algorithm)
		if err != nil {
			return nil, err
		}
		sel := out[4+i*selectionSize:]
		binary.LittleEndian.PutUint16(sel, uint16(alg))
		sel[2] = pcr.Count / 8
		for _, p := range bank.PCRs {
			if p.Index >= pcr.Count || len(p.Value) != alg.Size() {
				return nil, fmt.Errorf("PCR %d of bank %v: value of %d bytes", p.Index, alg, len(p.Value))
			}
			sel[3+p.Index/8] |= 1 << (p.Index % 8)
			values = append(values, p.Value)
		}
	}
	out = binary.LittleEndian.AppendUint32(out, uint32((len(values)+digestsPerList-1)/digestsPerList))
	for len(values) > 0 {
		n := min(len(values), digestsPerList)
		list := make([]byte, listBytes)
		binary.LittleEndian.PutUint32(list, uint32(n))
		for i, v := range values[:n] {
			d := list[4+i*digestSize:]
			binary.LittleEndian.PutUint16(d, uint16(len(v)))
			copy(d[2:], v)
		}
		out = append(out, list...)
		values = values[n:]
	}
	return out, nil
}
