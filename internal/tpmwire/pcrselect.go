// SPDX-License-Identifier: Apache-2.0

package tpmwire

import "fmt"

// PCRCount is the number of PCRs in a bank of a PC Client TPM, 0 to 23 (TCG PC Client
// Platform TPM Profile, section 4.6).
const PCRCount = 24

// PCRs lists the PCRs that a TPMS_PCR_SELECT bitmap selects, ascending. PCR 0 is the lowest
// bit of the first byte (TPM 2.0 Part 2, section 10.6.1). A PCR after the last is an error.
func PCRs(bitmap []byte) ([]uint32, error) {
	var pcrs []uint32
	for i := range uint32(len(bitmap) * 8) {
		if bitmap[i/8]>>(i%8)&1 == 0 {
			continue
		}
		if i >= PCRCount {
			return nil, fmt.Errorf("selects PCR %d, the last is %d", i, PCRCount-1)
		}
		pcrs = append(pcrs, i)
	}
	return pcrs, nil
}
