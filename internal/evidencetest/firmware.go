// SPDX-License-Identifier: Apache-2.0

package evidencetest

import (
	"bytes"
	"encoding/binary"

	"github.com/cvm-agentd/agentd/pcr"
)

// FirmwareEvent is an event of the firmware's log, in bank SHA-256.
type FirmwareEvent struct {
	PCR    uint32
	Digest []byte // 32 bytes
}

// FirmwareLog returns a log of these events, in the crypto-agile format of the TCG.
func FirmwareLog(events ...FirmwareEvent) []byte {
	le := binary.LittleEndian
	spec := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2, 1, 0, 0, 0, 0x0b, 0, 32, 0, 0)
	b := le.AppendUint32(nil, 0)
	b = le.AppendUint32(b, 3)
	b = append(b, make([]byte, 20)...)
	b = le.AppendUint32(b, uint32(len(spec)))
	b = append(b, spec...)
	for _, e := range events {
		b = le.AppendUint32(b, e.PCR)
		b = le.AppendUint32(b, 4)
		b = le.AppendUint32(b, 1)
		b = le.AppendUint16(b, 0x0b)
		b = append(b, e.Digest...)
		b = le.AppendUint32(b, 4)
		b = append(b, 0, 0, 0, 0)
	}
	return b
}

// Firmware returns the events whose values [Recipe.Booted] quotes.
var Firmware = []FirmwareEvent{{0, bytes.Repeat([]byte{0x20}, 32)}, {4, bytes.Repeat([]byte{0x24}, 32)}}

// Booted sets the firmware's log of r, and the PCRs that it leads to.
func (r *Recipe) Booted() {
	r.FirmwareLog = FirmwareLog(Firmware...)
	for _, e := range Firmware {
		r.PCRs.Set(pcr.SHA256, e.PCR, pcr.SHA256.Sum(make([]byte, 32), e.Digest))
	}
}
