// SPDX-License-Identifier: Apache-2.0

// Package tpmwire reads the structures of TPM 2.0 Part 2 that more than one package reads,
// and has the reader of their fields.
package tpmwire

import (
	"encoding/binary"
	"fmt"
)

// A Reader takes fields off the front of Rest. The first field that is too short sets Err.
type Reader struct {
	Order binary.ByteOrder // of the integers
	Rest  []byte
	Err   error
}

func newReader(b []byte) *Reader { return &Reader{Order: binary.BigEndian, Rest: b} }

// Take takes n bytes. What names the field in an error.
func (r *Reader) Take(n uint64, what string) []byte {
	if r.Err == nil && n > uint64(len(r.Rest)) {
		r.Err = fmt.Errorf("%s: %d bytes wanted, %d left", what, n, len(r.Rest))
	}
	if r.Err != nil {
		return make([]byte, min(n, 8)) // a zero for the integers, which the error keeps from use
	}
	out := r.Rest[:n:n]
	r.Rest = r.Rest[n:]
	return out
}

// U8 takes an integer of 8 bits.
func (r *Reader) U8(what string) uint8 { return r.Take(1, what)[0] }

// U16 takes an integer of 16 bits.
func (r *Reader) U16(what string) uint16 { return r.Order.Uint16(r.Take(2, what)) }

// U32 takes an integer of 32 bits.
func (r *Reader) U32(what string) uint32 { return r.Order.Uint32(r.Take(4, what)) }

// U64 takes an integer of 64 bits.
func (r *Reader) U64(what string) uint64 { return r.Order.Uint64(r.Take(8, what)) }

// sized takes a TPM2B: a length in two bytes, then that many bytes.
func (r *Reader) sized(what string) []byte { return r.Take(uint64(r.U16(what)), what) }

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
