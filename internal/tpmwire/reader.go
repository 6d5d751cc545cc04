// SPDX-License-Identifier: Apache-2.0

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
	if r.err != nil {
		return make([]byte, min(n, 8)) // a zero for the integers, which the error keeps from use
	}
	if n > len(r.b) {
		r.err = fmt.Errorf("%s: %d bytes wanted, %d left", what, n, len(r.b))
		return make([]byte, min(n, 8))
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
