// SPDX-License-Identifier: Apache-2.0

// Package tpmwire reads the structures of TPM 2.0 Part 2 that more than one package reads.
package tpmwire

import (
	"encoding/binary"
	"fmt"
)

// reader takes fields off the front of b. The first field that is too short sets err.
type reader struct {
	b   []byte
	err error
}

func (r *reader) take(n int, what string) []byte {
	if r.err == nil && n > len(r.b) {
		r.err = fmt.Errorf("%s: %d bytes wanted, %d left", what, n, len(r.b))
	}
	if r.err != nil {
		return make([]byte, min(n, 8)) // a zero for the integers, which the error keeps from use
	}
	out := r.b[:n:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) u8(what string) uint8   { return r.take(1, what)[0] }
func (r *reader) u16(what string) uint16 { return binary.BigEndian.Uint16(r.take(2, what)) }
func (r *reader) u32(what string) uint32 { return binary.BigEndian.Uint32(r.take(4, what)) }
func (r *reader) u64(what string) uint64 { return binary.BigEndian.Uint64(r.take(8, what)) }

// sized takes a TPM2B: a length in two bytes, then that many bytes.
func (r *reader) sized(what string) []byte { return r.take(int(r.u16(what)), what) }

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
